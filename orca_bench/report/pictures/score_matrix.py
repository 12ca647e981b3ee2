"""The scores of many models: a line for each model, so that each name stands once, and a column for each task.

Each column has a scale of its own, for in a seventh of the width scores between 0 and 100 would lie on one another. Its own
module because this layout shares no line with the blocks of scores.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.axes import Scale, chance_line, round_scale, tick_text
from orca_bench.report.pictures.drawing import (
    SMALL_SIZE,
    Area,
    Canvas,
    Drawing,
    Group,
    Label,
    Line,
    Point,
    Role,
    Shape,
    wrapped_labels,
)
from orca_bench.report.pictures.parts import Part, Score
from orca_bench.report.pictures.picture import WIDE_WIDTH, start_canvas
from orca_bench.report.pictures.score_series import Series, question_text, score_shapes, task_words
from orca_bench.report.pictures.text_layout import text_width
from orca_bench.suite import TaskFacts

_NAME_COLUMN = 190.0  # pixels
_FACTS_SIZE = 11.0
_VALUE_HALF_WIDTH = 15.0  # of a score's number


@dataclass(frozen=True)
class _Column:
    """A task's column: its edges, its scale, and its heading."""

    task: TaskFacts
    left: float
    right: float
    scale: Scale
    heading_labels: tuple[Label, ...]


def draw_matrix(part: Part, all_series: Sequence[Series], title: str) -> Drawing:
    """The drawing of a part in the wide layout."""
    canvas = start_canvas(WIDE_WIDTH, title, part.measurement_text())
    heading_top = canvas.y
    columns = _columns(canvas, part, all_series)
    top = canvas.y
    name_shapes: list[Shape] = []
    cells: dict[str, list[Shape]] = {column.task.name: [] for column in columns}
    for series in all_series:
        rule = Line(((canvas.left, canvas.y), (canvas.right, canvas.y)), Role.GRID)
        labels, height = _name_labels(canvas, series.name)
        center = canvas.y + height / 2
        marker = "x" if series.style is None else series.style.marker
        name_shapes += [rule, *labels, Point(canvas.left + 12, center, marker, series.style or Role.INK)]
        for column in columns:
            if column.task.name in series.scores:
                score = series.scores[column.task.name]
                cells[column.task.name] += _cell(column.scale, center, score, series.style, column.task.chance_percent)
        canvas.y += height
    canvas.add(*name_shapes)
    for column in columns:
        area = Area(column.left, heading_top, column.right - column.left, canvas.y - heading_top, Role.BACKGROUND, 0)
        axis = _column_axis(column.scale, top, canvas.y)
        shapes = [area, *column.heading_labels, *axis, *cells[column.task.name]]
        canvas.add(Group(tuple(shapes), column.task.name, task_words(column.task, all_series)))
    canvas.y += SMALL_SIZE + 8
    text = "score in percent; bars are 95 % intervals; each task has its own scale"
    has_chance = any(column.task.chance_percent is not None for column in columns)
    canvas.paragraph(f"{text}; dotted: chance" if has_chance else text, SMALL_SIZE, Role.MUTED)
    return canvas.finish()


def _columns(canvas: Canvas, part: Part, all_series: Sequence[Series]) -> list[_Column]:
    """The columns of the tasks, with their headings, below which the canvas goes on."""
    tasks = part.tasks
    pitch = (canvas.inner_width - _NAME_COLUMN) / len(tasks)
    columns, lowest = [], canvas.y
    for index, task in enumerate(tasks):
        left = canvas.left + _NAME_COLUMN + index * pitch
        width = pitch - 6
        wide_heading, narrow_heading = task.column_headings
        heading = wide_heading if text_width(wide_heading, SMALL_SIZE, True) <= width else narrow_heading
        labels, bottom = wrapped_labels(heading, left + 4, canvas.y, width, SMALL_SIZE, is_bold=True)
        for text in (task.metric, f"n {question_text(part, task).rpartition(' ')[0].replace(' to ', '–')}"):
            facts, bottom = wrapped_labels(text, left + 4, bottom, width, _FACTS_SIZE, Role.MUTED)
            labels += facts
        scale = _scale(task, all_series, left + 12, left + pitch - 8)
        columns.append(_Column(task, left, left + pitch, scale, tuple(labels)))
        lowest = max(lowest, bottom)
    canvas.y = lowest + 4
    return columns


def _scale(task: TaskFacts, all_series: Sequence[Series], start: float, end: float) -> Scale:
    """A scale that holds all scores of a task, and chance; only its ends have room for their numbers."""
    scores = [series.scores[task.name] for series in all_series if task.name in series.scores]
    numbers = [number for score in scores for number in (score.low, score.high)]
    if task.chance_percent is not None:
        numbers.append(task.chance_percent)
    scale = round_scale(numbers, start, end, 4)
    return replace(scale, ticks=(scale.low, scale.high))


def _column_axis(scale: Scale, top: float, bottom: float) -> list[Shape]:
    """Lines at both ends of a column's scale, with their numbers turned inwards, away from those of its neighbours."""
    low, high = ((tick, scale.pixel(tick)) for tick in scale.ticks)
    y = bottom + SMALL_SIZE + 3
    return [
        *(Line(((x, top), (x, bottom)), Role.GRID) for _, x in (low, high)),
        Label(low[1] - 4, y, tick_text(low[0]), SMALL_SIZE, "start", Role.MUTED),
        Label(high[1] + 4, y, tick_text(high[0]), SMALL_SIZE, "end", Role.MUTED),
    ]


def _name_labels(canvas: Canvas, name: str) -> tuple[list[Label], float]:
    """A model's name in the middle of its line, and the line's height in pixels."""
    labels, bottom = wrapped_labels(name, canvas.left + 26, canvas.y + 8, _NAME_COLUMN - 34, SMALL_SIZE)
    height = max(32.0, bottom - canvas.y + 8)
    shift = canvas.y + height / 2 - (labels[0].y + labels[-1].y) / 2 + SMALL_SIZE * 0.36
    return [replace(label, y=label.y + shift) for label in labels], height


def _cell(
    scale: Scale, center: float, score: Score, style: ModelStyle | None, chance_percent: float | None
) -> list[Shape]:
    """A score with its number above it, which stays within the column, and chance."""
    lowest, highest = scale.start - 8 + _VALUE_HALF_WIDTH, scale.end + 6 - _VALUE_HALF_WIDTH
    x = min(max(scale.pixel(score.value), lowest), highest)
    number = Label(x, center - 4, f"{score.value:.1f}", 11, "middle")
    # Chance is marked below the number, which it would strike through.
    chance_x = None if chance_percent is None else scale.pixel(chance_percent)
    chance = [] if chance_x is None else [chance_line(chance_x, center - 1, center + 15)]
    return [*chance, *score_shapes(scale, center + 7, score, style), number]
