"""Publishing: what is written, which card is edited, and what is refused before anything is written."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from finished_runs import make_run
from markdown_it import MarkdownIt
from synthetic_results import random_result

from orca_bench.cards.card_document import parse_card
from orca_bench.results.hashing import compute_content_sha256


def card_at(path):
    """(metadata, text) of a card."""
    card = parse_card(path.read_text(encoding="utf-8"), path)
    return card.metadata, card.body


def result(tmp_path, name="r.json", **heading):
    return random_result(tmp_path, "m", 0.25, file=name, **({"fingerprint": "f"} | heading)).path


def test_publish_writes_tables_and_a_card_and_says_the_protocol(command, tmp_path):
    result(tmp_path)
    result(tmp_path, "orca.json", protocol="orca", limit=100)
    process = command("publish", "r.json", "orca.json", "--partial", "--source-url", "https://example.org/m")
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "runs" / "m" / "published"
    assert {path.name for path in folder.iterdir()} == {
        *("r.json", "r.questions.jsonl", "orca.json", "orca.questions.jsonl", "README.md"),
        *("table.md", "table.csv", "table.tex", "table.html", "index.html", "orca-bench-files.json"),
        *(f"orca-bench-scores-{protocol}.png" for protocol in ("leaderboard", "orca")),
        *(
            f"{picture}-{protocol}.{suffix}"
            for picture in ("scores", "mmlu")
            for protocol in ("leaderboard", "orca")
            for suffix in ("png", "svg")
        ),
    }
    metadata, text = card_at(folder / "README.md")
    names = [entry["dataset"]["name"] for entry in metadata["model-index"][0]["results"]]
    assert "MMLU (5-Shot)" in names and "MMLU (5-Shot), protocol orca v1, first 100 questions" in names
    assert metadata["model-index"][0]["results"][0]["source"] == {"name": "orca-bench", "url": "https://example.org/m"}
    assert "| Task | leaderboard v1 | orca v1, first 100 questions |" in text and "**Partial scores**" in text
    assert "![Scores by task" in text and "(orca-bench-scores-orca.png)" in text
    assert r"\begin{tabular}" in (folder / "table.tex").read_text()
    assert process.stdout.splitlines()[0] == "card: runs/m/published/README.md (14 scores)"
    assert "next: read runs/m/published/README.md" in process.stderr


def test_scores_of_a_part_of_the_questions_stand_on_the_card_only_if_they_are_wanted(command, tmp_path):
    result(tmp_path, limit=20)
    process = command("publish", "r.json", "--to", "pub")
    assert process.returncode == 0 and "--partial puts them on it, marked" in process.stderr
    metadata, text = card_at(tmp_path / "pub" / "README.md")
    assert "model-index" not in metadata and "No scores are stated" in text and "| MMLU |" not in text
    assert (tmp_path / "pub" / "table.md").is_file() and not (tmp_path / "pub" / "orca-bench-scores.png").exists()


def test_scores_of_the_mini_suite_stand_in_the_text_and_not_in_the_metadata(command, tmp_path):
    result(tmp_path, comparable=False)
    process = command("publish", "r.json", "--to", "pub")
    assert process.returncode == 0 and "not in its metadata" in process.stderr
    metadata, text = card_at(tmp_path / "pub" / "README.md")
    assert "model-index" not in metadata and "| MMLU | 2" in text and "its scores compare with each other only" in text
    assert "(7 scores, none of them in its metadata)" in process.stdout


def test_the_card_says_where_no_better_than_guessing_is_shown(command, tmp_path):
    random_result(
        tmp_path, "m", {"winogrande": 0.5, "gsm8k": 0.0, "hellaswag": 0.9}, tasks=["winogrande", "gsm8k", "hellaswag"]
    )
    assert command("publish", "m.json", "--to", "pub").returncode == 0
    _, text = card_at(tmp_path / "pub" / "README.md")
    assert "No better than guessing is shown on Winogrande (" in text
    assert "It answered no question of GSM8K right." in text


HOSTILE_NAMES = ["<img src=x onerror=alert(1)>", "a|b**c**", "--> <!-- orca-bench: end scores -->", "נמוך", "- x\n# y"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_stays_a_text_on_the_card(command, tmp_path, name):
    random_result(tmp_path, name, 0.5, file="r.json", tasks=["gsm8k"])
    for _ in range(2):  # a card that was written is read again
        process = command("publish", "r.json", "--to", "pub")
        assert process.returncode == 0, process.stderr
    metadata, text = card_at(tmp_path / "pub" / "README.md")
    assert metadata["model-index"][0]["name"] == name and len(metadata["model-index"]) == 1
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<img src=x" not in html and "<h1>y" not in html and html.count("<h1>") == 1


def test_hostile_texts_of_a_result_and_of_a_run_stay_texts_on_the_card(command, tmp_path):
    hostile = "</details><img src=x>|"
    run = make_run(tmp_path, "r", started=hostile, libraries={hostile: hostile}, commits={hostile: hostile})
    (run / "results").mkdir()
    path = result(run / "results", run="r", step=5)
    content = json.loads(path.read_text())
    for task in content["tasks"].values():
        task |= {"metric": hostile, "title": hostile, "warnings": [hostile], "value": 0.0, "interval": [0.0, 0.1]}
    content["versions"] = {hostile: hostile}
    del content["result_sha256"]
    path.write_text(json.dumps(content | {"result_sha256": compute_content_sha256(content)}))
    process = command("publish", "r")
    assert process.returncode == 0, process.stderr
    html = MarkdownIt("gfm-like", {"linkify": False}).render((run / "published" / "README.md").read_text())
    assert "<img src=x" not in html
    assert html.count("<details>") == html.count("</details>") == 2


def test_results_of_an_export_are_published_apart_from_those_of_the_model(command, tmp_path):
    run = make_run(tmp_path, "r")
    (run / "results" / "step-3").mkdir(parents=True)
    result(run / "results" / "step-3", run="r", step=3)
    assert command("publish", "r/step-3/r").returncode == 0
    _, text = card_at(run / "published" / "step-3" / "README.md")
    assert "It is a checkpoint: its training had done 3 of 5 steps." in text


@pytest.mark.parametrize(
    ("heading", "has_run", "is_said"),
    [({"run": "r", "step": 5}, True, True), ({"run": "r", "step": 0}, True, False), ({"run": "r"}, False, None)],
)
def test_the_card_says_trained_on_this_prompt_only_of_a_model_that_was(command, tmp_path, heading, has_run, is_said):
    folder = make_run(tmp_path, "r") / "results" if has_run else tmp_path
    folder.mkdir(exist_ok=True)
    result(folder, "x.json", protocol="orca", **heading)
    assert command("publish", folder / "x.json", "--to", "pub").returncode == 0
    metadata, text = card_at(tmp_path / "pub" / "README.md")
    assert ("It was trained on this prompt, byte for byte" in text) == (is_said is True) == ("orca" in metadata["tags"])
    assert ("scored as the model was trained" in text) == (is_said is True)
    assert ("this model was not tuned here" in text) == (is_said is False)
    assert "### Response:" in text and "apply_chat_template" in text
    if heading.get("step") == 0:
        assert "trained on" not in text and "It is not trained." in text and "training data" not in text


def test_a_result_whose_name_cannot_be_a_folders_is_named_with_the_options_that_help(command, tmp_path):
    random_result(tmp_path, "../../etc/passwd", 0.5, file="dots.json", tasks=["gsm8k"])
    line = command.refused("publish", "dots.json")
    assert line.startswith("error: dots.json: '../../etc/passwd' is not a name") and "--name or --to" in line
    assert command("publish", "dots.json", "--to", "pub").returncode == 0
    assert command("publish", "dots.json", "--name", "d").returncode == 0


@pytest.mark.parametrize("name", ["../../x", "..", "", "a\nb", "x" * 300])
def test_a_name_that_is_no_folders_is_refused_where_one_is_needed(command, tmp_path, name):
    result(tmp_path)
    command.refused("publish", "r.json", "--name", name)
    assert not (tmp_path / "runs").exists()


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
    assert "a folder, not a card; name the file in it" in command.refused("publish", "r.json", "--card", "other")
    (tmp_path / "card.md").write_text("---\na: [\n---\n")
    assert "card.md:" in command.refused("publish", "r.json", "--card", "card.md")
    assert not (tmp_path / "runs").exists()
    assert "is OWNER/NAME" in command.refused("publish", "r.json", "--push", "mine")
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | {"HF_TOKEN": ""}
    process = command("publish", "r.json", "--push", "me/m", env=environment)
    assert process.returncode == 2 and "set HF_TOKEN" in process.stderr
    assert not (tmp_path / "runs").exists()


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
    process = command("publish", "r")
    assert process.returncode == 0, process.stderr
    metadata, text = card_at(run / "model" / "README.md")
    assert text.startswith("# Mine\n\n## Scores\n") and list(metadata) == ["model-index"]
    assert "is a card of your own" in process.stderr
    assert (run / "published" / "index.html").is_file() and not (run / "published" / "README.md").exists()
    assert (run / "model" / "orca-bench-scores.png").is_file()


def test_the_first_card_of_a_run_gets_the_scores_and_keeps_what_was_written_around_its_sections(command, tmp_path):
    from orca_bench.cards.run_card import write_first_card

    run = make_run(tmp_path, "r")
    (run / "model" / "orca_bench.json").write_text('{"run": "r", "step": 5}')
    (run / "results").mkdir()
    result(run, "results/r.json", path="runs/r/model", run="r", step=5)
    card = write_first_card(run)
    card.write_text(
        card.read_text().replace("# r\n", "# r\n\nMy own words.\n").replace("license: unknown", "license: mit")
    )
    assert command("publish", "r").returncode == 0
    metadata, text = card_at(card)
    assert "\n# r\n\nMy own words.\n" in text and metadata["license"] == "mit"
    assert (
        "It has not been evaluated yet" not in text and "| MMLU | 2" in text and "trained from random weights" in text
    )
    assert len(metadata["model-index"][0]["results"]) == 7
    once = card.read_bytes()
    assert command("publish", "r").returncode == 0 and card.read_bytes() == once
    assert command("publish", "r", "--to", "pub").returncode == 0 and card.read_bytes() == once
    assert "My own words." in (tmp_path / "pub" / "README.md").read_text()


def test_the_snippet_of_a_pushed_card_names_the_repository(command, tmp_path, hub):
    result(tmp_path, run="r", step=5)
    assert command("publish", "r.json", "--to", "pub", "--push", "me/m", env=hub).returncode == 0
    assert 'name = "me/m"\n' in (tmp_path / "pub" / "README.md").read_text()


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
        assert process.returncode == 0, process.stderr
        assert (other / "README.md").read_text() == "# A project\n"
        assert (run / "model" / "README.md").read_text() == "# Mine\n"
    (run / "model" / "README.md").unlink()
    (run / "model" / "README.md").symlink_to(other / "README.md")
    assert command("publish", "runs/r/results/r.json").returncode == 0
    assert (other / "README.md").read_text() == "# A project\n"
    (tmp_path / "runs" / "m" / "published").mkdir(parents=True, exist_ok=True)
    (tmp_path / "runs" / "m" / "published" / "README.md").unlink(missing_ok=True)
    (tmp_path / "runs" / "m" / "published" / "README.md").symlink_to(other / "README.md")
    assert "a link to a card elsewhere" in command.refused("publish", "r.json")
    assert command("publish", "r.json", "--card", "project/README.md").returncode == 0
    assert "# A project\n\n## Scores\n" in (other / "README.md").read_text()


def test_a_result_that_was_changed_by_hand_is_not_published(command, tmp_path):
    path = result(tmp_path)
    path.write_text(path.read_text().replace('"value": 0.', '"value": 0.9', 1))
    assert "changed after it was written" in command.refused("publish", "r.json")


@pytest.mark.parametrize(
    ("name", "target"), [("index.html", "mine"), ("table.csv", None), ("r.json", "mine"), ("scores.svg", "mine")]
)
def test_files_that_publish_did_not_write_or_that_were_changed_since_are_not_replaced(command, tmp_path, name, target):
    random_result(tmp_path, "m", 0.5, file="r.json", tasks=["gsm8k"])
    words = ("publish", "r.json", *(() if target is None else ("--to", target)))
    folder = tmp_path / (target or "runs/m/published")
    folder.mkdir(parents=True)
    (folder / name).write_text("my own")
    assert name in command.refused(*words)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "my own")]
    (folder / name).unlink()
    (folder / "notes.txt").write_text("my own")
    for _ in range(2):  # its own files are replaced
        process = command(*words)
        assert process.returncode == 0, process.stderr
    (folder / name).write_text("edited")
    assert f"changed since: {name}" in command.refused(*words)
    assert (folder / name).read_text() == "edited"
    assert (folder / "notes.txt").read_text() == "my own"


def test_a_link_is_not_written_through(command, tmp_path):
    random_result(tmp_path, "m", 0.5, file="r.json", tasks=["gsm8k"])
    assert command("publish", "r.json", "--to", "mine").returncode == 0
    (tmp_path / "precious.html").write_bytes((tmp_path / "mine" / "index.html").read_bytes())
    (tmp_path / "mine" / "index.html").unlink()
    (tmp_path / "mine" / "index.html").symlink_to(tmp_path / "precious.html")
    assert "index.html" in command.refused("publish", "r.json", "--to", "mine")


def test_files_of_an_earlier_publication_go_unless_they_were_changed_or_are_published_again(command, tmp_path):
    random_result(tmp_path, "old", 0.5, file="old.json")
    random_result(tmp_path, "m", 0.4, file="r.json", tasks=["gsm8k"])
    folder = tmp_path / "pub"
    assert command("publish", "old.json", "--to", "pub").returncode == 0
    assert (folder / "mmlu.png").is_file()
    (folder / "old.questions.jsonl").write_text("my notes")
    process = command("publish", "r.json", "--to", "pub")
    assert process.returncode == 0 and "old.questions.jsonl, of an earlier publication, was changed" in process.stderr
    names = {path.name for path in folder.iterdir()}
    assert "old.json" not in names and not any("mmlu" in name for name in names)
    assert {"README.md", "old.questions.jsonl", "r.json", "r.questions.jsonl"} <= names
    (tmp_path / "r.json").unlink()
    assert command("publish", "pub/r.json", "--to", "pub").returncode == 0
    assert {"r.json", "r.questions.jsonl"} <= {path.name for path in folder.iterdir()}
    assert command("publish", "old.json", "--to", "pub").returncode == 2  # old.questions.jsonl was changed
    (folder / "old.questions.jsonl").unlink()
    assert command("publish", "old.json", "--to", "pub").returncode == 0
    assert (folder / "r.json").is_file()  # it was the user's when it was published from there


@pytest.mark.parametrize("entries", ['{"../secret": null}', '{"/etc/passwd": null}', "[]", '{"..": "0"}', '{"a": 1}'])
def test_a_list_of_published_files_names_no_file_elsewhere(command, tmp_path, entries):
    random_result(tmp_path, "m", 0.5, file="r.json", tasks=["gsm8k"])
    (tmp_path / "secret").write_text("s")
    (tmp_path / "pub").mkdir()
    (tmp_path / "pub" / "orca-bench-files.json").write_text(f'{{"format": "orca-bench-files-1", "files": {entries}}}')
    assert "not a list that orca-bench publish wrote" in command.refused("publish", "r.json", "--to", "pub")
    assert (tmp_path / "secret").is_file()


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
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
    content_by_name = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
    assert set(content_by_name) == {"README.md", "orca-bench-scores.png"}
    for name, content in content_by_name.items():
        assert base64.b64decode(content) == (tmp_path / "runs" / "m" / "published" / name).read_bytes()
    assert process.stdout.splitlines()[-1] == "https://huggingface.co/me/m/commit/0"
    assert "hf_secret" not in process.stdout + process.stderr


def test_a_push_that_the_hub_refuses_is_said_in_one_line(command, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(Hub, "refuses", True)
    result(tmp_path)
    process = command("publish", "r.json", "--push", "me/m", env=hub)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert "me/m: the hub did not take the card" in process.stderr and "hf_secret" not in process.stderr
    assert (tmp_path / "runs" / "m" / "published" / "README.md").is_file()
