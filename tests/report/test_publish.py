"""Publishing: the card of the seed from its scores, cards that keep their text, and what does not belong on one."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from made_results import drawn

from orca_bench import yaml_files
from orca_bench.errors import UserError
from orca_bench.report import model_card, table

SEED = Path(__file__).resolve().parents[3] / "shared" / "seeds"


@pytest.fixture(scope="module")
def seed():
    """The original model card's text."""
    files = sorted(SEED.glob("*.txt")) if SEED.is_dir() else []
    if not files:
        pytest.skip("the original model card is not on this machine")
    return files[0].read_text(encoding="utf-8")


def test_the_seeds_card_comes_out_of_its_scores(seed):
    front, body = model_card.split(seed, Path("seed"))
    reported = table.read_reported()
    url = "https://huggingface.co/spaces/HuggingFaceH4/open_llm_leaderboard?query=psmathur/orca_mini_13b"
    scores = {task: value for task, value in reported["tasks"].items() if task != "drop"}
    made = model_card.eval_results(scores, model_card.Source("Open LLM Leaderboard", url))
    bare = {key: value for key, value in front.items() if key != "model-index"}
    rest = f"---\n{yaml_files.dump(bare)}---\n{body}"
    again_front, again_body = model_card.split(
        model_card.update(rest, "orca_mini_13b", made, Path("card")), Path("card")
    )
    assert again_front == front and again_body == body
    # Put upon the card that has them, nothing changes.
    assert model_card.split(model_card.update(seed, "orca_mini_13b", made, Path("card")), Path("card")) == (front, body)


def test_the_hubs_own_classes_read_the_card():
    from huggingface_hub import ModelCard

    made = model_card.update(None, "m", model_card.eval_results({"gsm8k": 12.5, "drop": 3.0}, None), Path("card"))
    read = ModelCard(made).data.eval_results
    assert [(r.dataset_type, r.metric_type, r.metric_value, r.dataset_args) for r in read] == [
        ("gsm8k", "acc", 12.5, {"num_few_shot": 5}),
        ("drop", "f1", 3.0, {"num_few_shot": 3}),
    ]


CARD = """---
license: mit
tags:
- ünï
model-index:
- name: other
  results: []
---

# My own words

--- not front matter
"""


def test_an_existing_card_keeps_comments_quotes_and_norwegian():
    text = "---\n# why this licence\nlicense: 'mit'  # as the data\nlanguage:\n- no\nversion: 1.10\ndate: 2024-01-02\n---\nbody\n"
    after = model_card.update(text, "m", model_card.eval_results({"mmlu": 30.0}, None), Path("card"))
    assert after.startswith(text.split("---\nbody")[0]) and after.endswith("---\nbody\n")


def test_an_existing_card_keeps_its_text_its_metadata_and_other_models():
    once = model_card.update(CARD, "m", model_card.eval_results({"mmlu": 30.0}, None), Path("card"))
    twice = model_card.update(once, "m", model_card.eval_results({"mmlu": 31.0, "gsm8k": 1.0}, None), Path("card"))
    front, body = model_card.split(twice, Path("card"))
    assert body == "\n# My own words\n\n--- not front matter\n"
    assert front["license"] == "mit" and front["tags"] == ["ünï"]
    assert [entry["name"] for entry in front["model-index"]] == ["other", "m"]
    values = [result["metrics"][0]["value"] for result in front["model-index"][1]["results"]]
    assert values == [31.0, 1.0]


@pytest.mark.parametrize("text", ["# Only text\n", "", "---\n---\nx\n"])
def test_a_card_without_metadata_gets_some_and_keeps_its_text(text):
    front, body = model_card.split(
        model_card.update(text, "m", model_card.eval_results({"mmlu": 30.0}, None), Path("card")), Path("card")
    )
    assert front["model-index"][0]["name"] == "m" and body == text.removeprefix("---\n---\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\na: [\n---\n", "not YAML"),
        ("---\n- a\n---\n", "not a mapping"),
        ("---\na: 1\n", "no end"),
        ("---\nmodel-index: 3\n---\n", "not a list of models"),
        ("---\nmodel-index:\n- name: m\n  results: [x]\n---\n", "not a list of models"),
    ],
)
def test_broken_metadata_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        model_card.update(text, "m", model_card.eval_results({"mmlu": 30.0}, None), Path("card"))


def result(tmp_path, name="r.json", **heading):
    return drawn(tmp_path, "m", 0.25, file=name, **({"fingerprint": "f"} | heading)).path


