"""The gate's report in, its forms for programs and web pages out: Markdown, JUnit XML, GitHub's annotations, JSON.

Its own module because the words of a verdict may change while the verdict does not.
"""

from __future__ import annotations

import html
import math
from typing import TypeAlias
from xml.etree import ElementTree

from orca_bench.report.gate import GateReport, TaskVerdict
from orca_bench.report.gate_log_probabilities import TaskLogProbabilities
from orca_bench.report.gate_questions import changed_question_lines, question_blocks, question_lines
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.report.gate_terminal import cell_texts
from orca_bench.report.grid import column_unit, display_text, printable_text
from orca_bench.report.grid_formats import markdown_cell, markdown_line

_REPLACEMENT_CHARACTER = "�"
_Json: TypeAlias = dict[str, object]


def to_markdown(report: GateReport, max_questions: int | None) -> str:
    """A summary for a pull request: the sentence, the table, the first lost questions of each task that fails, the notes.

    `max_questions` None means all of them.
    """
    lines = [f"### orca-bench: {_emoji(report.passed)} {markdown_cell(gate_sentence(report))}", ""]
    if report.verdicts:
        lines += ["| | task | baseline | now | Δ ± error | p | finds ≥ | fell | verdict |"]
        lines += ["|---|---|--:|--:|--:|--:|--:|--:|---|"]
    for verdict in report.verdicts:
        cells = [markdown_cell(text) for text in cell_texts(verdict)[1:]]
        lines.append(f"| {_emoji(verdict.passed)} | {' | '.join(cells)} |")
    if any(verdict.comparison for verdict in report.verdicts):
        unit = column_unit("points", (verdict.unit for verdict in report.verdicts if verdict.comparison))
        lines += [
            "",
            f"Δ is now minus baseline in {unit}, ± its standard error. Finds ≥: the smallest true loss, in {unit}, that is "
            "found four times in five; none: not even a fall to 0.",
        ]
    for heading, *question_texts in question_blocks(report, max_questions):
        lines += ["", f"<details><summary>{html.escape(display_text(heading))}</summary>", ""]
        lines += [f"- `{display_text(text.strip()).replace('`', chr(39))}`" for text in question_texts]
        lines += ["", "</details>"]
    lines += [line for warning in report.warnings for line in ("", f"⚠️ {markdown_line(warning)}")]
    lines += [line for note in report.notes for line in ("", markdown_line(note))]
    return "\n".join(lines) + "\n"


def to_junit(report: GateReport, max_questions: int | None) -> str:
    """JUnit XML: one test a task, and one for whether the results can be compared.

    The failure of a task has its first `max_questions` lost questions; None means all of them.
    """
    failure_count = sum(not verdict.passed for verdict in report.verdicts) + bool(report.obstacles)
    suite_element = ElementTree.Element(
        "testsuite", name="orca-bench", tests=str(len(report.verdicts) + 1), failures=str(failure_count), errors="0"
    )
    case_element = ElementTree.SubElement(suite_element, "testcase", classname="orca-bench", name="comparable")
    changed_lines_by_task = {
        task.name: changed_question_lines(task, max_questions) for task in report.log_probabilities
    }
    if report.obstacles:
        message = _valid_xml("; ".join(map(str, report.obstacles)))
        failure_element = ElementTree.SubElement(case_element, "failure", message=message)
        failure_element.text = _valid_xml("\n".join(line for lines in changed_lines_by_task.values() for line in lines))
    for verdict in report.verdicts:
        case_element = ElementTree.SubElement(suite_element, "testcase", classname="orca-bench", name=verdict.title)
        if not verdict.passed:
            failure_element = ElementTree.SubElement(case_element, "failure", message=_valid_xml(verdict.reason))
            lines = question_lines(verdict, max_questions) + changed_lines_by_task.get(verdict.name, [])
            failure_element.text = _valid_xml("\n".join(lines))
    ElementTree.indent(suite_element)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite_element, encoding="unicode") + "\n"


def to_annotations(report: GateReport) -> list[str]:
    """Workflow commands of GitHub Actions, one a failure, and one a warning."""
    failures = [("not comparable", str(obstacle)) for obstacle in report.obstacles]
    failures += [(verdict.title, verdict.reason) for verdict in report.verdicts if not verdict.passed]
    warnings = [text.partition(": ")[::2] for text in report.warnings]
    return [
        f"::{kind} title=orca-bench {_escape_command_property(printable_text(title))}::{_escape_command(printable_text(text))}"
        for kind, titles_and_texts in (("error", failures), ("warning", warnings))
        for title, text in titles_and_texts
    ]


def to_json(report: GateReport) -> _Json:
    """All facts, fractions of 1 (of a metric with a `unit` numbers in it); with every lost question."""
    report_json: _Json = {
        "passed": report.passed,
        "headline": gate_sentence(report),
        "reasons": [str(obstacle) for obstacle in report.obstacles],
        "warnings": report.warnings,
        "notes": report.notes,
        "tasks": [_verdict_json(verdict) for verdict in report.verdicts],
    }
    if report.rules.max_log_probability_change is not None:
        report_json["log_probabilities"] = [_log_probabilities_json(task) for task in report.log_probabilities]
    return report_json


def _emoji(passed: bool) -> str:
    return "✅" if passed else "❌"


def _valid_xml(text: str) -> str:
    """A text without the characters that XML 1.0 cannot hold."""
    return "".join(
        character
        if character in "\t\n\r"
        or " " <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character > "\uffff"
        else _REPLACEMENT_CHARACTER
        for character in text
    )


def _escape_command(text: str) -> str:
    """The message of a workflow command, escaped as GitHub's runner undoes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_command_property(text: str) -> str:
    return _escape_command(text).replace(":", "%3A").replace(",", "%2C")


def _verdict_json(verdict: TaskVerdict) -> _Json:
    comparison, factor = verdict.comparison, 100 if verdict.unit else 1  # verdicts carry hundredths of a unit
    return {
        "task": verdict.name,
        "passed": verdict.passed,
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "baseline": comparison and factor * comparison.baseline_score,
        "value": None if verdict.result_score is None else factor * verdict.result_score,
        "difference": comparison and factor * comparison.difference,
        "stderr": comparison and _finite(comparison.stderr, factor),
        "p": comparison and _finite(comparison.p),
        "detectable_loss": comparison and _finite(comparison.detectable_loss, factor),
        "within_seeds": comparison and comparison.is_within_seeds,
        "floor": verdict.floor,
        "turned": [
            {
                "task": question.result_question.task,
                "row": question.result_question.row,
                "before": question.baseline_question.score,
                "after": question.result_question.score,
                "said_before": question.baseline_question.prediction,
                "said": question.result_question.prediction,
                "right": question.result_question.gold,
            }
            for question in verdict.lost_questions
        ],
    } | ({"unit": verdict.unit} if verdict.unit else {})


def _log_probabilities_json(task: TaskLogProbabilities) -> _Json:
    """One task's log-probabilities, nats; of a question that has another number of them, only the question."""
    return {
        "task": task.name,
        "questions": task.question_count,
        "largest_change": _finite(task.largest_change),
        "changed": [
            {
                "task": question.result_question.task,
                "row": question.result_question.row,
                "answer": question.answer_index,
                "before": None if question.answer_index is None else question.baseline_log_probability,
                "after": None if question.answer_index is None else question.result_log_probability,
            }
            for question in task.changed_questions
        ],
    }


def _finite(number: float | None, factor: float = 1) -> float | None:
    """A number that JSON can hold, times a factor, or None."""
    return factor * number if number is not None and math.isfinite(number) else None
