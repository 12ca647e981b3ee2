"""The lines of a group in, its tables as HTML out: tasks as rows, and of many models also models as rows.

On a narrow screen the style sheet turns the table of tasks into a card for each task (tables.css), so that nothing is to be
found by scrolling sideways. Means stand apart from tasks. Everything that a result says is escaped. Its own module because it
is the part of the page that people look at first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from orca_bench.report.comparison import Comparison
from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN
from orca_bench.report.grid import format_detectable, format_in_unit
from orca_bench.report.grid_formats import escape_html
from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.notes import NotedNumber
from orca_bench.report.page.page_groups import FEW_RESULTS, PageGroup
from orca_bench.report.page.score_lines import PageLine, PageScore, PageVerdict

#: The letters of the notes on a number, by result's label and line's name.
Badges: TypeAlias = Mapping[NotedNumber, str]

#: By the words of a verdict, its class in the style sheet and its sign.
_VERDICTS = {"better": ("better", "▲"), "worse": ("worse", "▼"), NO_DIFFERENCE_SHOWN: ("open", "≈")}


def score_tables(group: PageGroup, lines: Sequence[PageLine], comparison: Comparison | None, badges: Badges) -> str:
    """The tables of a group; `comparison` is that of two results, `badges` has the letters of the notes on single numbers, by
    result's label and line's name.
    """
    task_table = _task_table(group, lines, comparison, badges)
    if len(group.results) <= FEW_RESULTS:
        return f'<div class="scroll" tabindex="0" role="region" aria-label="Scores">{task_table}</div>\n'
    model_table = _model_table(group, lines, badges)
    return (
        f'<div class="scroll for-wide" tabindex="0" role="region" aria-label="Scores">{model_table}</div>\n'
        f'<div class="for-narrow">{task_table}</div>\n'
    )


def model_name(label: str, style: ModelStyle) -> str:
    """A result's name with the mark of its colour."""
    return f'<span class="dot" style="--color:{style.css_color}"></span><bdi>{escape_html(label)}</bdi>'


def _task_table(group: PageGroup, lines: Sequence[PageLine], comparison: Comparison | None, badges: Badges) -> str:
    has_reported = any(line.reported is not None for line in lines)
    headings = ['<th scope="col" role="columnheader">Task</th>']
    if has_reported:
        headings.append('<th scope="col" role="columnheader" class="number">Reported</th>')
    for styled_result in group.styled_results:
        headings.append(
            f'<th scope="col" role="columnheader">{model_name(styled_result.result_file.label, styled_result.style)}</th>'
        )
    has_verdict = any(line.verdict is not None for line in lines)
    if comparison is not None:
        labels = (
            f"<bdi>{escape_html(comparison.other_label)}</bdi> against <bdi>{escape_html(comparison.base_label)}</bdi>"
        )
        headings.append(f'<th scope="col" role="columnheader" class="verdict">{labels}</th>')
    elif has_verdict:
        headings.append('<th scope="col" role="columnheader" class="verdict">against reported</th>')
    bodies = []
    for is_mean in (False, True):
        rows = [_task_row(group, line, badges, has_reported, has_verdict) for line in lines if line.is_mean == is_mean]
        if rows:
            kind = "means" if is_mean else "tasks"
            bodies.append(f'<tbody class="{kind}" role="rowgroup">\n{"".join(rows)}</tbody>')
    table_class = "scores by-task single" if len(group.results) == 1 else "scores by-task"
    chance_text = ", the tick is chance" if any(line.chance is not None for line in lines) else ""
    return (
        f'<table class="{table_class}" role="table"><caption>{_unit_text(lines)} ± standard error; the bar is the 95 % '
        f"interval on a scale from 0 to 100{chance_text}.</caption>"
        f'<thead role="rowgroup"><tr role="row">{"".join(headings)}</tr></thead>\n{"".join(bodies)}</table>'
    )


def _unit_text(lines: Sequence[PageLine]) -> str:
    """What the numbers of a table are in, at the beginning of its caption."""
    has_units = any(score is not None and not score.is_percent for line in lines for score in line.scores)
    return "Percent, or the metric's own unit," if has_units else "Percent"


def _task_row(
    group: PageGroup,
    line: PageLine,
    badges: Badges,
    has_reported: bool,
    has_verdict: bool,
) -> str:
    title = escape_html(line.title)
    if line.is_mean:
        heading = f"<span>{title}</span>"
    else:
        task_name = escape_html(line.name.partition(":")[0])  # a further metric is called TASK:METRIC
        heading = f'<button type="button" data-task="{task_name}" title="show its questions">{title}</button>'
    details = f"<small>{escape_html(line.details)}</small>" if line.details else ""
    cells = [f'<th scope="row" role="rowheader">{heading}{details}</th>']
    if has_reported:
        text = "–" if line.reported is None else f"{line.reported:.2f}"
        cells.append(f'<td role="cell" class="number reported"><span class="card-label">Reported</span>{text}</td>')
    for styled_result, score in zip(group.styled_results, line.scores, strict=True):
        badge = badges.get(NotedNumber(styled_result.result_file.label, line.name), "")
        name = f'<span class="card-label">{model_name(styled_result.result_file.label, styled_result.style)}</span>'
        cells.append(
            f'<td role="cell" class="score">{name}{_score(score, styled_result.style, line.chance, badge)}</td>'
        )
    if has_verdict:
        cells.append(_verdict_cell(line.verdict))
    return f'<tr role="row">{"".join(cells)}</tr>\n'


