"""The scores of a training run's checkpoints over its optimizer steps, a small picture for each task, a line for each run.

All small pictures have the same axes. Its own module because it alone knows steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.errors import UserError
from orca_bench.report.model_colors import ModelStyle, name_styles
from orca_bench.report.pictures.axes import CHANCE_DASH, Scale, round_scale, symbol, tick_text
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
from orca_bench.report.pictures.parts import Part, Score, percent_score
from orca_bench.report.pictures.picture import NARROW_WIDTH, WIDE_WIDTH, Picture, start_canvas
from orca_bench.report.pictures.text_layout import isolate, text_width
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.suite import TaskFacts

_MAX_COLUMNS = 4
_PANEL_HEIGHT = 130.0  # pixels, of the axes of one task
_CHANCE_SYMBOL = (Line(((-11, 0), (11, 0)), Role.MUTED, 1.6, CHANCE_DASH),)


@dataclass(frozen=True)
class _Run:
    """One run: its name and style, and its results by step."""

    name: str
    style: ModelStyle
    results: dict[int, Result]

    def scores(self, task: TaskFacts) -> list[tuple[int, Score]]:
        """(step, score) of a task, in the order of the steps."""
        return [
            (step, percent_score(result.tasks[task.name]))
            for step, result in sorted(self.results.items())
            if task.name in result.tasks
        ]


def draw_known_steps(part: Part) -> Picture | None:
    """The picture of those results of a part that say their run and step; None where no run has two steps.

    A run with two results of one step is left out: nothing says which of them belongs to the line.
    """
    results_by_run: dict[str, list[ResultFile]] = {}
    for styled_result in part.styled_results:
        model = styled_result.result.model
        if model.run is not None and model.step is not None:
            results_by_run.setdefault(model.run, []).append(styled_result.result_file)
    steps_by_run = {run: [item.result.model.step for item in results] for run, results in results_by_run.items()}
    results = [
        result_file
        for run, run_results in results_by_run.items()
        if len(set(steps_by_run[run])) == len(run_results) > 1
        for result_file in run_results
    ]
    return draw_steps(part, results, None) if results else None


def draw_steps(part: Part, results: Sequence[ResultFile], steps: Sequence[int] | None) -> Picture:
    """The picture of some results of a part; `steps` are their steps, None takes them from the results or their names.

    Raises UserError where a step is not known, or occurs twice in one run.
    """
    runs = _group_by_run(results, steps)
    run_part = Part(
        part.suite,
        part.protocol,
        tuple(item for item in part.styled_results if item.result_file in results),
        part.name_suffix,
    )
    names = " and ".join(run.name for run in runs) if len(runs) <= 2 else f"{len(runs)} runs"
    title = f"{names}: scores over training steps"
    return Picture(
        "steps",
        f"steps{part.name_suffix}",
        title,
        _description(run_part, runs),
        _draw(run_part, runs, title, is_narrow=False),
        _draw(run_part, runs, title, is_narrow=True),
    )


def _group_by_run(results: Sequence[ResultFile], steps: Sequence[int] | None) -> list[_Run]:
    results_by_run: dict[str, dict[int, Result]] = {}
    for index, result_file in enumerate(results):
        step = _step_of_result(result_file) if steps is None else steps[index]
        # Results that do not say their run are taken for one, as the caller gave them together.
        run_name = result_file.result.model.run or "checkpoints"
        results_by_step = results_by_run.setdefault(run_name, {})
        if step in results_by_step:
            raise UserError(f"two results of step {step}", where=result_file.path, hint="give one result of each step")
        results_by_step[step] = result_file.result
    styles = name_styles(list(results_by_run))
    return [_Run(isolate(name), styles[name], results_by_step) for name, results_by_step in results_by_run.items()]


def _step_of_result(result_file: ResultFile) -> int:
    """The step that the model's folder says, else that in its name or the result's: step-500, checkpoint_500, global_step500."""
    model = result_file.result.model
    if model.step is not None:
        return model.step
    for text in (str(model.path), result_file.label, result_file.path.stem):
        step_numbers = re.findall(r"(?:step|checkpoint)[-_]?(\d+)", text)
        if step_numbers:
            return int(step_numbers[-1])
    raise UserError(
        "no step in the name of this result or its model", where=result_file.path, hint="give --steps 100,200,…"
    )


def _description(part: Part, runs: Sequence[_Run]) -> str:
    sentences = [f"Scores over training steps with 95 percent intervals; {part.measurement_text()}."]
    return " ".join([*sentences, *(f"{_task_words(task, runs)}." for task in part.tasks)])


def _task_words(task: TaskFacts, runs: Sequence[_Run]) -> str:
    lines = [
        f"{run.name} " + ", ".join(f"step {step:,} {score.words}" for step, score in run.scores(task))
        for run in runs
        if run.scores(task)
    ]
    return f"{task.title} ({task.metric}): {'; '.join(lines)}"


def _draw(part: Part, runs: Sequence[_Run], title: str, is_narrow: bool) -> Drawing:
    tasks = part.tasks
    text = "score in percent with 95 % intervals; all panels have the same axes"
    canvas = start_canvas(NARROW_WIDTH if is_narrow else WIDE_WIDTH, title, part.measurement_text(), text)
    entries: list[tuple[Sequence[Shape], str]] = [(symbol(run.style), run.name) for run in runs]
    if any(task.chance_percent is not None for task in tasks):
        entries.append((_CHANCE_SYMBOL, "chance"))
    column_count = min(len(tasks), 2 if is_narrow else _MAX_COLUMNS)
    column_count = -(-len(tasks) // -(-len(tasks) // column_count))  # five tasks in rows of three, not of four
    has_empty_cell = len(tasks) % column_count != 0
    if not has_empty_cell:
        canvas.legend(entries)
    canvas.y += 6
    pitch = canvas.inner_width / column_count
    for start in range(0, len(tasks), column_count):
        row_tasks = tasks[start : start + column_count]
        row_top = canvas.y
        _draw_panels(canvas, row_tasks, pitch, runs, tasks)
        if len(row_tasks) < column_count:
            cell = Canvas(canvas.width, canvas.left + len(row_tasks) * pitch + 20, row_top + 16)
            cell.legend(entries)
            canvas.add(*cell.shapes)
            canvas.y = max(canvas.y, cell.y)
    return canvas.finish()


def _draw_panels(
    canvas: Canvas, row_tasks: Sequence[TaskFacts], pitch: float, runs: Sequence[_Run], tasks: Sequence[TaskFacts]
) -> None:
    """A row of panels, one every `pitch` pixels; `tasks` are those of all rows, whose scores share the axis."""
    top = canvas.y + TEXT_SIZE + 12
    bottom = top + _PANEL_HEIGHT
    all_scores = [score for run in runs for task in tasks for _, score in run.scores(task)]
    # From zero, so that heights compare; pixels count down.
    score_scale = round_scale([0.0, *(score.high for score in all_scores)], bottom, top, 4)
    steps = sorted({step for run in runs for step in run.results})
    for index, task in enumerate(row_tasks):
        left = canvas.left + index * pitch
        start, end = left + 34, left + pitch - 16
        inset = min(14.0, (end - start) / 6)  # markers and numbers at the ends have room
        step_scale = Scale(steps[0], steps[-1] if len(steps) > 1 else steps[0] + 1, start + inset, end - inset, ())
        heading = [
            Label(left, canvas.y + TEXT_SIZE, task.title, TEXT_SIZE, is_bold=True),
            Label(
                left + text_width(task.title, TEXT_SIZE, True) + 6,
                canvas.y + TEXT_SIZE,
                task.metric,
                11,
                paint=Role.MUTED,
            ),
        ]
        area = Area(left, canvas.y, pitch, bottom - canvas.y, Role.BACKGROUND, 0)
        axes = _panel_axes(score_scale, step_scale, (start, end), (top, bottom), steps)
        chance = (
            []
            if task.chance_percent is None
            else [
                Line(
                    ((start, score_scale.pixel(task.chance_percent)), (end, score_scale.pixel(task.chance_percent))),
                    Role.MUTED,
                    1.6,
                    CHANCE_DASH,
                )
            ]
        )
        lines = [
            shape
            for run_index, run in enumerate(runs)
            for shape in _run_shapes(run, task, step_scale, score_scale, 5.0 * (run_index - (len(runs) - 1) / 2))
        ]
        canvas.add(Group((area, *heading, *axes, *chance, *lines), task.name, _task_words(task, runs)))
    canvas.y = bottom + 2 * SMALL_SIZE + 20


def _panel_axes(
    score_scale: Scale, step_scale: Scale, sides: tuple[float, float], ends: tuple[float, float], steps: Sequence[int]
) -> list[Shape]:
    """Grid lines with numbers at the left, and the steps below, as many of them as have room."""
    (start, end), (_, bottom) = sides, ends
    shapes: list[Shape] = []
    for tick in score_scale.ticks:
        y = score_scale.pixel(tick)
        shapes.append(Line(((start, y), (end, y)), Role.GRID))
        shapes.append(Label(start - 5, y + 4, tick_text(tick), 11, "end", Role.MUTED))
    for label in _step_labels(step_scale, steps, bottom + SMALL_SIZE + 4):
        shapes += [label, Line(((label.x, bottom), (label.x, bottom + 4)), Role.MUTED)]
    shapes.append(Label((start + end) / 2, bottom + 2 * SMALL_SIZE + 6, "step", 11, "middle", Role.MUTED))
    return shapes


def _step_labels(step_scale: Scale, steps: Sequence[int], y: float) -> list[Label]:
    """The numbers of the steps, as many as have room; the last and the first one come before those between."""
    labels: list[Label] = []
    for step in (steps[-1], *steps[:-1]):
        label = Label(step_scale.pixel(step), y, f"{step:,}", 11, "middle", Role.MUTED)
        if all(abs(label.x - other.x) > (label.width + other.width) / 2 + 8 for other in labels):
            labels.append(label)
    return labels


def _run_shapes(run: _Run, task: TaskFacts, step_scale: Scale, score_scale: Scale, shift: float) -> list[Shape]:
    """A run's line with its markers and vertical intervals, `shift` pixels to the right so that two runs' are apart."""
    shapes: list[Shape] = []
    positions = []
    for step, score in run.scores(task):
        x, low, high = step_scale.pixel(step) + shift, score_scale.pixel(score.low), score_scale.pixel(score.high)
        positions.append((x, score_scale.pixel(score.value)))
        for interval_line in (((x, low), (x, high)), ((x - 3, low), (x + 3, low)), ((x - 3, high), (x + 3, high))):
            shapes.append(Line(interval_line, run.style, 1.2))
    if len(positions) > 1:
        shapes.append(Line(tuple(positions), run.style, 1.8, run.style.dash))
    shapes += [Point(x, y, run.style.marker, run.style, 4) for x, y in positions]
    return shapes
