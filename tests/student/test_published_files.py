"""What of results and runs is published: scores, choices and log-probabilities, and no text of a benchmark."""

import gzip
import hashlib
import json
import os
import shutil

import published_files
import pytest
from finished_runs import make_run


@pytest.fixture
def publish(command, monkeypatch, capsys):
    """Runs the program in the folder of `command`; returns the exit code and what it printed as an error."""

    def run(*words):
        monkeypatch.chdir(command.folder)
        monkeypatch.setattr("sys.argv", ["published_files.py", "--to", "out", *map(str, words)])
        return published_files.main(), capsys.readouterr().err

    return run


def test_published_questions_have_scores_and_no_text(command, publish, tiny_model):
    words = (
        "--limit 2 --tasks winogrande,gsm8k,drop --max-new-tokens gsm8k=8 --max-new-tokens drop=8 --benchmarks mini:"
    )
    os.symlink(tiny_model, command.folder / "model")
    for model, out in ((tiny_model, "absolute.json"), ("model", "relative.json")):
        process = command("eval", *words.split(), "--model", model, "--name", "m", "--out", out)
        assert process.returncode == 0, process.stderr
    code, error = publish("--result", "absolute.json", "--name", "a")
    assert code == 2 and f"names {tiny_model}, a path of this machine" in error
    assert publish("--result", "relative.json", "--name", "a", "--weights", "model") == (0, "")
    with gzip.open(command.folder / "out" / "a.questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        questions = [json.loads(line) for line in lines]
    assert len(questions) == 6
    for question in questions:
        assert not published_files.holds_text([question.get("prediction"), question.get("gold"), question["answers"]])
        assert (question["answers"] == []) == (question["task"] in ("gsm8k", "drop"))
    (command.folder / "out" / "a.questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in questions))
    verified = command("verify", "--no-rescore", "out/a.json")
    assert verified.returncode == 0 and "every number matches the stored scores" in verified.stdout
    assert list(json.loads((command.folder / "out" / "model.weights.json").read_text())) == ["model.safetensors"]


def test_of_a_run_its_small_files_are_published(command, publish):
    run = make_run(command.folder, records=[{"name": "records.jsonl", "rows": 1, "sha256": "ab", "commit": None}])
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    (run / "curves.png").write_bytes(b"picture")
    (run / "model" / "model.safetensors").write_bytes(b"weights")
    assert publish("--run", "runs/tiny") == (0, "")
    names = {path.name for path in (command.folder / "out").iterdir()}
    assert names == {
        "tiny.recipe.yaml",
        "tiny.manifest.json",
        "tiny.metrics.jsonl.gz",
        "tiny.curves.png",
        "tiny.weights.json",
    }
    weight_hashes = json.loads((command.folder / "out" / "tiny.weights.json").read_text())
    assert weight_hashes == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert gzip.decompress((command.folder / "out" / "tiny.metrics.jsonl.gz").read_bytes()) == b'{"step": 1}\n'
    shutil.rmtree(run)
    make_run(command.folder, status="interrupted")
    code, error = publish("--run", "runs/tiny")
    assert code == 2 and "runs/tiny: is interrupted, not finished" in error


def test_what_cannot_be_published_is_named(command, publish):
    assert "1 results and 0 names" in publish("--result", "a.json")[1]
    (command.folder / "empty").mkdir()
    assert "empty: no weights are here" in publish("--weights", "empty")[1]
