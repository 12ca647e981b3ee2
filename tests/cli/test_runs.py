"""`orca-bench runs`: what it lists, and what it removes only after saying so."""

import json
import os
import pty

import pytest
from synthetic_results import random_result

from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.train.run_folder import Run


@pytest.fixture
def in_runs(command):
    """The command beside a finished run `done` with two results and an interrupted one, `half`, with none that is whole."""
    runs = command.folder / "runs"
    for name, status, steps in (("done", "finished", (10, 20)), ("half", "interrupted", (5, 10))):
        for step in steps:
            (runs / name / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
            (runs / name / "checkpoints" / f"step-{step:08d}" / "states.pt").write_bytes(b"1" * 1000)
        (runs / name / "checkpoints" / "latest").write_text(f"step-{steps[-1]:08d}")
        manifest = {"status": status, "orca_bench": "0", "steps": 20, "parameters": 1234, "finished": steps[0]}
        (runs / name / "manifest.json").write_text(json.dumps(manifest))
        (runs / name / "metrics.jsonl").write_text(json.dumps({"step": steps[-1], "steps": 20}) + "\n")
        (runs / name / "results").mkdir()
        AnswerCache(runs / name / "results" / "answers.sqlite", "identity").close()
    (runs / "done" / "model").mkdir()
    (runs / "done" / "model" / "model.safetensors").write_bytes(b"1" * 500)
    random_result(runs / "done" / "results", "orca", 0.5, protocol="orca", comparable=False)
    random_result(runs / "done" / "results", "leaderboard-limit80", 0.5, tasks=["gsm8k"], limit=80)
    return command


def _contents(command):
    """Bytes and time of the last change of each file, by name."""
    paths = [path for path in command.folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def _files(command):
    return {str(path.relative_to(command.folder)) for path in command.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("columns", ["80", "100", "160"])
def test_runs_and_results_are_listed_with_scores_and_sizes(in_runs, columns):
    done = in_runs("runs", env={"COLUMNS": columns})
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= int(columns) for line in lines)
    text = " ".join(done.stdout.split())
    assert "done finished, 20 steps" in text and "half interrupted, step 10 of 20" in text
    assert "done/orca mean of 7 tasks 4" in text and "(s)" in text
    assert "done/leaderboard-limit80 GSM8K" in text and "(first 80)" in text
    assert lines[-1].startswith("2 runs, 2 results, ") and lines[-1].endswith(" in runs")


def test_a_run_s_name_or_folder_shows_all_of_it(in_runs):
    text = in_runs("runs", "done").stdout
    assert in_runs("runs", "runs/done").stdout == text
    assert "model: runs/done/model" in text and "parameters: 1,234" in text and "checkpoints 2.01 kB" in text
    assert "  ARC " in text and "  DROP 61.25 ± 5.51" in text and "half" not in text
    assert "no result; orca-bench eval writes one" in in_runs("runs", "half").stdout


def test_names_of_results_in_the_list_are_taken_by_other_commands(in_runs):
    (run, _) = json.loads(in_runs("runs", "--format", "json").stdout)
    assert (run["name"], run["status"], run["step"], run["steps"]) == ("done", "finished", 20, 20)
    assert {result["protocol"] for result in run["results"]} == {"orca", "leaderboard"}
    for result in run["results"]:
        assert in_runs("table", result["name"]).returncode == 0
        assert 0 < result["tasks"]["gsm8k"]["value"] <= 100


def test_the_markdown_has_a_line_for_each_run_and_result(in_runs):
    lines = in_runs("runs", "--format", "markdown").stdout.splitlines()
    assert len(lines) == 6 and all(line.count("|") == 6 for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runs", "dnoe"), "dnoe: no such run; did you mean 'done'?; runs in runs: "),
        (("runs", "--yes"), "--yes: is about --clean"),
        (("runs", "--dry-run"), "--dry-run: is about --clean"),
        (("runs", "--clean", "--format", "markdown"), "--format: --clean has no Markdown"),
        (("runs", "--clean"), "removing needs an answer, and there is no terminal; add --yes"),
    ],
)
def test_what_makes_no_sense_is_refused(in_runs, words, message):
    in_runs.process("runs")  # what stands there is not changed by looking
    before = _files(in_runs)
    assert message in in_runs.process(*words, stdin=-3).stderr
    assert _files(in_runs) == before


def test_without_runs_what_makes_them_is_said(command):
    assert command("runs").stdout == "no runs in runs; orca-bench demo, train and eval make them\n"
    assert command("runs", "--format", "json").stdout == "[]\n"
    assert command("runs", "--clean", "--yes").stdout == "nothing to remove\n"


REMOVABLE = {
    "runs/done/checkpoints/step-00000010/states.pt",
    "runs/done/checkpoints/step-00000020/states.pt",
    "runs/done/results/answers.sqlite",
    "runs/half/checkpoints/step-00000005/states.pt",
}


def test_a_dry_run_names_what_would_go_and_removes_nothing(in_runs):
    before = _contents(in_runs)
    done = in_runs("runs", "--clean", "--dry-run")
    assert _contents(in_runs) == before and done.stdout.endswith("nothing was removed (--dry-run)\n")
    for path in REMOVABLE:
        assert path.removesuffix("/states.pt") in done.stdout
    assert "left alone: runs/half/checkpoints/step-00000010: the training continues from it" in done.stdout
    assert "left alone: runs/half/results/answers.sqlite: an unfinished evaluation continues from it" in done.stdout
    content = json.loads(in_runs("runs", "--clean", "--dry-run", "--format", "json").stdout)
    assert len(content["removable"]) == 4 and content["removed_bytes"] == 0


def test_cleaning_removes_what_it_named_and_keeps_models_results_and_what_is_needed(in_runs):
    before = _files(in_runs)
    done = in_runs("runs", "--clean", "--yes")
    assert done.returncode == 0 and "removed: " in done.stdout
    gone = {path for path in before - _files(in_runs) if not path.endswith("/latest")}
    assert gone == REMOVABLE
    assert in_runs("verify", "done/orca", "--no-rescore").stdout.startswith("✓")
    assert "nothing to remove" in in_runs("runs", "--clean", "--yes").stdout


def test_only_the_runs_that_are_named_are_cleaned(in_runs):
    in_runs("runs", "half", "--clean", "--yes")
    assert "runs/done/checkpoints/step-00000010/states.pt" in _files(in_runs)
    assert "runs/half/checkpoints/step-00000005/states.pt" not in _files(in_runs)


def test_what_another_process_writes_is_left_alone_and_named(in_runs):
    trainer = Run(in_runs.folder / "runs" / "done")
    trainer.lock()
    cache = AnswerCache(in_runs.folder / "runs" / "done" / "results" / "answers.sqlite", "identity")
    done = in_runs.process("runs", "--clean", "--yes")
    cache.close()
    trainer.unlock()
    assert "left alone: runs/done: a process trains it" in done.stdout
    assert "runs/done/results/answers.sqlite: an evaluation is writing it" in done.stdout
    assert REMOVABLE - _files(in_runs) == {"runs/half/checkpoints/step-00000005/states.pt"}


def test_the_answers_of_an_evaluation_that_has_no_result_yet_stay_beside_a_finished_result(in_runs):
    cache = AnswerCache(in_runs.folder / "runs" / "done" / "results" / "answers.sqlite", "identity")
    cache.begin_evaluation(["plain.json", None])
    cache.close()
    done = in_runs("runs", "done", "--clean", "--yes")
    assert "left alone: runs/done/results/answers.sqlite: an unfinished evaluation continues from it" in done.stdout
    assert "runs/done/results/answers.sqlite" in _files(in_runs)
    cache = AnswerCache(cache.database_path, "identity")
    cache.finish_evaluation(["plain.json", None])
    cache.close()
    done = in_runs("runs", "done", "--clean", "--yes")
    assert "its evaluations are finished" in done.stdout and "runs/done/results/answers.sqlite" not in _files(in_runs)


@pytest.mark.parametrize(("answer", "is_removed"), [("y", True), ("n", False), ("", False)])
def test_a_terminal_is_asked(in_runs, answer, is_removed):
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = in_runs.process("runs", "--clean", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == (0 if is_removed else 130) and "Remove these 4? [y/N]" in done.stderr
    assert (_files(in_runs) & REMOVABLE == set()) == is_removed


@pytest.mark.parametrize("name", ["a" * 120, "\u05e9\u05dc\u05d5\u05dd", "[red]x", "a | b"])
def test_names_of_any_script_and_length_are_listed(command, name):
    results = command.folder / "runs" / name / "results"
    results.mkdir(parents=True)
    random_result(results, "evil\x1b[31m\u202e", 0.5, file="orca.json", tasks=["gsm8k"])
    for words in (("runs",), ("runs", name), ("runs", "--format", "markdown")):
        done = command(*words)
        assert done.returncode == 0 and "GSM8K" in done.stdout
        assert not any(character in done.stdout for character in "\x1b\u202e")
    assert command("table", name).returncode == 0
