"""What the gate says in words: no loss shown and how large a one would have been found; never that a result is not worse."""

import json
import re
from pathlib import Path

import pytest
from changed_results import change_result, no_change

from orca_bench.report import gate_formats
from orca_bench.report.gate import GateReport, TaskComparison, TaskVerdict, check
from orca_bench.report.gate_comparability import Obstacle
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.results import reading

BASELINES = Path(__file__).resolve().parents[2] / "results" / "baselines"


def verdict(title, outcome, difference=0.0, baseline=0.5, detectable=0.1, is_within_seeds=False):
    comparison = TaskComparison(baseline, baseline + difference, 0.5, 0.02, is_within_seeds, detectable)
    return TaskVerdict(title.lower(), title, outcome, "the reason", baseline + difference, None, comparison)


def sentence(*verdicts, rules=GateRules(), obstacles=(), baseline="old.json", count=1):
    return gate_sentence(GateReport(baseline, count, rules, list(verdicts), list(obstacles)))


def test_a_gate_that_passes_says_what_it_would_have_found():
    assert sentence(verdict("A", "no loss shown", detectable=0.0871)) == (
        "passed: no loss shown against old.json; a loss of 8.8 points would have been found"
    )
    assert sentence(verdict("A", "no loss shown"), verdict("B", "no loss shown", detectable=0.2)) == (
        "passed: no loss shown against old.json; a loss of 10.0 (A) to 20.0 points (B) would have been found"
    )


def test_a_fall_that_seeds_explain_is_named():
    fell = verdict("ARC-Challenge", "no loss shown", -0.1917, 0.5333, 0.43, is_within_seeds=True)
    assert sentence(fell, baseline="3 baselines", count=3) == (
        "passed: no loss shown against 3 baselines; ARC-Challenge -19.17 is within what these seeds differ by; "
        "a loss of 43.0 points would have been found"
    )


def test_a_task_that_can_show_nothing_is_named():
    blind = verdict("DROP", "no loss shown", baseline=0.1, detectable=0.2)
    assert sentence(blind).endswith("old.json; on DROP not even a fall to 0 would have been found")
    assert sentence(blind, verdict("A", "no loss shown")).endswith(
        "on A a loss of 10.0 points would have been found; on DROP not even a fall to 0 would have been found"
    )
    assert sentence(blind, blind).endswith("old.json; on no task would even a fall to 0 have been found")


def test_the_loss_that_would_have_been_found_is_that_of_the_tasks_that_show_none():
    better, none_shown = verdict("A", "better", 0.2), verdict("MMLU", "no loss shown", detectable=0.2)
    assert sentence(better, none_shown).endswith("; on MMLU a loss of 20.0 points would have been found")
    several = [verdict(title, "no loss shown") for title in "BCDE"]
    assert sentence(better, *several).endswith("; on 4 of 5 tasks a loss of 10.0 points would have been found")


def test_better_tolerated_and_floors_are_said():
    text = sentence(verdict("A", "better", 0.2), verdict("B", "tolerated", -0.01), rules=GateRules(smallest_loss=2.0))
    assert text == (
        "passed: no loss of 2 points or more shown against old.json; better on A; worse by less than that: B -1.00"
    )
    floor_only = TaskVerdict("a", "A", "above the floor", "not below the floor of 3; not compared", 0.5, 3.0)
    assert sentence(floor_only) == "passed: no task is below its floor; nothing was compared"


def test_a_gate_that_fails_says_where():
    assert (
        sentence(verdict("A", "worse", -0.2), verdict("B", "no loss shown"))
        == "failed: worse than old.json on A -20.00"
    )
    many = [verdict(title, "worse", -0.1 * place) for place, title in enumerate("ABCDE", 1)]
    assert sentence(*many) == "failed: worse than old.json on 5 of 5 tasks, most on E -50.00"
    below = TaskVerdict("g", "GSM8K", "below the floor", "9.00 is below the floor of 10", 0.09, 10.0)
    missing = TaskVerdict("d", "DROP", "missing", "not in the result")
    assert sentence(below, missing) == "failed: GSM8K 9.00 is below the floor of 10; DROP is not in the result"
    assert sentence(obstacles=[Obstacle("other limit", "none", "5", "old.json")]) == (
        "failed: not comparable with old.json: other limit: none here; 5 in old.json"
    )


@pytest.fixture(scope="module")
def again(in_results_folder):
    change_result(in_results_folder.folder, "good.json", "again.json", no_change)
    return in_results_folder


