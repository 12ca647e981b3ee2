"""Publishing: what is written, which card is edited, and what is refused before anything is written."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from synthetic_results import random_result

from orca_bench.report.model_card import split_card


def result(tmp_path, name="r.json", **heading):
    return random_result(tmp_path, "m", 0.25, file=name, **({"fingerprint": "f"} | heading)).path


def test_publish_writes_tables_and_a_card_and_says_the_protocol(command, tmp_path):
    result(tmp_path)
    result(tmp_path, "orca.json", protocol="orca", limit=100)
    process = command("publish", "r.json", "orca.json", "--source-url", "https://example.org/m")
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "results" / "m"
    assert {path.name for path in folder.iterdir()} == {
        *("r.json", "r.questions.jsonl", "orca.json", "orca.questions.jsonl"),
        *(
            "table.md",
            "table.csv",
            "table.tex",
            "table.html",
            "README.md",
            "index.html",
            *(
                f"{picture}-{protocol}.{suffix}"
                for picture in ("scores", "mmlu")
                for protocol in ("leaderboard", "orca")
                for suffix in ("png", "svg")
            ),
        ),
    }
    metadata, _ = split_card((folder / "README.md").read_text(), folder)
    names = [entry["dataset"]["name"] for entry in metadata["model-index"][0]["results"]]
    assert "MMLU (5-Shot)" in names and "MMLU (5-Shot), protocol orca v1, first 100 questions" in names
    assert metadata["model-index"][0]["results"][0]["source"] == {"name": "orca-bench", "url": "https://example.org/m"}
    assert r"\begin{tabular}" in (folder / "table.tex").read_text()


def test_the_mini_suite_stays_off_the_card(command, tmp_path):
    result(tmp_path, comparable=False)
    process = command("publish", "r.json")
    assert process.returncode == 0 and "do not belong on a model card" in process.stderr
    assert not (tmp_path / "results" / "m" / "README.md").exists()


def test_what_cannot_be_published_is_refused_before_anything_is_written(command, tmp_path):
    result(tmp_path)
    result(tmp_path, "b.json", fingerprint="g")
    assert "models with other weights" in command.refused("publish", "r.json", "b.json")
    for name, tokenizer in (("c.json", "one"), ("d.json", "another")):
        result(tmp_path, name, fingerprint=None, identity={"tokenizer": tokenizer, "server": name})
    assert "models with other tokenizer" in command.refused("publish", "c.json", "d.json")
    (tmp_path / "other").mkdir()
    result(tmp_path / "other")
    assert "has the same file name" in command.refused("publish", "r.json", "other/r.json")
    (tmp_path / "card.md").write_text("---\na: [\n---\n")
    assert "card.md:" in command.refused("publish", "r.json", "--card", "card.md")
    assert not (tmp_path / "results").exists()
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | {"HF_TOKEN": ""}
    process = command("publish", "r.json", "--push", "me/m", env=environment)
    assert process.returncode == 2 and "set HF_TOKEN" in process.stderr


def run_with_a_model(tmp_path):
    """A run whose model folder has a card, and a result of it where its results lie."""
    run = tmp_path / "runs" / "r"
    (run / "model").mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    (run / "model" / "README.md").write_text("# Mine\n")
    (run / "results").mkdir()
    result(run / "results", path="runs/r/model")
    return run


def test_the_card_of_a_runs_own_model_is_edited(command, tmp_path):
    run = run_with_a_model(tmp_path)
    process = command("publish", "runs/r/results/r.json")
    assert process.returncode == 0, process.stderr
    text = (run / "model" / "README.md").read_text()
    assert text.endswith("# Mine\n") and "model-index" in text
    assert not (tmp_path / "results" / "m" / "README.md").exists()


def test_no_other_card_is_edited_whatever_a_result_says(command, tmp_path):
    """Results are exchanged: the folder that one names as its model's may be anybody's."""
    run = run_with_a_model(tmp_path)
    other = tmp_path / "project"
    other.mkdir()
    (other / "README.md").write_text("# A project\n")
    (run / "results" / "deeper").mkdir()
    for path, file in (
        ("project", "r.json"),
        (str(other), "runs/r/results/named.json"),
        ("runs/r/model/../../../project", "runs/r/results/dots.json"),
        ("runs/r/model", "elsewhere.json"),  # a result from somewhere else, of a folder that is here by chance
    ):
        result((tmp_path / file).parent, (tmp_path / file).name, path=path)
        process = command("publish", file)
        assert process.returncode == 0 and "is the card; --card names another" in process.stderr, process.stderr
        assert (other / "README.md").read_text() == "# A project\n"
        assert (run / "model" / "README.md").read_text() == "# Mine\n"
    (run / "model" / "README.md").unlink()
    (run / "model" / "README.md").symlink_to(other / "README.md")
    assert command("publish", "runs/r/results/r.json").returncode == 0
    assert (other / "README.md").read_text() == "# A project\n"
    (tmp_path / "results" / "m" / "README.md").unlink()
    (tmp_path / "results" / "m" / "README.md").symlink_to(other / "README.md")
    assert "a link to a card elsewhere" in command.refused("publish", "r.json")
    assert command("publish", "r.json", "--card", "project/README.md").returncode == 0
    assert (other / "README.md").read_text().endswith("# A project\n")


def test_a_result_that_was_changed_by_hand_is_not_published(command, tmp_path):
    path = result(tmp_path)
    path.write_text(path.read_text().replace('"value": 0.', '"value": 0.9', 1))
    assert "changed after it was written" in command.refused("publish", "r.json")


class Hub(BaseHTTPRequestHandler):
    """The addresses of the hub's API that a commit of a card goes through; records each request."""

    requests: ClassVar[list] = []
    refuses = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.requests.append((self.path, self.headers["Authorization"], body))
        if self.refuses:
            return self._reply(403, {"error": "You have no right to write here"})
        if self.path == "/api/validate-yaml":
            return self._reply(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._reply(200, {"files": files})
        return self._reply(
            200, {"commitUrl": "https://huggingface.co/me/m/commit/0", "commitOid": "0", "pullRequestUrl": None}
        )

    def _reply(self, code, content):
        sent = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(Hub, "requests", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret"}
    server.shutdown()
    server.server_close()


def test_push_uploads_the_card_with_the_token_of_the_environment_and_only_when_asked(command, tmp_path, hub):
    result(tmp_path)
    assert command("publish", "r.json", env=hub).returncode == 0 and not Hub.requests
    process = command("publish", "r.json", "--push", "me/m", env=hub)
    assert process.returncode == 0, process.stderr
    assert [(path, token) for path, token, _ in Hub.requests] == [
        ("/api/validate-yaml", "Bearer hf_secret"),
        ("/api/models/me/m/preupload/main", "Bearer hf_secret"),
        ("/api/models/me/m/commit/main", "Bearer hf_secret"),
    ]
    lines = [json.loads(line) for line in Hub.requests[-1][2].splitlines()]
    (file,) = [line["value"] for line in lines if line["key"] == "file"]
    assert file["path"] == "README.md"
    assert base64.b64decode(file["content"]) == (tmp_path / "results" / "m" / "README.md").read_bytes()
    assert process.stdout.splitlines()[-1] == "https://huggingface.co/me/m/commit/0"
    assert "hf_secret" not in process.stdout + process.stderr


def test_a_push_that_the_hub_refuses_is_said_in_one_line(command, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(Hub, "refuses", True)
    result(tmp_path)
    process = command("publish", "r.json", "--push", "me/m", env=hub)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert "me/m: the hub did not take the card" in process.stderr and "hf_secret" not in process.stderr
    assert (tmp_path / "results" / "m" / "README.md").is_file()
