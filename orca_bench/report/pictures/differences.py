"""The differences of two results with their 95 % intervals, task by task, and whether each is shown to be one.

Its own module because it alone draws a comparison and not scores.
"""

from __future__ import annotations

from dataclasses import replace

from orca_bench.report.comparison import Comparison
from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN, ComparisonLine
from orca_bench.report.conclusions import comparison_sentence
from orca_bench.report.grid import format_detectable
from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.axes import Scale, interval_shapes, round_scale, symbol, vertical_grid
from orca_bench.report.pictures.drawing import (
    SMALL_SIZE,
    TEXT_SIZE,
    Area,
    Canvas,
    Drawing,
    Group,
    Label,
    Line,
    Point,
    Role,
    Shape,
)
from orca_bench.report.pictures.parts import Part
from orca_bench.report.pictures.picture import NARROW_WIDTH, WIDE_WIDTH, Picture, start_canvas
from orca_bench.report.pictures.text_layout import wrap_text

_LABEL_COLUMN, _VALUE_COLUMN = 150.0, 284.0
_WIDE_LINE, _NARROW_LINE = 42.0, 66.0
_NARROW_CENTER = 49.0  # of a line's interval, below its texts


def draw_differences(part: Part, comparison: Comparison) -> Picture:
    """The picture of a part of two results and their comparison, the second minus the first."""
    base, candidate = part.styled_results
    # The names of the picture, whose direction cannot change that of the sentence around them.
    comparison = replace(comparison, base_label=base.name, other_label=candidate.name)
    # All differences share one axis of points, better to the right, on which a perplexity has no place.
    lines = [line for line in comparison.lines if not line.unit and line.higher_is_better]
    comparison = replace(comparison, lines=lines)
    title = f"{candidate.name} minus {base.name}: difference by task"
    return Picture(
        "differences",
        f"differences{part.name_suffix}",
        title,
        _description(part, comparison, base.name, candidate.name),
        _draw(part, comparison, title, is_narrow=False),
        _draw(part, comparison, title, is_narrow=True),
    )


def _description(part: Part, comparison: Comparison, base_name: str, candidate_name: str) -> str:
    head = f"Differences in points with 95 percent intervals, {candidate_name} minus {base_name}; {part.measurement_text()}."
    return " ".join([head, *(f"{_line_words(line)}." for line in comparison.lines)])


def _line_words(line: ComparisonLine) -> str:
    if line.difference is None:
        return f"{line.title}: not compared, {line.note}"
    difference = line.difference
    interval = f"95 percent interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    return f"{line.title}: {100 * difference.value:+.2f} points, {interval}, {_verdict(line)}"


def _verdict(line: ComparisonLine) -> str:
    """The verdict, with the smallest difference that would have been found where none is shown."""
    if line.is_significant or not line.smallest_detectable:
        return line.verdict
    return f"{line.verdict} ({format_detectable(line.smallest_detectable)} would be)"


