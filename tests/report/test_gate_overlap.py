"""The gate's rule on questions in the training records: a warning, or a failure above the number that is allowed."""

import pytest
from synthetic_results import random_result

from orca_bench.report import gate_formats
from orca_bench.report.gate import check
from orca_bench.report.gate_rules import GateRules, read_rules
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.results import writing
from orca_bench.results.reading import read_with_questions

TASKS = ("gsm8k", "mmlu")
WORDS = "12 of 80 questions overlap with the training records; without them"


def evaluated(folder, label, share=0.5, **options):
    """A result of both tasks that says what was asked, as the gate demands."""
    file = random_result(folder, label, share, tasks=TASKS, **options)
    for entry in file.result.tasks.values():
        entry.requests_sha256 = entry.tokens_sha256 = "f" * 64
    file.result.data_hashes = {name: {"test": "d" * 64} for name in file.result.tasks}
    questions = [each for task in file.questions_by_task.values() for each in task.questions_by_key.values()]
    writing.write_result(file.path, file.result, questions)
    return read_with_questions(file.path, label)


@pytest.fixture
def baseline(tmp_path):
    return evaluated(tmp_path, "baseline")


@pytest.fixture
def result(tmp_path):
    return evaluated(tmp_path, "result", seed=2, overlapping={"gsm8k": 12, "mmlu": 0})


def test_without_the_rule_the_gate_warns(result, baseline):
    report = check(result, [baseline], GateRules())
    assert report.passed
    (warning,) = report.warnings
    assert warning.startswith(f"GSM8K: {WORDS}")
    assert f"⚠️ GSM8K: {WORDS}" in gate_formats.to_markdown(report, 3)
    (annotation,) = gate_formats.to_annotations(report)
    assert annotation.startswith(f"::warning title=orca-bench GSM8K::{WORDS}")
    assert gate_formats.to_json(report)["warnings"] == [warning]


def test_a_task_that_is_not_examined_is_warned_of_too(result, baseline):
    report = check(result, [baseline], GateRules(tasks=("mmlu",), max_overlap=0))
    assert [verdict.name for verdict in report.verdicts] == ["mmlu"] and report.passed
    (warning,) = report.warnings
    assert warning.startswith(f"GSM8K: {WORDS}")


def test_the_rule_allows_as_many_as_it_says(result, baseline):
    assert check(result, [baseline], GateRules(max_overlap=12)).passed
    report = check(result, [baseline], GateRules(max_overlap=11))
    verdicts = {verdict.name: verdict for verdict in report.verdicts}
    assert not report.passed and verdicts["gsm8k"].outcome == "overlap" and verdicts["mmlu"].passed
    assert f"GSM8K: {WORDS}" in gate_sentence(report) and "(at most 11 allowed)" in gate_sentence(report)
    assert gate_formats.to_annotations(report)[0].startswith(f"::error title=orca-bench GSM8K::{WORDS}")


def test_with_the_rule_a_task_that_was_not_compared_fails(baseline, tmp_path):
    silent = evaluated(tmp_path, "silent", seed=2, overlapping={"gsm8k": 0})
    report = check(silent, [baseline], GateRules(max_overlap=0))
    failed = [verdict for verdict in report.verdicts if not verdict.passed]
    assert [(verdict.name, verdict.reason) for verdict in failed] == [
        ("mmlu", "not compared with the training records (eval --data-report)")
    ]


def test_a_task_that_is_worse_too_fails_for_its_loss(baseline, tmp_path):
    worse = evaluated(tmp_path, "worse", 0.0, overlapping={"gsm8k": 12, "mmlu": 0})
    report = check(worse, [baseline], GateRules(max_overlap=0))
    assert [verdict.outcome for verdict in report.verdicts] == ["worse", "worse"]


def test_questions_in_a_baselines_records_are_a_warning_that_names_it(result, baseline):
    report = check(baseline, [result], GateRules())
    assert report.warnings[0].startswith(f"GSM8K in {result.path}: {WORDS}")


def test_the_rule_comes_from_the_file_or_the_command_line(command, result, baseline, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("max_overlap: 20\ntasks: [gsm8k]")
    assert read_rules(rules).max_overlap == 20
    words = ("check", result.path, "--baseline", baseline.path, "--rules", rules)
    process = command(*words)
    assert process.returncode == 0 and "! GSM8K: 12 of 80 questions overlap" in process.stdout
    process = command(*words, "--max-overlap", 0)
    assert process.returncode == 1 and process.stdout.startswith("failed: GSM8K: 12 of 80 questions overlap")
