"""`orca-bench runs`: what it lists, and what it removes only after saying so."""

import json
import os
import pty
import re

import pytest
from synthetic_results import random_result

from orca_bench.cards import markdown
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
    process = in_runs("runs", env={"COLUMNS": columns})
    assert process.returncode == 0 and not process.stderr
    lines = process.stdout.splitlines()
    assert all(len(line) <= int(columns) for line in lines)
    text = " ".join(process.stdout.split())
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
        (("runs", "--runs", "runs/done/manifest.json"), "--runs runs/done/manifest.json: not a folder"),
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
    process = in_runs("runs", "--clean", "--dry-run")
    assert _contents(in_runs) == before and process.stdout.endswith("nothing was removed (--dry-run)\n")
    for path in REMOVABLE:
        assert path.removesuffix("/states.pt") in process.stdout
    assert "left alone: runs/half/checkpoints/step-00000010: the training continues from it" in process.stdout
    assert "left alone: runs/half/results/answers.sqlite: an unfinished evaluation continues from it" in process.stdout
    content = json.loads(in_runs("runs", "--clean", "--dry-run", "--format", "json").stdout)
    assert len(content["removable"]) == 4 and content["removed_bytes"] == 0


def test_cleaning_removes_what_it_named_and_keeps_models_results_and_what_is_needed(in_runs):
    before = _files(in_runs)
    process = in_runs("runs", "--clean", "--yes")
    assert process.returncode == 0 and "removed: " in process.stdout
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
    process = in_runs.process("runs", "--clean", "--yes")
    cache.close()
    trainer.unlock()
    assert "left alone: runs/done: a process trains it" in process.stdout
    assert "runs/done/results/answers.sqlite: an evaluation is writing it" in process.stdout
    assert REMOVABLE - _files(in_runs) == {"runs/half/checkpoints/step-00000005/states.pt"}


def test_the_answers_of_an_evaluation_that_has_no_result_yet_stay_beside_a_finished_result(in_runs):
    cache = AnswerCache(in_runs.folder / "runs" / "done" / "results" / "answers.sqlite", "identity")
    cache.begin_evaluation(["plain.json", None])
    cache.close()
    process = in_runs("runs", "done", "--clean", "--yes")
    assert "left alone: runs/done/results/answers.sqlite: an unfinished evaluation continues from it" in process.stdout
    assert "runs/done/results/answers.sqlite" in _files(in_runs)
    cache = AnswerCache(cache.database_path, "identity")
    cache.finish_evaluation(["plain.json", None])
    cache.close()
    process = in_runs("runs", "done", "--clean", "--yes")
    assert "its evaluations are finished" in process.stdout and "runs/done/results/answers.sqlite" not in _files(
        in_runs
    )


