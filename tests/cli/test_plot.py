"""`orca-bench plot`: what it writes and what it says of it."""

import re
from pathlib import Path

from synthetic_results import random_result


def test_each_file_is_named_with_what_it_shows_and_its_size(command, tmp_path):
    for seed, label in enumerate(("one", "two")):
        random_result(tmp_path, label, 0.5, seed=seed, tasks=["drop", "gsm8k"])
    process = command("plot", "one.json", "two.json", "--to", "pictures")
    assert process.returncode == 0 and process.stderr == "next: orca-bench page one.json two.json\n"
    lines = process.stdout.splitlines()
    assert re.fullmatch(
        r"pictures/differences\.png: two minus one: difference by task \(1,600 × \d+ pixels, [\d.]+ kB\)", lines[0]
    )
    assert lines[1].startswith("pictures/differences.svg: the same, light or dark as its reader prefers (")
    assert [line.partition(":")[0] for line in lines[2:]] == ["pictures/scores.png", "pictures/scores.svg"]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        *("differences.png", "differences.svg", "scores.png", "scores.svg")
    }


def test_two_results_without_their_questions_are_drawn_and_a_note_says_what_is_missing(command, tmp_path):
    for seed, label in enumerate(("one", "two")):
        random_result(tmp_path, label, 0.5, seed=seed, tasks=["drop"])
    Path(tmp_path / "two.questions.jsonl").unlink()
    process = command("plot", "one.json", "two.json")
    assert process.returncode == 0 and "differences.png" in process.stdout
    assert (
        process.stderr
        == "note: no differences by question are drawn: the questions of two.json are not beside the result\n"
    )


def test_letters_that_no_font_has_are_said(command, tmp_path):
    random_result(tmp_path, "\U00016800", 0.5, file="bamum.json", tasks=["drop"])
    process = command("plot", "bamum.json")
    assert process.returncode == 0 and "boxes stand for them; the SVG file has them" in process.stderr
    assert "\U00016800" in (tmp_path / "plots" / "scores.svg").read_text(encoding="utf-8")


def test_over_steps_draws_only_the_steps_and_refuses_what_is_no_number(command, tmp_path):
    for label in ("early", "late"):
        random_result(tmp_path, label, 0.5, tasks=["drop"])
    process = command("plot", "early.json", "late.json", "--over-steps", "--steps", "100,800")
    assert process.returncode == 0 and [path.name for path in sorted((tmp_path / "plots").iterdir())] == [
        "steps.png",
        "steps.svg",
    ]
    assert "'a,b' is no list of numbers" in command.refused(
        "plot", "early.json", "late.json", "--over-steps", "--steps", "a,b"
    )
    assert "1 steps for 2 results" in command.refused(
        "plot", "early.json", "late.json", "--over-steps", "--steps", "100"
    )
    assert "--steps: only the picture over steps has steps; add --over-steps" in command.refused(
        "plot", "early.json", "--steps", "5"
    )
    assert "known: orca_mini_13b" in command.refused(
        "plot", "early.json", "late.json", "--over-steps", "--reported", "bogus"
    )
