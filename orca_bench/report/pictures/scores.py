"""The scores of all tasks with their 95 % intervals, reported scores and chance.

Up to four models: a block for each task, in it a line for each model on one axis from 0 to 100. More models: a line for each
model and a column for each task, so that each name stands once; on a narrow screen blocks again. Its own module because this
picture has two layouts.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.report.pictures.axes import (
    CHANCE_SYMBOL,
    Scale,
    chance_line,
    percent_scale,
    vertical_grid,
)
from orca_bench.report.pictures.drawing import (
    SMALL_SIZE,
    TEXT_SIZE,
    Area,
    Canvas,
    Drawing,
    Group,
    Label,
    Role,
    Shape,
)
from orca_bench.report.pictures.parts import Part
from orca_bench.report.pictures.picture import NARROW_WIDTH, WIDE_WIDTH, Picture, start_canvas
from orca_bench.report.pictures.score_matrix import draw_matrix
from orca_bench.report.pictures.score_series import Series, question_text, score_shapes, series_of, task_words
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.suite import TaskFacts

_MAX_BLOCK_MODELS = 4  # of more models the wide layout has a line for each
_LINE, _BLOCK_GAP = 17.0, 12.0  # pixels, of a model's line and between blocks
_LABEL_COLUMN, _VALUE_COLUMN = 170.0, 52.0


def draw_scores(part: Part, reported_scores: ReportedScores | None = None) -> Picture:
    """The picture of a part; reported scores of tasks in which all its results may be compared with them."""
    all_series = series_of(part, reported_scores)
    title = f"{part.models_text}: scores by task"
    return Picture(
        "scores",
        f"scores{part.name_suffix}",
        title,
        _description(part, all_series),
        _blocks(part, all_series, title, is_narrow=False)
        if len(part.styled_results) <= _MAX_BLOCK_MODELS
        else draw_matrix(part, all_series, title),
        _blocks(part, all_series, title, is_narrow=True),
    )


def _description(part: Part, all_series: Sequence[Series]) -> str:
    sentences = [f"Scores by task with 95 percent intervals; {part.measurement_text()}."]
    sentences += [task_words(task, all_series) + "." for task in part.tasks]
    return " ".join(sentences)


def _legend(canvas: Canvas, tasks: Sequence[TaskFacts], all_series: Sequence[Series]) -> None:
    entries: list[tuple[Sequence[Shape], str]] = [(series.symbol(), series.name) for series in all_series]
    if any(task.chance_percent is not None for task in tasks):
        entries.append((CHANCE_SYMBOL, "chance"))
    canvas.legend(entries)


def _blocks(part: Part, all_series: Sequence[Series], title: str, is_narrow: bool) -> Drawing:
    """A block for each task; in the narrow layout the task's name stands above its block."""
    canvas = start_canvas(NARROW_WIDTH if is_narrow else WIDE_WIDTH, title, part.measurement_text())
    _legend(canvas, part.tasks, all_series)
    canvas.y += 8
    left = canvas.left + (8 if is_narrow else _LABEL_COLUMN)
    scale = percent_scale(left, canvas.right - _VALUE_COLUMN)
    top, groups = canvas.y, []
    for task in part.tasks:
        groups.append(_block(canvas, part, task, all_series, scale, is_narrow))
    bottom = canvas.y
    canvas.add(*vertical_grid(scale, [(top, bottom)], bottom), *groups)
    canvas.y = bottom + SMALL_SIZE + 8
    canvas.paragraph("score in percent; bars are 95 % intervals", SMALL_SIZE, Role.MUTED, x=None if is_narrow else left)
    return canvas.finish()


def _block(
    canvas: Canvas, part: Part, task: TaskFacts, all_series: Sequence[Series], scale: Scale, is_narrow: bool
) -> Group:
    block_top, shapes = canvas.y, list[Shape]()
    task_series = [series for series in all_series if task.name in series.scores]
    facts = f"{task.metric} · {question_text(part, task)}"
    if is_narrow:
        name = Label(canvas.left, block_top + 16, task.title, TEXT_SIZE, is_bold=True)
        facts_label = Label(canvas.right, block_top + 16, facts, SMALL_SIZE, "end", Role.MUTED)
        shapes += [name, facts_label]
        first_line, height = block_top + 24.0, 24.0 + len(task_series) * _LINE + _BLOCK_GAP / 2
    else:
        height = max(36.0, len(task_series) * _LINE) + _BLOCK_GAP
        center = block_top + height / 2
        shapes += [
            Label(canvas.left, center - 3, task.title, TEXT_SIZE, is_bold=True),
            Label(canvas.left, center + SMALL_SIZE + 1, facts, SMALL_SIZE, paint=Role.MUTED),
        ]
        first_line = center - len(task_series) * _LINE / 2
    if task.chance_percent is not None:
        x = scale.pixel(task.chance_percent)
        shapes.append(chance_line(x, first_line, first_line + len(task_series) * _LINE))
    for index, series in enumerate(task_series):
        y = first_line + (index + 0.5) * _LINE
        score = series.scores[task.name]
        shapes += score_shapes(scale, y, score, series.style)
        value_x = canvas.right
        shapes.append(Label(value_x, y + 4.3, f"{score.value:.1f}", SMALL_SIZE, "end"))
    canvas.y += height
    area = Area(canvas.left, block_top, canvas.inner_width, height, Role.BACKGROUND, 0)
    return Group((area, *shapes), task.name, task_words(task, all_series))