def _draw(part: Part, comparison: Comparison, title: str, is_narrow: bool) -> Drawing:
    base, candidate = part.styled_results
    canvas = start_canvas(
        NARROW_WIDTH if is_narrow else WIDE_WIDTH,
        title,
        part.measurement_text(),
        sentence=comparison_sentence(comparison),
    )
    canvas.legend(
        [
            (symbol(candidate.style), f"right of 0: {candidate.name} is better"),
            (symbol(base.style), f"left of 0: {base.name} is better"),
            (
                [Line(((-11, 0), (11, 0)), Role.MUTED, 1.6), Point(0, 0, "circle", Role.MUTED, is_hollow=True)],
                f"hollow: {NO_DIFFERENCE_SHOWN}",
            ),
        ]
    )
    canvas.y += 10
    lines = [line for line in comparison.lines if line.difference is not None]
    left = canvas.left + (8 if is_narrow else _LABEL_COLUMN)
    right = canvas.right - (8 if is_narrow else _VALUE_COLUMN)
    numbers = [100 * end for line in lines if line.difference for end in (line.difference.low, line.difference.high)]
    scale = round_scale([0.0, *numbers], left, right, 4 if is_narrow else 5)
    top, line_shapes, line_centers = canvas.y, list[Shape | Group](), list[float]()
    is_mean_before = False
    for line in lines:
        is_mean = line.is_average
        if is_mean and not is_mean_before:
            canvas.y += 4
            rule = ((canvas.left, canvas.y), (canvas.right, canvas.y))
            line_shapes.append(Line(rule, Role.MUTED))
            canvas.y += 4
        is_mean_before = is_mean
        line_centers.append(canvas.y + (_NARROW_CENTER if is_narrow else _WIDE_LINE / 2))
        line_shapes.append(_line_group(canvas, line, scale, (base.style, candidate.style), is_narrow))
    bottom = canvas.y
    zero = scale.pixel(0)
    # In the narrow layout texts stand above each interval, and no line crosses them.
    bands = [(y - 15, y + 12) for y in line_centers] if is_narrow else [(top, bottom)]
    canvas.add(*vertical_grid(scale, bands, bottom, is_signed=True))
    canvas.add(*(Line(((zero, band_top), (zero, band_bottom)), Role.INK, 1.4) for band_top, band_bottom in bands))
    canvas.add(*line_shapes)
    canvas.y = bottom + SMALL_SIZE + 8
    canvas.paragraph(
        "difference in points; bars are 95 % intervals, each of its line alone; verdicts hold for all lines together (5 %, Holm)",
        SMALL_SIZE,
        Role.MUTED,
    )
    for line in comparison.lines:
        if line.difference is None:
            canvas.paragraph(f"{line.title} is not compared: {line.note}", SMALL_SIZE, Role.MUTED)
    return canvas.finish()


def _line_group(
    canvas: Canvas, line: ComparisonLine, scale: Scale, styles: tuple[ModelStyle, ModelStyle], is_narrow: bool
) -> Group:
    """One task's or mean's difference; `styles` are those of the first and the second result."""
    assert line.difference is not None
    difference, verdict, is_significant = line.difference, _verdict(line), line.is_significant
    style = styles[1] if difference.value > 0 else styles[0]
    value_text = f"{100 * difference.value:+.1f}".replace("-", "−")
    interval = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]".replace("-", "−")
    top, shapes = canvas.y, list[Shape]()
    height = _NARROW_LINE if is_narrow else _WIDE_LINE
    y = top + (_NARROW_CENTER if is_narrow else height / 2)
    paint = style if is_significant else Role.MUTED
    shapes += interval_shapes(scale, y, 100 * difference.low, 100 * difference.high, paint, 2)
    marker = style.marker if is_significant else "circle"
    shapes.append(Point(scale.pixel(100 * difference.value), y, marker, paint, 6, is_hollow=not is_significant))
    if is_narrow:
        shapes += [
            Label(canvas.left, top + 16, line.title, TEXT_SIZE, is_bold=True),
            Label(canvas.right, top + 16, f"{value_text} {interval}", SMALL_SIZE, "end"),
            Label(canvas.left, top + 32, verdict, SMALL_SIZE, paint=Role.INK if is_significant else Role.MUTED),
        ]
    else:
        text_x = canvas.right - _VALUE_COLUMN + 28
        titles = wrap_text(line.title, TEXT_SIZE, _LABEL_COLUMN, is_bold=True)
        title_y = y + 4.5 - (len(titles) - 1) * 8
        shapes += [
            Label(canvas.left, title_y + 16 * index, text, TEXT_SIZE, is_bold=True) for index, text in enumerate(titles)
        ]
        shapes += [
            Label(text_x, y - 2.5, f"{value_text} {interval}", TEXT_SIZE),
            Label(
                text_x,
                y + 13,
                verdict,
                SMALL_SIZE,
                is_bold=is_significant,
                paint=Role.INK if is_significant else Role.MUTED,
            ),
        ]
    canvas.y += height
    area = Area(canvas.left, top, canvas.inner_width, height, Role.BACKGROUND, 0)
    return Group((area, *shapes), "" if line.is_average else line.name, _line_words(line))
