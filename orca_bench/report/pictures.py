"""Results in, pictures out: scores by task, MMLU by subject, checkpoints over steps; each as PNG and SVG.

Readable in grey and by colour-blind readers: results differ in marker as well as in colour (Okabe and Ito's palette, whose
colours also differ in lightness), and every number has its 95 % interval. The same results give the same bytes. Its own module
because it alone needs matplotlib, which is imported when a picture is drawn and takes about a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, make_writable_folder
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.models import Estimate
from orca_bench.results.reading import ResultFile
from orca_bench.stats.estimates import normal_interval, wilson_interval
from orca_bench.suite import ALL_TASKS, MMLU, TaskFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, without yellow, from dark to light and back, so that neighbours differ in grey too.
_COLOURS = ("#0072B2", "#E69F00", "#000000", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_GRID_COLOUR, _CHANCE_COLOUR, _REPORTED_COLOUR = "#e5e5e5", "#888888", "#555555"

_MIN_HEIGHT = 2.2  # inches: below it the legend and the labels of an axis have no room
_DPI = 160


@dataclass(frozen=True)
class Picture:
    """One picture: its caption, and its two files."""

    caption: str
    png: Path
    svg: Path


class _Point(NamedTuple):
    """A score at a position `x` of the other axis; score and 95 % interval in percent."""

    x: float
    score: float
    low: float
    high: float


def draw_pictures(results: Sequence[ResultFile], reported_scores: ReportedScores | None, folder: Path) -> list[Picture]:
    """All pictures that some results have, written to `folder`; over steps only where all are of one run and have their step."""
    pictures = [draw_scores(results, reported_scores, folder)]
    file_with_subjects = next((result_file for result_file in results if _has_subjects(result_file)), None)
    if file_with_subjects is not None:
        pictures.append(draw_subjects(file_with_subjects, folder))
    models = [result_file.result.model for result_file in results]
    is_one_run = len({model.run for model in models}) == 1 and all(
        model.run is not None and model.step is not None for model in models
    )
    steps_by_protocol = [(result_file.result.protocol.name, result_file.result.model.step) for result_file in results]
    has_unique_steps = len(set(steps_by_protocol)) == len(steps_by_protocol)  # no two results of one protocol and step
    if is_one_run and has_unique_steps and len({model.step for model in models}) > 1:
        pictures.append(draw_steps(results, None, folder))
    return pictures


def draw_scores(results: Sequence[ResultFile], reported_scores: ReportedScores | None, folder: Path) -> Picture:
    """Scores by task with 95 % intervals; reported scores as crosses where all results may be compared with them."""
    pyplot = _pyplot()
    tasks = _tasks_of(results)
    result_count = len(results)
    height = max(_MIN_HEIGHT, 1.1 + len(tasks) * (0.34 + 0.16 * result_count))
    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    for index, result_file in enumerate(results):
        offset = (index - (result_count - 1) / 2) * 0.7 / max(result_count, 2)
        points = [
            _score_point(x + offset, result_file.result.tasks[task.name], result_file.result.tasks[task.name].n)
            for x, task in enumerate(tasks)
            if task.name in result_file.result.tasks
        ]
        _draw_points(axes, points, index, result_file.label)
    if reported_scores is not None:
        _draw_reported(axes, tasks, results, reported_scores)
    _draw_chance(axes, tasks)
    axes.set_yticks(range(len(tasks)), [f"{task.title}\n{task.metric}" for task in tasks])
    axes.tick_params(axis="y", pad=9)  # a score of 0 has its mark half outside
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    _finish_axes(figure, axes, "score, percent; bars are 95 % intervals")
    return _save_picture(figure, folder, "scores", "scores by task")


def draw_subjects(result_file: ResultFile, folder: Path) -> Picture:
    """MMLU's subjects, the best on top, with 95 % intervals and their mean. Raises UserError where there are none."""
    task_result = result_file.result.tasks.get(MMLU.name)
    if task_result is None or not task_result.subjects:
        raise UserError("no MMLU subjects in this result", where=result_file.path)
    subject_rows = []
    for name, subject_result in task_result.subjects.items():
        interval = subject_result.interval or wilson_interval(subject_result.value, subject_result.n)
        point = _point_in_percent(0, subject_result.value, interval)
        subject_rows.append((point.score, point.low, point.high, subject_result.n, name.replace("_", " ")))
    subject_rows.sort(key=lambda row: (row[0], row[4]))
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, max(_MIN_HEIGHT, 1.2 + 0.19 * len(subject_rows))), layout="constrained")
    axes.errorbar(
        [row[0] for row in subject_rows],
        range(len(subject_rows)),
        xerr=[[row[0] - row[1] for row in subject_rows], [row[2] - row[0] for row in subject_rows]],
        fmt=_MARKERS[0],
        color=_COLOURS[0],
        markersize=4,
        elinewidth=1,
        label="subject",
    )
    mean_percent = 100 * task_result.value
    axes.axvline(
        mean_percent,
        color=_COLOURS[4],
        linewidth=1.4,
        label=f"mean of {len(subject_rows)} subjects: {mean_percent:.2f}",
    )
    axes.axvline(MMLU.chance_percent, color=_CHANCE_COLOUR, linestyle=":", linewidth=1.4, label="chance")
    axes.set_yticks(range(len(subject_rows)), [f"{name} ({n})" for *_, n, name in subject_rows], fontsize=7)
    axes.set_ylim(-0.8, len(subject_rows) - 0.2)
    axes.set_xlim(0, 100)
    axes.set_title(f"{result_file.label}: MMLU by subject (questions)", loc="left", fontsize=11)
    _finish_axes(figure, axes, "accuracy, percent; bars are 95 % intervals")
    return _save_picture(figure, folder, "mmlu", "MMLU by subject")


