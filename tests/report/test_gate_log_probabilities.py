"""The gate on log-probabilities of one model: a change beyond the limit fails, and names the question and the answer."""

import json
from xml.etree import ElementTree

import pytest
from changed_results import change_result, no_change

from orca_bench.report import gate_formats
from orca_bench.report.gate import check
from orca_bench.report.gate_rules import GateRules, read_rules
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.results import reading

LIMIT = "--max-log-probability-change"


def shifted(nats, task="winogrande", index=3, answer=1):
    """An `edit_line` that shifts one log-probability of one question."""

    def edit_line(line):
        if line["task"] == task and line["index"] == index:
            line["answers"][answer] += nats

    return edit_line


@pytest.fixture
def compared(in_results_folder):
    """The gate's report on a result that differs from good.json by `edit_line`, and that result's path."""

    def compare(edit_line, rules, edit_result=lambda result: None):
        folder = in_results_folder.folder
        path = change_result(folder, "good.json", "changed.json", edit_line, edit_result)
        baseline = reading.read_with_questions(folder / "good.json")
        return check(reading.read_with_questions(path), [baseline], rules), path

    return compare


def question(path, task, index):
    lines = map(json.loads, reading.questions_path_for(path).read_text().splitlines())
    return next(line for line in lines if line["task"] == task and line["index"] == index)


def test_a_change_beyond_the_limit_fails_and_names_the_question(compared, in_results_folder):
    report, path = compared(shifted(-0.002), GateRules(max_log_probability_change=1e-3))
    line = question(path, "winogrande", 3)
    assert [verdict.title for verdict in report.verdicts if not verdict.passed] == ["Winogrande"]
    assert "failed: 1 of 84 questions (Winogrande 1) changed by more than 0.001 nats" in gate_sentence(report)
    process = in_results_folder("check", path, "--baseline", "good.json", LIMIT, "1e-3")
    after = line["answers"][1]
    assert process.returncode == 1
    assert f"row {line['row']}  answer 2 of 2: {after + 0.002:.4f} → {after:.4f} nats (-0.002)" in process.stdout


def test_a_change_within_the_limit_passes_and_its_size_is_said(compared, in_results_folder):
    report, path = compared(shifted(0.0004), GateRules(max_log_probability_change=1e-3))
    assert report.passed
    assert (
        "passed: the log-probabilities of 84 questions changed by less than 0.001 nats, the largest by 0.0004; no loss shown"
        in gate_sentence(report)
    )
    assert in_results_folder("check", path, "--baseline", "good.json", LIMIT, "1e-3").returncode == 0
    assert in_results_folder("check", path, "--baseline", "good.json", LIMIT, "1e-4").returncode == 1


def test_without_the_rule_nothing_is_said_of_log_probabilities(compared):
    report, _ = compared(shifted(-5), GateRules())
    assert report.passed and "log-probability" not in gate_sentence(report)
    assert "log_probabilities" not in gate_formats.to_json(report)


def test_the_largest_change_stands_first_and_every_form_has_it(compared):
    def edit_line(line):
        for index, nats in ((2, 0.5), (3, -3), (4, 0.01)):
            shifted(nats, index=index)(line)

    report, path = compared(edit_line, GateRules(max_log_probability_change=1e-3))
    rows = [question(path, "winogrande", index)["row"] for index in (3, 2, 4)]
    (task,) = [task for task in gate_formats.to_json(report)["log_probabilities"] if task["changed"]]
    assert [changed["row"] for changed in task["changed"]] == rows
    assert task["largest_change"] == pytest.approx(3) and task["questions"] == 12
    assert f"- `row {rows[0]}  answer 2 of 2" in gate_formats.to_markdown(report, 1)
    assert "… and 2 more" in gate_formats.to_markdown(report, 1)
    (failure,) = ElementTree.fromstring(gate_formats.to_junit(report, 3).split("\n", 1)[1]).iter("failure")
    assert f"row {rows[2]}  answer 2 of 2" in failure.text
    (annotation,) = gate_formats.to_annotations(report)
    assert annotation.startswith(
        "::error title=orca-bench Winogrande::3 of 12 questions changed by more than 0.001 nats"
    )


def test_results_with_other_token_ids_are_named_by_question_too(compared, in_results_folder):
    def other_tokens(result):
        result["tasks"]["winogrande"]["tokens_sha256"] = "0" * 64

    report, path = compared(shifted(-0.002), GateRules(max_log_probability_change=1e-3), other_tokens)
    assert not report.verdicts and "other token ids of Winogrande" in gate_sentence(report)
    row = question(path, "winogrande", 3)["row"]
    output = in_results_folder("check", path, "--baseline", "good.json", LIMIT, "1e-3").stdout
    assert f"row {row}  answer 2 of 2" in output
    assert f"row {row}  answer 2 of 2" in gate_formats.to_junit(report, 3)
    assert f"row {row}  answer 2 of 2" in gate_formats.to_markdown(report, 3)


def test_another_number_of_answers_is_a_change(compared):
    def one_answer_less(line):
        if line["task"] == "winogrande" and line["index"] == 3:
            del line["answers"][1], line["greedy"]

    report, path = compared(one_answer_less, GateRules(max_log_probability_change=1000))
    row = question(path, "winogrande", 3)["row"]
    assert f"- `row {row}  2 → 1 answer`" in gate_formats.to_markdown(report, 3)
    (task,) = [task for task in gate_formats.to_json(report)["log_probabilities"] if task["changed"]]
    assert json.loads(json.dumps(task, allow_nan=False))["changed"][0]["before"] is None


def test_texts_have_no_log_probabilities_and_only_compared_tasks_count(compared):
    report, _ = compared(shifted(-3), GateRules(tasks=("gsm8k", "drop"), max_log_probability_change=1e-3))
    assert report.passed and "no log-probabilities were compared" in gate_sentence(report)
    report, _ = compared(shifted(-3), GateRules(tasks=("hellaswag", "gsm8k"), max_log_probability_change=1e-3))
    assert report.passed and "passed: no log-probability of 12 questions changed; no loss shown" in gate_sentence(
        report
    )


def test_the_rule_comes_from_the_file_or_the_command_line(compared, in_results_folder, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("max_log_probability_change: 0.01\ntasks: [winogrande]")
    assert read_rules(rules).max_log_probability_change == 0.01
    _, path = compared(shifted(-0.002), GateRules())
    words = ("check", path, "--baseline", "good.json", "--rules", rules)
    assert in_results_folder(*words).returncode == 0
    assert in_results_folder(*words, LIMIT, "0.001").returncode == 1


@pytest.mark.parametrize("value", ["-1", "nan", "1e9"])
def test_a_limit_that_is_none_is_refused(in_results_folder, value):
    process = in_results_folder("check", "good.json", "--baseline", "bad.json", LIMIT, value)
    assert process.returncode == 2
    assert process.stderr == f"error: {LIMIT}: {float(value)!r} is no number from 0 to 1000\n"


def test_several_baselines_are_refused_for_they_are_other_models(in_results_folder):
    folder = in_results_folder.folder
    change_result(folder, "good.json", "same.json", no_change)
    words = ("check", "same.json", "--baseline", "good.json", "--baseline", "bad.json", LIMIT, "1e-3")
    process = in_results_folder(*words)
    assert (
        process.returncode == 2
        and "2 baselines, and log-probabilities are compared with those of one" in process.stderr
    )
