"""The gate's report in, its form for a terminal out: sentence, table, lost questions, notes, and the verdict again.

Its own module because a terminal has a width: no line of the table ever wraps, columns are left out instead, and what is left
out is not explained.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_bench.report.gate import GateReport, TaskVerdict
from orca_bench.report.gate_comparability import Obstacle
from orca_bench.report.gate_questions import question_blocks
from orca_bench.report.gate_sentence import closing_line, format_loss, gate_sentence
from orca_bench.report.grid import column_unit, display_text, format_in_unit, format_p

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

_DIFFERENCE, _LOSS = "Δ ± error", "finds ≥"
_HEADINGS = ("", "Task", "baseline", "now", _DIFFERENCE, "p", _LOSS, "fell", "verdict")
_LEFT_HEADINGS = ("", "Task", "verdict")
#: What a narrow terminal leaves out, in this order.
_DROPPABLE_HEADINGS = ("fell", "p", "baseline", _LOSS, "now", _DIFFERENCE)
_UNLIMITED_WIDTH = 10_000


def to_rich(report: GateReport, max_questions: int | None) -> RenderableType:
    """The report as a rich renderable, with so many lost questions of each task that fails; None: all of them."""
    return _Terminal(report, max_questions)


@dataclass(frozen=True)
class _Terminal:
    report: GateReport
    max_questions: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """rich's protocol: the parts from top to bottom."""
        from rich.text import Text

        report, width = self.report, options.max_width
        style = "green" if report.passed else "red"
        if report.obstacles:
            yield Text(display_text(f"failed: not comparable with {report.baseline}"), style=style)
            for obstacle in report.obstacles:
                yield from (Text(line) for line in _obstacle_lines(obstacle, width))
            yield from self._question_texts()
            return
        yield Text(_wrapped(gate_sentence(report), width, ""), style=style)
        if not report.verdicts:
            return
        yield Text("")
        headings, table = _fitting_table(report, console, options)
        yield table
        for line in _legend(report, headings, width):
            yield Text(_wrapped(line, width, "  "), style="dim")
        yield from self._question_texts()
        for warning in report.warnings:
            yield Text(_wrapped(f"! {warning}", width, "  "), style="yellow")
        for note in report.notes:
            yield Text(_wrapped(f"• {note}", width, "  "), style="dim")
        yield Text("")
        yield Text(display_text(closing_line(report)), style=style)

    def _question_texts(self) -> Iterator[Text]:
        """The questions that fell or changed, a line each."""
        from rich.text import Text

        lines = [line for block in question_blocks(self.report, self.max_questions) for line in block]
        yield from (Text(display_text(line), style="dim") for line in lines)
        if any(line.startswith("  … ") for line in lines):
            yield Text("(--questions all names every one)", style="dim")


def _obstacle_lines(obstacle: Obstacle, width: int) -> Iterator[str]:
    """What differs in two lines, as the result and the baseline have it."""
    yield _wrapped(obstacle.text, width, "  ")
    if obstacle.here:
        yield _wrapped(f"  here:     {obstacle.here}", width, " " * 12)
        yield _wrapped(f"  baseline: {obstacle.there}", width, " " * 12)


def _wrapped(text: str, width: int, indent: str) -> str:
    return textwrap.fill(
        display_text(text), max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _legend(report: GateReport, headings: Sequence[str], width: int) -> list[str]:
    """What the columns mean that are shown."""
    lines = []
    unit = column_unit("points", (verdict.unit for verdict in report.verdicts if verdict.comparison))
    if _DIFFERENCE in headings:
        error_text = (
            "its standard error" if report.baseline_count == 1 else "the larger of its errors by questions and seeds"
        )
        lines.append(f"Δ: now minus baseline, in {unit}, ± {error_text}")
    if _LOSS in headings:
        is_blind = any(_loss_text(verdict) == "none" for verdict in report.verdicts)
        blind_text = "; none: not even a fall to 0" if is_blind else ""
        lines.append(f"{_LOSS}: the smallest true loss, in {unit}, that is found four times in five{blind_text}")
    if len(headings) < len(_HEADINGS):
        hidden = ", ".join(heading for heading in _HEADINGS if heading not in headings)
        lines.append(f"… left out at {width} columns: {hidden} (--format markdown has all)")
    return lines


def _fitting_table(report: GateReport, console: Console, options: ConsoleOptions) -> tuple[list[str], Table]:
    """The headings that fit, and the table: the widest that does not wrap."""
    from rich.measure import Measurement

    headings, table = list(_HEADINGS), _table(report, _HEADINGS, decimals=2)
    for dropped_heading in (None, None, *_DROPPABLE_HEADINGS):
        if Measurement.get(console, options.update(max_width=_UNLIMITED_WIDTH), table).maximum <= options.max_width:
            break
        headings = [heading for heading in headings if heading != dropped_heading]
        table = _table(report, headings, decimals=1)
    return headings, table


def _table(report: GateReport, headings: Sequence[str], decimals: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        is_left = heading in _LEFT_HEADINGS
        table.add_column(Text(heading), justify="left" if is_left else "right", no_wrap=True, overflow="fold")
    for verdict in report.verdicts:
        style = "green" if verdict.passed else "red"
        cells = dict(zip(_HEADINGS, cell_texts(verdict, decimals), strict=True))
        table.add_row(
            *(
                Text(display_text(cells[heading]), style=style if heading in ("", "verdict") else "")
                for heading in headings
            )
        )
    return table


def cell_texts(verdict: TaskVerdict, decimals: int = 2) -> list[str]:
    """A task's cells under mark, task, baseline, now, Δ, p, smallest loss, lost questions, verdict; percent and points.

    `decimals` are those of Δ and its error.
    """
    comparison = verdict.comparison
    difference_text = p_text = ""
    if comparison is not None:
        error_text = " ± –" if comparison.stderr is None else f" ± {100 * comparison.stderr:.{decimals}f}"
        difference_text = f"{100 * comparison.difference:+.{decimals}f}{error_text}"
        if verdict.unit:
            difference_text = format_in_unit(comparison.difference, verdict.unit, signed=True)
            difference_text += f" ± {format_in_unit(comparison.stderr, verdict.unit)}"
        p_text = format_p(comparison.p)
    return [
        "✓" if verdict.passed else "✗",
        verdict.title,
        format_in_unit(comparison.baseline_score if comparison else None, verdict.unit),
        format_in_unit(verdict.result_score, verdict.unit),
        difference_text,
        p_text,
        _loss_text(verdict),
        str(len(verdict.lost_questions)),
        f"below {verdict.floor:g}" if verdict.outcome == "below the floor" else verdict.outcome,
    ]


def _loss_text(verdict: TaskVerdict) -> str:
    """The smallest loss that would have been found, for a task that shows none."""
    return format_loss(verdict.comparison) if verdict.comparison and verdict.outcome == "no loss shown" else ""