@pytest.mark.parametrize(("answer", "is_removed"), [("y", True), ("n", False), ("", False)])
def test_a_terminal_is_asked(in_runs, answer, is_removed):
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    process = in_runs.process("runs", "--clean", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == (0 if is_removed else 130) and "Remove these 4? [y/N]" in process.stderr
    assert (_files(in_runs) & REMOVABLE == set()) == is_removed


def test_a_terminal_is_shown_what_goes_before_it_is_asked_also_with_json(in_runs):
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    process = in_runs.process("runs", "--clean", "--format", "json", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    text_before_question = process.stderr.partition("Remove these 4?")[0]
    assert process.returncode == 130 and not process.stdout
    assert all(path.removesuffix("/states.pt") in text_before_question for path in REMOVABLE)


def test_what_could_not_be_removed_is_an_error(in_runs, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    process = in_runs("runs", "done", "--clean", "--yes")
    assert process.returncode == 1 and "error: not removed: " in process.stderr and "answers.sqlite" in process.stderr
    assert "runs/done/results/answers.sqlite" in _files(in_runs)


@pytest.mark.parametrize(
    "word",
    ["done", "runs/done", "runs/done/", "done/orca", "runs/done/model", "runs/done/results/orca.json"]
    + ["done/leaderboard-limit80", "runs/done/results", "runs/done/manifest.json", "../runs/runs/done"],
)
def test_what_lies_in_a_run_names_the_run(in_runs, word):
    word = word.replace("../runs", f"../{in_runs.folder.name}")
    process = in_runs("runs", word)
    assert process.returncode == 0 and process.stdout.startswith("done: finished, 20 steps"), process.stderr


@pytest.mark.parametrize(
    "word", ["done/nothing", "runs", ".", "..", "done/..", "done/../half", "/", "runs/absent/model"]
)
def test_what_lies_in_no_run_names_none(in_runs, word):
    process = in_runs("runs", word)
    assert process.returncode == 2 and f"error: {word}: no such run; " in process.stderr


def test_all_scores_are_listed_in_the_details_and_the_limit_once(in_runs):
    results = in_runs.folder / "runs" / "half" / "results"
    tasks = ["arc_challenge", "hellaswag", "mmlu", "winogrande", "gsm8k"]
    random_result(results, "orca", 0.5, protocol="orca", limit=1, tasks=tasks, comparable=False)
    (results / "broken.json").write_text('{"format": "orca-bench result 3"}')
    lines = in_runs("runs", "half").stdout.splitlines()
    index = lines.index("half/orca: 5 tasks (s), first question")
    headings = [line.split()[0] for line in lines[index + 1 : index + 6]]
    assert headings == ["ARC", "HSwag", "MMLU", "WinoG", "GSM8K"]
    (broken,) = (line for line in lines if line.startswith("half/broken: cannot be read: "))
    assert "questions" not in broken
    (row,) = (line for line in in_runs("runs", "--format", "markdown").stdout.splitlines() if "half/orca" in line)
    assert row.count("first") == 1
    assert in_runs("runs", "half").stdout.count("first") == 1


@pytest.mark.parametrize(("zone", "time_there"), [("Asia/Tokyo", "2026-03-02 08:30"), ("UTC", "2026-03-01 23:30")])
def test_times_are_those_of_this_machine(in_runs, zone, time_there):
    result_path = in_runs.folder / "runs" / "done" / "results" / "orca.json"
    content = json.loads(result_path.read_text()) | {"created": "2026-03-01T18:30:00-0500"}
    result_path.write_text(json.dumps(content))
    lines = in_runs("runs", "--format", "markdown", env={"TZ": zone}).stdout.splitlines()
    (row,) = (line for line in lines if "done/orca" in line)
    assert row.endswith(f"| {time_there} |")


@pytest.mark.parametrize("created", ["yesterday", "9999-99-99", "0001-01-01T00:00:00+2359", ""])
def test_a_time_that_is_none_is_no_error(in_runs, created):
    result_path = in_runs.folder / "runs" / "done" / "results" / "orca.json"
    result_path.write_text(json.dumps(json.loads(result_path.read_text()) | {"created": created}))
    for words in ((), ("done",), ("--format", "markdown"), ("--format", "json")):
        assert in_runs("runs", *words).returncode == 0


@pytest.mark.parametrize("odd", ["abc", [1], True, float("nan"), float("inf"), 1e300, None])
def test_an_odd_manifest_hides_no_other_run(in_runs, odd):
    path = in_runs.folder / "runs" / "half" / "manifest.json"
    keys = ("steps", "finished", "seconds", "parameters", "tokens")
    path.write_text(
        json.dumps({"status": "finished", "records": [{"rows": odd}], "orca_bench": "0"} | dict.fromkeys(keys, odd))
    )
    for words in ((), ("half",), ("--format", "markdown"), ("--format", "json")):
        process = in_runs("runs", *words)
        assert process.returncode == 0 and "half" in process.stdout and "NaN" not in process.stdout
    assert not any(word in in_runs("runs", "half").stdout for word in ("nan", "inf", "True", "parameters: 1"))


def test_in_markdown_a_name_is_text(command):
    name = "a|b *c* [d](e) ![f](g) `h` <i>"
    results = command.folder / "runs" / name / "results"
    results.mkdir(parents=True)
    random_result(results, "r", 0.5, file="orca.json", tasks=["gsm8k"])
    lines = command("runs", "--format", "markdown").stdout.splitlines()
    assert len(lines) == 4
    for line, cell_text in zip(lines[2:], (name, f"{name}/orca"), strict=True):
        assert line.startswith(f"| {markdown.escape(cell_text, begins_block=False)} | ")
        assert len(re.findall(r"(?<!\\)\|", line)) == 6


@pytest.mark.parametrize("name", ["a" * 120, "\u05e9\u05dc\u05d5\u05dd", "[red]x", "a | b"])
def test_names_of_any_script_and_length_are_listed(command, name):
    results = command.folder / "runs" / name / "results"
    results.mkdir(parents=True)
    random_result(results, "evil\x1b[31m\u202e", 0.5, file="orca.json", tasks=["gsm8k"])
    for words in (("runs",), ("runs", name), ("runs", "--format", "markdown")):
        process = command(*words)
        assert process.returncode == 0 and "GSM8K" in process.stdout
        assert not any(character in process.stdout for character in "\x1b\u202e")
    assert command("table", name).returncode == 0