def _score(score: PageScore | None, style: ModelStyle, chance: float | None, badge: str) -> str:
    """A number with its error, and below it the interval as a bar."""
    if score is None:
        return '<span class="value">–</span>'
    value = f"{score.value:.2f}"
    if score.is_best:
        value = f'<b title="significantly the best of these scores">{value}</b>'
    if score.stderr:
        value += f" <small>± {score.stderr:.2f}</small>"
    elif score.interval is not None:
        low, high = score.interval
        value += f" <small>[{low:.1f}, {high:.1f}]</small>"
    if badge:
        value += f'<sup><a href="#notes" title="see the notes">{escape_html(badge)}</a></sup>'
    return f'<span class="value">{value}</span>{_interval_bar(score, style, chance)}'


def _interval_bar(score: PageScore, style: ModelStyle, chance: float | None) -> str:
    if score.interval is None:
        return ""
    if not score.is_percent:
        return f"<small>95 % interval {score.interval[0]:.2f} to {score.interval[1]:.2f}</small>"
    low, high = (max(0.0, min(100.0, bound)) for bound in score.interval)
    chance_style = "" if chance is None else f";--chance:{chance:.4g}"
    chance_class = "" if chance is None else " with-chance"
    title = f"95 % interval {low:.1f} to {high:.1f}" + ("" if chance is None else f"; chance {chance:.4g}")
    numbers = f"--low:{low:.2f};--high:{high:.2f};--value:{score.value:.2f}{chance_style}"
    return (
        f'<span class="interval{chance_class}" style="{numbers};--color:{style.css_color}" title="{title}">'
        '<span class="bar"></span><span class="point"></span></span>'
    )


def _verdict_cell(verdict: PageVerdict | None) -> str:
    if verdict is None:
        return '<td role="cell" class="verdict"></td>'
    numbers = ""
    if verdict.value is not None:
        value, error = (
            format_in_unit(number, verdict.unit, signed)
            for number, signed in ((verdict.value / 100, True), ((verdict.stderr or 0.0) / 100, False))
        )
        error_text = f" ± {error}" if verdict.stderr else ""
        numbers = f"{value}{error_text} {verdict.unit or 'points'}".replace("-", "−")
        if verdict.words == NO_DIFFERENCE_SHOWN and verdict.smallest_detectable is not None:
            numbers += f"; {format_detectable(verdict.smallest_detectable / 100, verdict.unit)} would have been"
    css_class, sign = _VERDICTS.get(verdict.words, ("open", ""))
    sign_html = f'<span aria-hidden="true">{sign}</span> ' if sign else ""
    return (
        '<td role="cell" class="verdict"><span class="card-label">Verdict</span>'
        f'<span class="{css_class}">{sign_html}{escape_html(verdict.words)}</span><small>{escape_html(numbers)}</small></td>'
    )


def _model_table(group: PageGroup, lines: Sequence[PageLine], badges: Badges) -> str:
    """Models as rows, the best mean first, reported scores last; a click on a heading sorts by it."""
    ordered_lines = [line for line in lines if line.is_mean] + [line for line in lines if not line.is_mean]
    headings = [_sort_heading("Model", "model")] + [
        _sort_heading(line.title, "mean" if line.is_mean else "task", line.details) for line in ordered_lines
    ]
    rows = []
    for index, styled_result in enumerate(group.styled_results):
        label = styled_result.result_file.label
        cells = [f'<th scope="row" title="{escape_html(label)}">{model_name(label, styled_result.style)}</th>']
        for line in ordered_lines:
            score = line.scores[index]
            badge = badges.get(NotedNumber(label, line.name), "")
            number = "" if score is None else f' data-number="{score.value:.6f}"'
            css_class = "score mean" if line.is_mean else "score"
            cells.append(
                f'<td class="{css_class}"{number}>{_score(score, styled_result.style, line.chance, badge)}</td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    if any(line.reported is not None for line in lines):
        reported_cells = "".join(
            f'<td class="score reported">{"–" if line.reported is None else f"{line.reported:.2f}"}</td>'
            for line in ordered_lines
        )
        rows.append(f'<tr class="reported"><th scope="row">Reported</th>{reported_cells}</tr>\n')
    return (
        f'<table class="scores by-model"><caption>{_unit_text(lines)} ± standard error; bars are 95 % intervals on a scale '
        "from 0 to 100, ticks are chance. Bold: significantly the best of its column.</caption>"
        f"<thead><tr>{''.join(headings)}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table>"
    )


def _sort_heading(title: str, kind: str, details: str = "") -> str:
    return (
        f'<th scope="col" class="{kind}"><button type="button" class="sort" title="{escape_html(details or "sort")}">'
        f"{escape_html(title)}</button></th>"
    )
