"""What `verify` prints: a line a task, every check with -v; and which rows it takes where none are named."""

import json
import re
import shutil

import pytest


@pytest.fixture(scope="module")
def verified(tiny_model, mini, tmp_path_factory):
    """The command in a folder with `r.json`, whose rows came from the folder `rows`, a suite of its own."""
    from command_line import Command

    command = Command(tmp_path_factory.mktemp("verify"))
    shutil.copytree(mini["mini:benchmarks"], command.folder / "rows")
    (command.folder / "rows" / "suite.json").write_text('{"name": "own", "note": ""}')
    options = ("--tasks", "hellaswag,winogrande", "--limit", "3", "--out", "r.json")
    assert command("eval", "--model", tiny_model, "--benchmarks", "rows", *options).returncode == 0
    return command


def test_a_task_is_one_line_and_v_prints_every_check(verified):
    process = verified("verify", "r.json")
    lines = process.stdout.splitlines()
    assert process.returncode == 0 and len(lines) == 5, lines
    checks = "rows, requests, scores, warnings, value, lm-eval match"
    assert re.fullmatch(rf"✓ HellaSwag: acc_norm \d+\.\d\d, 3 questions; {checks}", lines[0])
    assert lines[1].startswith("✓ Winogrande: acc ") and lines[2].startswith(
        "✓ whole result: hash of the whole result, "
    )
    assert re.fullmatch(r"– not computed again: created, .*, … \(-v names all\)", lines[3])
    detailed = verified("verify", "r.json", "-v").stdout
    assert re.search(r"^✓ HellaSwag: rows: validation [0-9a-f]{8}, train [0-9a-f]{8}$", detailed, re.MULTILINE)
    assert "-v names all" not in detailed and len(detailed.splitlines()) > 15


def test_the_rows_are_those_that_the_result_remembers(verified):
    assert json.loads((verified.folder / "r.json").read_text())["benchmarks"] == "rows"
    assert "benchmarks: rows (the rows that it was made with)" in verified("verify", "r.json").stderr
    (verified.folder / "rows").rename(verified.folder / "elsewhere")
    try:
        refusal = verified.refused("verify", "r.json")
        assert (
            refusal == "error: r.json: its rows came from rows, which is not here; name their folder with --benchmarks"
        )
        assert verified("verify", "r.json", "--benchmarks", "elsewhere").returncode == 0
        without_rows = verified("verify", "r.json", "--no-rescore")
        assert without_rows.returncode == 0 and without_rows.stderr == "next: orca-bench verify r.json\n"
        last_line = without_rows.stdout.splitlines()[-1]
        assert last_line == "every number matches the stored scores; no answer was scored again"
    finally:
        (verified.folder / "elsewhere").rename(verified.folder / "rows")


def test_what_does_not_match_has_a_line_of_its_own(verified):
    questions = (verified.folder / "r.questions.jsonl").read_text().splitlines()
    first = json.loads(questions[0])
    first["score"] = 1 - first["score"]
    (verified.folder / "bad.json").write_text((verified.folder / "r.json").read_text())
    (verified.folder / "bad.questions.jsonl").write_text("\n".join([json.dumps(first), *questions[1:]]) + "\n")
    process = verified("verify", "bad.json")
    assert process.returncode == 1 and "next: " not in process.stderr
    failing = [line for line in process.stdout.splitlines() if line.startswith("✗")]
    assert (
        failing[0].startswith("✗ HellaSwag: scores: line 1 (hellaswag row ") and "hash of the questions" in failing[-1]
    )
    assert re.search(r"^✓ Winogrande: ", process.stdout, re.MULTILINE)
    assert process.stdout.splitlines()[-1] == "this result does not match its stored answers"
    unscored = verified("verify", "bad.json", "--no-rescore")
    assert unscored.returncode == 1
    assert (
        unscored.stdout.splitlines()[-1] == "this result does not match its stored scores; no answer was scored again"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("r.json", "--no-rescore", "--benchmarks", "/nonexistent"),
            "--benchmarks: rows are needed only to score answers",
        ),
        (("--check-rows", "rows", "--no-rescore"), "--no-rescore: is for RESULTS, and --check-rows checks rows"),
        (
            ("--check-rows", "rows", "--benchmarks", "rows"),
            "--benchmarks: is for RESULTS, and --check-rows checks rows",
        ),
        (("r.json", "--check-rows", "rows"), "--check-rows: rows are checked instead of RESULTS"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(verified, words, message):
    assert message in verified.refused("verify", *words)
