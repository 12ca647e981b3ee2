"""The gate's verdict in, its forms out: terminal, Markdown, JUnit XML, GitHub's annotations, JSON.

Its own module because what is said of a verdict may change while the verdict does not.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree

from orca_bench.report.gate import Gate, Verdict
from orca_bench.results.models import Question

_SHOWN = 10  # turned questions that are named


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def headline(gate: Gate) -> str:
    """One line: passed or failed, and why."""
    failed = [verdict.title for verdict in gate.verdicts if not verdict.passed]
    if gate.passed:
        return f"passed: {gate.result} is not worse than {gate.baseline}"
    if gate.reasons:
        return f"failed: not comparable with {gate.baseline}: {'; '.join(gate.reasons)}"
    return f"failed: {', '.join(failed)}"


def to_rich(gate: Gate):
    """The verdict as a rich renderable."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "Task", "baseline", "now", "turned", "why"):
        drawn.add_column(heading, justify="right" if heading in ("baseline", "now", "turned") else "left")
    for verdict in gate.verdicts:
        style = "green" if verdict.passed else "red"
        cells = [
            verdict.title,
            _points(verdict.before),
            _points(verdict.after),
            str(len(verdict.turned)),
            verdict.reason,
        ]
        drawn.add_row(Text("✓" if verdict.passed else "✗", style=style), *map(Text, cells))
    parts = [drawn] if gate.verdicts else []
    named = [Text(f"  {line}", style="dim") for v in gate.verdicts if not v.passed for line in _named(v)]
    notes = [Text(f"• {note}", style="dim") for note in gate.notes]
    return Group(*parts, *named, *notes, Text(headline(gate), style="green" if gate.passed else "red"))


def _named(verdict: Verdict) -> list[str]:
    """The first turned questions in words."""
    lines = [
        f"{part} row {row}: {a.score:g} → {b.score:g}, {_said(a)} → {_said(b)}"
        for (part, row), a, b in verdict.turned[:_SHOWN]
    ]
    left = len(verdict.turned) - _SHOWN
    return lines + ([f"… and {left} more"] if left > 0 else [])


def _said(question: Question) -> str:
    return repr(question.line.get("prediction"))[:40]


def to_markdown(gate: Gate) -> str:
    """A summary for a pull request."""
    lines = [f"### orca-bench: {'✅' if gate.passed else '❌'} {_escaped(headline(gate))}", ""]
    if gate.verdicts:
        lines += ["| | task | baseline | now | turned | why |", "|---|---|--:|--:|--:|---|"]
    for verdict in gate.verdicts:
        sign = "✅" if verdict.passed else "❌"
        lines.append(
            f"| {sign} | {verdict.title} | {_points(verdict.before)} | {_points(verdict.after)} "
            f"| {len(verdict.turned)} | {_escaped(verdict.reason)} |"
        )
    for verdict in gate.verdicts:
        if not verdict.passed and verdict.turned:
            lines += ["", f"<details><summary>{verdict.title}: questions that turned</summary>", ""]
            lines += [f"- `{line.replace('`', chr(39))}`" for line in _named(verdict)]
            lines += ["", "</details>"]
    lines += [line for note in gate.notes for line in ("", _escaped(note))]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def to_junit(gate: Gate) -> str:
    """JUnit XML: one test a task, one for whether the results can be compared."""
    failures = sum(not verdict.passed for verdict in gate.verdicts) + bool(gate.reasons)
    suite = ElementTree.Element(
        "testsuite", name="orca-bench", tests=str(len(gate.verdicts) + 1), failures=str(failures), errors="0"
    )
    case = ElementTree.SubElement(suite, "testcase", classname="orca-bench", name="comparable")
    if gate.reasons:
        ElementTree.SubElement(case, "failure", message=_xml("; ".join(gate.reasons)))
    for verdict in gate.verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname="orca-bench", name=verdict.title)
        if not verdict.passed:
            failure = ElementTree.SubElement(case, "failure", message=_xml(verdict.reason))
            failure.text = _xml("\n".join(_named(verdict)))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """A text without the characters that XML 1.0 cannot hold."""
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "�" for c in text
    )


def annotations(gate: Gate) -> list[str]:
    """Workflow commands of GitHub Actions, one a failure."""
    failures = [("not comparable", reason) for reason in gate.reasons]
    failures += [(verdict.title, verdict.reason) for verdict in gate.verdicts if not verdict.passed]
    return [f"::error title=orca-bench {_command(title, True)}::{_command(text)}" for title, text in failures]


def _command(text: str, key: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if key else text


def to_json(gate: Gate) -> dict:
    """All facts, fractions of 1; with every turned question."""
    return {
        "passed": gate.passed,
        "headline": headline(gate),
        "reasons": gate.reasons,
        "notes": gate.notes,
        "tasks": [
            {
                "task": verdict.name,
                "passed": verdict.passed,
                "reason": verdict.reason,
                "baseline": verdict.before,
                "value": verdict.after,
                "p": None if verdict.p is None or not math.isfinite(verdict.p) else verdict.p,
                "turned": [
                    {"task": part, "row": row, "before": a.score, "after": b.score}
                    for (part, row), a, b in verdict.turned
                ],
            }
            for verdict in gate.verdicts
        ],
    }
