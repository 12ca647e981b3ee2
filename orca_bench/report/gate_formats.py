"""The gate's report in, its forms out: terminal, Markdown, JUnit XML, GitHub's annotations, JSON.

Its own module because the words of a verdict may change while the verdict does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree

from orca_bench.report.gate import GateReport, LostQuestion, TaskVerdict
from orca_bench.report.grid import format_percent
from orca_bench.results.models import Question

if TYPE_CHECKING:
    from rich.console import RenderableType

_MAX_LOST_QUESTIONS = 10  # lost questions that are named
_REPLACEMENT_CHARACTER = "�"
_Json: TypeAlias = dict[str, object]


def headline(report: GateReport) -> str:
    """One line: passed or failed, and why."""
    if report.passed:
        return f"passed: {report.result} is not worse than {report.baseline}"
    if report.reasons:
        return f"failed: not comparable with {report.baseline}: {'; '.join(report.reasons)}"
    return f"failed: {', '.join(verdict.title for verdict in report.verdicts if not verdict.passed)}"


def to_rich(report: GateReport) -> RenderableType:
    """The report as a rich renderable."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "Task", "baseline", "now", "turned", "why"):
        table.add_column(heading, justify="right" if heading in ("baseline", "now", "turned") else "left")
    for verdict in report.verdicts:
        mark = Text("✓" if verdict.passed else "✗", style="green" if verdict.passed else "red")
        table.add_row(
            mark,
            Text(verdict.title),
            Text(format_percent(verdict.baseline_score)),
            Text(format_percent(verdict.result_score)),
            Text(str(len(verdict.lost_questions))),
            Text(verdict.reason),
        )
    failed_verdicts = [verdict for verdict in report.verdicts if not verdict.passed]
    question_texts = [
        Text(f"  {line}", style="dim") for verdict in failed_verdicts for line in _question_lines(verdict)
    ]
    note_texts = [Text(f"• {note}", style="dim") for note in report.notes]
    headline_text = Text(headline(report), style="green" if report.passed else "red")
    return Group(*([table] if report.verdicts else []), *question_texts, *note_texts, headline_text)


def to_markdown(report: GateReport) -> str:
    """A summary for a pull request."""
    lines = [f"### orca-bench: {_emoji(report.passed)} {_escape_markdown(headline(report))}", ""]
    if report.verdicts:
        lines += ["| | task | baseline | now | turned | why |", "|---|---|--:|--:|--:|---|"]
    for verdict in report.verdicts:
        lines.append(
            f"| {_emoji(verdict.passed)} | {verdict.title} | {format_percent(verdict.baseline_score)} "
            f"| {format_percent(verdict.result_score)} | {len(verdict.lost_questions)} | {_escape_markdown(verdict.reason)} |"
        )
    for verdict in report.verdicts:
        if not verdict.passed and verdict.lost_questions:
            lines += ["", f"<details><summary>{verdict.title}: questions that turned</summary>", ""]
            lines += [f"- `{line.replace('`', chr(39))}`" for line in _question_lines(verdict)]
            lines += ["", "</details>"]
    lines += [line for note in report.notes for line in ("", _escape_markdown(note))]
    return "\n".join(lines) + "\n"


def to_junit(report: GateReport) -> str:
    """JUnit XML: one test a task, and one for whether the results can be compared."""
    failure_count = sum(not verdict.passed for verdict in report.verdicts) + bool(report.reasons)
    suite_element = ElementTree.Element(
        "testsuite", name="orca-bench", tests=str(len(report.verdicts) + 1), failures=str(failure_count), errors="0"
    )
    case_element = ElementTree.SubElement(suite_element, "testcase", classname="orca-bench", name="comparable")
    if report.reasons:
        ElementTree.SubElement(case_element, "failure", message=_valid_xml("; ".join(report.reasons)))
    for verdict in report.verdicts:
        case_element = ElementTree.SubElement(suite_element, "testcase", classname="orca-bench", name=verdict.title)
        if not verdict.passed:
            failure_element = ElementTree.SubElement(case_element, "failure", message=_valid_xml(verdict.reason))
            failure_element.text = _valid_xml("\n".join(_question_lines(verdict)))
    ElementTree.indent(suite_element)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite_element, encoding="unicode") + "\n"


def to_annotations(report: GateReport) -> list[str]:
    """Workflow commands of GitHub Actions, one a failure."""
    failures = [("not comparable", reason) for reason in report.reasons]
    failures += [(verdict.title, verdict.reason) for verdict in report.verdicts if not verdict.passed]
    return [
        f"::error title=orca-bench {_escape_command_property(title)}::{_escape_command(text)}"
        for title, text in failures
    ]


def to_json(report: GateReport) -> _Json:
    """All facts, fractions of 1; with every lost question."""
    return {
        "passed": report.passed,
        "headline": headline(report),
        "reasons": report.reasons,
        "notes": report.notes,
        "tasks": [_verdict_json(verdict) for verdict in report.verdicts],
    }


def _question_lines(verdict: TaskVerdict) -> list[str]:
    """The first lost questions, a line each, and how many more there are."""
    lines = [_question_line(question) for question in verdict.lost_questions[:_MAX_LOST_QUESTIONS]]
    omitted_count = len(verdict.lost_questions) - _MAX_LOST_QUESTIONS
    return lines + ([f"… and {omitted_count} more"] if omitted_count > 0 else [])


def _question_line(question: LostQuestion) -> str:
    baseline_question, result_question = question.baseline_question, question.result_question
    part_name, row_index = result_question.part_and_row
    scores = f"{baseline_question.score:g} → {result_question.score:g}"
    return f"{part_name} row {row_index}: {scores}, {_prediction(baseline_question)} → {_prediction(result_question)}"


def _prediction(question: Question) -> str:
    return repr(question.prediction)[:40]


def _emoji(passed: bool) -> str:
    return "✅" if passed else "❌"


def _escape_markdown(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


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
    return {
        "task": verdict.name,
        "passed": verdict.passed,
        "reason": verdict.reason,
        "baseline": verdict.baseline_score,
        "value": verdict.result_score,
        "p": None if verdict.p is None or not math.isfinite(verdict.p) else verdict.p,
        "turned": [
            {
                "task": question.result_question.task,
                "row": question.result_question.row,
                "before": question.baseline_question.score,
                "after": question.result_question.score,
            }
            for question in verdict.lost_questions
        ],
    }