def draw_steps(results: Sequence[ResultFile], steps: Sequence[int] | None, folder: Path) -> Picture:
    """Checkpoints of one run over their steps, a small picture for each task with a line for each protocol.

    `steps` are the optimizer steps of the results; None takes them from the results or their names. Raises UserError where a
    step is not known, or occurs twice in one protocol.
    """
    results_by_protocol = _group_by_protocol(results, steps)
    tasks = _tasks_of(results)
    pyplot = _pyplot()
    column_count = min(4, len(tasks))
    row_count = -(-len(tasks) // column_count)
    figure, axes_grid = pyplot.subplots(
        row_count,
        column_count,
        figsize=(2.6 * column_count, 0.9 + 2.2 * row_count),
        layout="constrained",
        squeeze=False,
    )
    for index, task in enumerate(tasks):
        _draw_task_over_steps(
            axes_grid[index // column_count][index % column_count], task, results_by_protocol, is_first=index == 0
        )
    for index in range(len(tasks), row_count * column_count):
        axes_grid[index // column_count][index % column_count].set_visible(False)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("percent; bars are 95 % intervals", fontsize=9)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return _save_picture(figure, folder, "steps", "scores over the steps of the run")


def _has_subjects(result_file: ResultFile) -> bool:
    task_result = result_file.result.tasks.get(MMLU.name)
    return task_result is not None and bool(task_result.subjects)


def _tasks_of(results: Iterable[ResultFile]) -> list[TaskFacts]:
    """The tasks that at least one result has, in the suite's order."""
    task_names = {name for result_file in results for name in result_file.result.tasks}
    return [task for task in ALL_TASKS if task.name in task_names]


def _pyplot() -> Any:
    """matplotlib's pyplot, without a window; `Any`, for matplotlib's own types are not read."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "orca-bench"  # the same results give the same bytes
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    import matplotlib.pyplot as plot

    return plot


def _score_point(x: float, task_result: Estimate, n: int) -> _Point:
    """The point of a score of `n` questions; a result of format 1 has no interval, so its standard error gives one."""
    value, interval = task_result.value, task_result.interval
    if interval is None and task_result.stderr:
        interval = normal_interval(value, task_result.stderr, 0.0)
    elif interval is None:
        interval = wilson_interval(value, n)
    return _point_in_percent(x, value, interval)


def _point_in_percent(x: float, value: float, interval: tuple[float, float]) -> _Point:
    """The point of a value and its interval, fractions of 1; an edited result may have a value outside its interval."""
    return _Point(x, 100 * value, 100 * min(interval[0], value), 100 * max(interval[1], value))


def _draw_points(axes: Axes, points: Sequence[_Point], style_index: int, label: str) -> None:
    """A result's scores as points with horizontal error bars, in the marker and colour of the result with this index."""
    axes.errorbar(
        [point.score for point in points],
        [point.x for point in points],
        xerr=[[point.score - point.low for point in points], [point.high - point.score for point in points]],
        fmt=_MARKERS[style_index % len(_MARKERS)],
        color=_COLOURS[style_index % len(_COLOURS)],
        markersize=6,
        elinewidth=1.5,
        capsize=3,
        clip_on=False,
        label=label,
    )


def _draw_reported(
    axes: Axes, tasks: Sequence[TaskFacts], results: Sequence[ResultFile], reported_scores: ReportedScores
) -> None:
    """The reported scores that all results may be compared with; nothing, and no legend, where there are none."""
    scores = [
        (x, reported_scores.tasks[task.name])
        for x, task in enumerate(tasks)
        if task.name in reported_scores.tasks
        and all(result_file.result.is_comparable(task.name) for result_file in results)
    ]
    if not scores:
        return
    axes.plot(
        [score for _, score in scores],
        [x for x, _ in scores],
        "x",
        color=_REPORTED_COLOUR,
        markersize=8,
        markeredgewidth=2,
        clip_on=False,
        label=f"reported, {reported_scores.name}",
    )


def _draw_chance(axes: Axes, tasks: Sequence[TaskFacts]) -> None:
    """What guessing scores, as a short dotted line in each task that has such a number."""
    label: str | None = "chance"
    for x, task in enumerate(tasks):
        if task.chance_percent is not None:
            axes.plot(
                [task.chance_percent] * 2,
                [x - 0.42, x + 0.42],
                color=_CHANCE_COLOUR,
                linestyle=":",
                linewidth=1.4,
                label=label,
            )
            label = None  # one entry in the legend


def _finish_axes(figure: Figure, axes: Axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=9)
    axes.grid(True, axis="x", color=_GRID_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _group_by_protocol(results: Sequence[ResultFile], steps: Sequence[int] | None) -> dict[str, dict[int, ResultFile]]:
    """By protocol, the result of each step."""
    if steps is not None and len(steps) != len(results):
        raise UserError(f"{len(steps)} steps for {len(results)} results", where="--steps")
    groups: dict[str, dict[int, ResultFile]] = {}
    for index, result_file in enumerate(results):
        step = _step_of_result(result_file) if steps is None else steps[index]
        results_by_step = groups.setdefault(result_file.result.protocol.name, {})
        if step in results_by_step:
            raise UserError(f"two results of step {step}", where=result_file.path, hint="give one result of each step")
        results_by_step[step] = result_file
    return groups


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


def _draw_task_over_steps(
    axes: Axes, task: TaskFacts, results_by_protocol: dict[str, dict[int, ResultFile]], is_first: bool
) -> None:
    """One task's scores over steps, a line for each protocol; only the first task's lines have entries in the legend."""
    steps = sorted({step for results in results_by_protocol.values() for step in results})
    x_shift = 0.012 * (steps[-1] - steps[0])  # lines of two protocols side by side, so that their intervals are apart
    highest_score = 0.0
    for index, (protocol, results) in enumerate(results_by_protocol.items()):
        points = []
        for step in sorted(results):
            task_result = results[step].result.tasks.get(task.name)
            if task_result is not None:
                x = step + x_shift * (2 * index - len(results_by_protocol) + 1)
                points.append(_score_point(x, task_result, task_result.n))
        highest_score = max([highest_score, *(point.high for point in points)])
        axes.errorbar(
            [point.x for point in points],
            [point.score for point in points],
            yerr=[[point.score - point.low for point in points], [point.high - point.score for point in points]],
            fmt=f"-{_MARKERS[index % len(_MARKERS)]}",
            color=_COLOURS[index % len(_COLOURS)],
            markersize=4,
            elinewidth=1,
            capsize=2,
            label=protocol if is_first else None,
        )
    if task.chance_percent is not None:
        label = "chance" if is_first else None
        axes.axhline(task.chance_percent, color=_CHANCE_COLOUR, linestyle=":", linewidth=1.2, label=label)
    axes.set_title(f"{task.title} ({task.metric})", loc="left", fontsize=9)
    axes.set_ylim(0, min(100, 20 * math.ceil(highest_score / 20 + 0.05)))  # from zero, so that heights compare
    axes.tick_params(labelsize=8)
    axes.grid(True, color=_GRID_COLOUR, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _save_picture(figure: Figure, folder: Path, name: str, caption: str) -> Picture:
    import matplotlib.pyplot as plot

    make_writable_folder(folder)
    picture = Picture(caption, folder / f"{name}.png", folder / f"{name}.svg")
    try:
        for path in (picture.png, picture.svg):
            with catch_write_errors(path):
                figure.savefig(path, dpi=_DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
    finally:
        plot.close(figure)
    return picture