def test_publish_writes_tables_and_a_card_and_says_the_protocol(command, tmp_path):
    result(tmp_path)
    result(tmp_path, "orca.json", protocol="orca", limit=100)
    done = command("publish", "r.json", "orca.json", "--source-url", "https://example.org/m")
    assert done.returncode == 0, done.stderr
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
            "scores.png",
            "scores.svg",
            "mmlu.png",
            "mmlu.svg",
        ),
    }
    front, _ = model_card.split((folder / "README.md").read_text(), folder)
    names = [entry["dataset"]["name"] for entry in front["model-index"][0]["results"]]
    assert "MMLU (5-Shot)" in names and "MMLU (5-Shot), protocol orca v1, first 100 questions" in names
    assert front["model-index"][0]["results"][0]["source"] == {"name": "orca-bench", "url": "https://example.org/m"}
    assert r"\begin{tabular}" in (folder / "table.tex").read_text()


def test_the_mini_suite_stays_off_the_card(command, tmp_path):
    result(tmp_path, comparable=False)
    done = command("publish", "r.json")
    assert done.returncode == 0 and "do not belong on a model card" in done.stderr
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
    done = command("publish", "r.json", "--push", "me/m", env=environment)
    assert done.returncode == 2 and "set HF_TOKEN" in done.stderr


def names_on(card_file):
    front, _ = model_card.split(card_file.read_text(), card_file)
    return [entry["dataset"]["name"] for entry in front["model-index"][0]["results"]]


def test_each_number_on_the_card_says_what_makes_it_another_than_the_leaderboards(tmp_path):
    plain = drawn(tmp_path, "m", 0.5, tasks=["gsm8k"]).data.file_content
    entry = plain["tasks"]["gsm8k"]
    for change, said in (
        ({}, None),
        ({"limit": 10}, "first 10 questions"),
        ({"row_check": {"test": "other", "train": "true"}, "rows": 10}, "other rows (10)"),
        ({"row_check": {"test": "not verified", "train": "true"}}, "rows not verified"),
        ({"row_check": {"test": "true", "train": "other"}}, "other few-shot examples"),
        ({"protocol": {"name": "orca", "version": 2, "system": "x"}}, "protocol orca v2, a system message of its own"),
        ({"protocol": {"name": "orca", "version": 2}, "shortened": 7}, "protocol orca v2, 7 contexts cut"),
        ({"protocol": {"name": "leaderboard", "version": 1, "max_length": 512}}, "window 512"),
    ):
        heading = {key: value for key, value in change.items() if key in plain}
        own = entry | {key: value for key, value in change.items() if key not in plain}
        _, notes = model_card.scores_of({**plain, **heading, "tasks": {"gsm8k": own}})
        assert notes == ({} if said is None else {"gsm8k": said})
    older = {**plain, "tasks": {"gsm8k": {key: value for key, value in entry.items() if key != "row_check"}}}
    assert model_card.scores_of(older)[1] == {"gsm8k": "rows not verified"}
    older["tasks"]["gsm8k"] |= {"rows": 10, "full_size": 1319}
    assert model_card.scores_of(older)[1] == {"gsm8k": "other rows (10)"}


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
    done = command("publish", "runs/r/results/r.json")
    assert done.returncode == 0, done.stderr
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
        done = command("publish", file)
        assert done.returncode == 0 and "is the card; --card names another" in done.stderr, done.stderr
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
    """The addresses of the hub's API that a commit of a card goes through; keeps what it got."""

    got: ClassVar[list] = []
    refuses = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.got.append((self.path, self.headers["Authorization"], body))
        if self.refuses:
            return self._say(403, {"error": "You have no right to write here"})
        if self.path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._say(200, {"files": files})
        return self._say(
            200, {"commitUrl": "https://huggingface.co/me/m/commit/0", "commitOid": "0", "pullRequestUrl": None}
        )

    def _say(self, code, told):
        sent = json.dumps(told).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(Hub, "got", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret"}
    server.shutdown()
    server.server_close()


def test_push_uploads_the_card_with_the_token_of_the_environment_and_only_when_asked(command, tmp_path, hub):
    result(tmp_path)
    assert command("publish", "r.json", env=hub).returncode == 0 and not Hub.got
    done = command("publish", "r.json", "--push", "me/m", env=hub)
    assert done.returncode == 0, done.stderr
    assert [(path, token) for path, token, _ in Hub.got] == [
        ("/api/validate-yaml", "Bearer hf_secret"),
        ("/api/models/me/m/preupload/main", "Bearer hf_secret"),
        ("/api/models/me/m/commit/main", "Bearer hf_secret"),
    ]
    lines = [json.loads(line) for line in Hub.got[-1][2].splitlines()]
    (file,) = [line["value"] for line in lines if line["key"] == "file"]
    assert file["path"] == "README.md"
    assert base64.b64decode(file["content"]) == (tmp_path / "results" / "m" / "README.md").read_bytes()
    assert done.stdout.splitlines()[-1] == "https://huggingface.co/me/m/commit/0"
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_push_that_the_hub_refuses_is_said_in_one_line(command, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(Hub, "refuses", True)
    result(tmp_path)
    done = command("publish", "r.json", "--push", "me/m", env=hub)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "me/m: the hub did not take the card" in done.stderr and "hf_secret" not in done.stderr
    assert (tmp_path / "results" / "m" / "README.md").is_file()