@pytest.mark.parametrize("result", ["again.json", "bad.json"])
def test_no_form_says_not_worse(again, result):
    folder = again.folder
    report = check(
        reading.read_with_questions(folder / result), [reading.read_with_questions(folder / "good.json")], GateRules()
    )
    printed = again("check", result, "--baseline", "good.json").stdout
    forms = [printed, gate_formats.to_markdown(report, 3), gate_formats.to_junit(report, 3)]
    forms += [*gate_formats.to_annotations(report), json.dumps(gate_formats.to_json(report))]
    assert not any("not worse" in form for form in forms)
    # The verdict is first and last.
    lines = printed.strip().splitlines()
    word = "passed: no loss shown" if report.passed else "failed: "
    assert lines[0].startswith(word) and lines[-1].startswith(word)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_table_never_wraps_and_explains_what_it_shows(again, width):
    process = again("check", "bad.json", "--baseline", "good.json", env={"COLUMNS": str(width)})
    lines = process.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("───"))
    rows = lines[start + 1 : start + 8]
    assert [row[0] for row in rows] == list("✓✗✓✓✓✓✓") and all(len(row) <= width for row in rows)
    assert rows[1].rstrip().endswith("worse")
    heading, legend = lines[start - 1], "\n".join(lines[start + 8 :])
    for column, explanation in (("Δ ± error", "Δ: now minus"), ("finds ≥", "finds ≥: the smallest")):
        assert (column in heading) == (explanation in legend)
    assert ("… left out at " in legend) == (width < 100)


def test_one_question_can_show_no_loss_and_the_gate_says_so(again):
    def first_drop_question(score):
        def edit_line(line):
            line["score"] = score
            return line["task"] == "drop" and line["index"] == 0

        return edit_line

    def drop_alone(result):
        result["order"], result["tasks"] = ["drop"], {"drop": result["tasks"]["drop"]}

    change_result(again.folder, "good.json", "right.json", first_drop_question(1.0), drop_alone)
    change_result(again.folder, "good.json", "wrong.json", first_drop_question(0.0), drop_alone)
    process = again("check", "wrong.json", "--baseline", "right.json", env={"COLUMNS": "120"})
    lines = process.stdout.splitlines()
    assert lines[0] == "passed: no loss shown against right.json; on DROP not even a fall to 0 would have been found"
    assert re.search(r"DROP +100\.00 +0\.00 +-100\.00 ± \d\d\.\d\d +1\.00 +none +1 +no loss shown", process.stdout)


def test_three_questions_of_a_task_are_named_or_all(again):
    def named(*words):
        stdout = again("check", "bad.json", "--baseline", "good.json", *words).stdout
        return re.findall(r"^  row \d+  right → wrong   said [A-D], right is [A-D]$", stdout, re.MULTILINE)

    assert len(named()) == 3 and len(named("--questions", "all")) > 3 and len(named("--questions", "1")) == 1
    markdown = again("check", "bad.json", "--baseline", "good.json", "--questions", "1", "--format", "markdown").stdout
    assert markdown.startswith("### orca-bench: ❌ failed: ") and markdown.count("right → wrong") == 1
    assert "no number of questions" in again.refused("check", "bad.json", "--baseline", "good.json", "--questions", "x")


def test_what_differs_between_protocols_stands_in_two_lines_with_closed_quotes(again):
    def hostile_system(result):
        result["protocol"]["system"] = "a\x1b[31m \u202e\n::error::b ![x](http://e/x.png)"

    change_result(again.folder, "good.json", "hostile.json", lambda line: line["row"] != -1, hostile_system)
    for output_format in ("terminal", "markdown"):
        words = ("check", "hostile.json", "--baseline", "good.json", "--annotations", "--format", output_format)
        process = again(*words)
        assert process.returncode == 1 and not {"\x1b", "\u202e"} & set(process.stdout + process.stderr)
        assert not re.search(r"^::error::b", process.stdout + process.stderr, re.MULTILINE)
    assert "](http" not in again(*words).stdout.replace("\\](", "")

    def other_system(result):
        result["protocol"]["system"] = "Be brief. " * 30

    change_result(again.folder, "good.json", "system.json", lambda line: line["row"] != -1, other_system)
    lines = again("check", "system.json", "--baseline", "good.json", env={"COLUMNS": "200"}).stdout.splitlines()
    assert lines[0] == "failed: not comparable with good.json" and lines[1] == "other protocol"
    assert re.fullmatch(r"  here:     orca v\d+, system message 'Be brief\. .*…'", lines[2])
    assert re.fullmatch(r"  baseline: orca v\d+, system message 'You are .*'", lines[3])


def test_over_real_seeds_a_loss_must_be_larger_than_by_questions_alone():
    runs = [reading.read_with_questions(BASELINES / f"mini-{seed}.json") for seed in range(5)]

    def comparisons(baselines):
        return {verdict.name: verdict.comparison for verdict in check(runs[0], baselines, GateRules()).verdicts}

    over_seeds, by_questions = comparisons(runs[1:]), comparisons(runs[1:2])
    assert all(over_seeds[name].stderr > 0 for name in over_seeds)
    for name in ("arc_challenge", "truthful_qa", "winogrande"):  # they differ most between seeds
        assert over_seeds[name].detectable_loss > by_questions[name].detectable_loss
    assert 0.05 < by_questions["hellaswag"].detectable_loss < 0.3
