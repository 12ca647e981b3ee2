"""Results in, pictures out: scores by task, MMLU by subject, checkpoints over steps; each as PNG and SVG.

Readable in grey and by the colour-blind: results differ in marker as well as in colour (Okabe and Ito's palette, whose
colours also differ in lightness), and every number has its 95 % interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import make_folder, writing
from orca_bench.report.table import comparable
from orca_bench.results.reading import ResultFile
from orca_bench.stats.estimates import normal_interval, wilson_interval
from orca_bench.suite import BY_NAME, TASKS

# Okabe and Ito 2008, without yellow, from dark to light and back, so that neighbours differ in grey too.
_COLOURS = ("#0072B2", "#E69F00", "#000000", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")

_LEAST_HEIGHT = 2.2  # inches: below it the legend and the labels of an axis have no room


def draw(results: Sequence[ResultFile], reported: dict | None, folder: Path) -> list[tuple[str, list[Path]]]:
    """All pictures that there are of some results: (caption, files) of each."""
    drawn = [("scores by task", scores(results, reported, folder))]
    with_subjects = next((r for r in results if (r.data["tasks"].get("mmlu") or {}).get("subjects")), None)
    if with_subjects is not None:
        drawn.append(("MMLU by subject", mmlu(with_subjects, folder)))
    origins = [(result.data["model"].get("run"), result.data["model"].get("step")) for result in results]
    lines = [(result.data["protocol"]["name"], step) for result, (_, step) in zip(results, origins, strict=True)]
    one_run = len({run for run, _ in origins}) == 1 and all(None not in origin for origin in origins)
    if one_run and len(set(origins)) > 1 and len(set(lines)) == len(lines):
        drawn.append(("scores over the steps of the run", steps(results, None, folder)))
    return drawn


def scores(results: Sequence[ResultFile], reported: dict | None, folder: Path) -> list[Path]:
    """Scores by task with 95 % intervals; reported ones as crosses, chance as ticks."""
    plot = _plot()
    shown = [task for task in TASKS if any(task.name in r.data["tasks"] for r in results)]
    count = len(results)
    figure, axes = plot.subplots(
        figsize=(8, max(_LEAST_HEIGHT, 1.1 + len(shown) * (0.34 + 0.16 * count))), layout="constrained"
    )
    for number, result in enumerate(results):
        offset = (number - (count - 1) / 2) * 0.7 / max(count, 2)
        points = [
            (place + offset, *_percent(result.data["tasks"][task.name]))
            for place, task in enumerate(shown)
            if task.name in result.data["tasks"]
        ]
        _points(axes, points, number, result.label)
    if reported is not None and all(result.data["suite"].get("comparable") for result in results):
        told = [
            (place, reported["tasks"][task.name])
            for place, task in enumerate(shown)
            if task.name in reported["tasks"] and all(comparable(result.data, task.name) for result in results)
        ]
        label = f"reported, {reported['model'].split('/')[-1]}"
        axes.plot(
            [v for _, v in told],
            [p for p, _ in told],
            "x",
            color="#555555",
            markersize=8,
            markeredgewidth=2,
            clip_on=False,
            label=label,
        )
    named = False
    for place, task in enumerate(shown):
        if task.chance is not None:
            axes.plot(
                [task.chance] * 2,
                [place - 0.42, place + 0.42],
                color="#888888",
                linestyle=":",
                linewidth=1.4,
                label=None if named else "chance",
            )
            named = True
    axes.set_yticks(range(len(shown)), [f"{task.title}\n{task.metric}" for task in shown])
    axes.tick_params(axis="y", pad=9)  # a score of 0 has its mark half outside
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    _finish(axes, "score, percent; bars are 95 % intervals")
    return _save(figure, folder, "scores")


def mmlu(result: ResultFile, folder: Path) -> list[Path]:
    """MMLU's subjects, the best on top, with 95 % intervals and their mean. Raises UserError where there are none."""
    subjects = (result.data["tasks"].get("mmlu") or {}).get("subjects")
    if not subjects:
        raise UserError("no MMLU subjects in this result", where=result.path)
    rows = []
    for name, entry in subjects.items():
        interval = entry.get("interval") or wilson_interval(entry["value"], entry["n"])
        rows.append((100 * entry["value"], 100 * interval[0], 100 * interval[1], entry["n"], name.replace("_", " ")))
    rows.sort(key=lambda row: (row[0], row[4]))
    plot = _plot()
    figure, axes = plot.subplots(figsize=(8, max(_LEAST_HEIGHT, 1.2 + 0.19 * len(rows))), layout="constrained")
    places = range(len(rows))
    values = [row[0] for row in rows]
    axes.errorbar(
        values,
        places,
        xerr=[[row[0] - row[1] for row in rows], [row[2] - row[0] for row in rows]],
        fmt=_MARKERS[0],
        color=_COLOURS[0],
        markersize=4,
        elinewidth=1,
        label="subject",
    )
    value = 100 * result.data["tasks"]["mmlu"]["value"]
    axes.axvline(value, color=_COLOURS[4], linewidth=1.4, label=f"mean of {len(rows)} subjects: {value:.2f}")
    axes.axvline(BY_NAME["mmlu"].chance, color="#888888", linestyle=":", linewidth=1.4, label="chance")
    axes.set_yticks(places, [f"{name} ({n})" for *_, n, name in rows], fontsize=7)
    axes.set_ylim(-0.8, len(rows) - 0.2)
    axes.set_xlim(0, 100)
    axes.set_title(f"{result.label}: MMLU by subject (questions)", loc="left", fontsize=11)
    _finish(axes, "accuracy, percent; bars are 95 % intervals")
    return _save(figure, folder, "mmlu")


def steps(results: Sequence[ResultFile], at: Sequence[int] | None, folder: Path) -> list[Path]:
    """Checkpoints of one run over their steps, a small picture a task and in it a line a protocol.

    `at` are the steps; None reads them off the results. Raises UserError where a step cannot be told, or stands twice.
    """
    if at is not None and len(at) != len(results):
        raise UserError(f"{len(at)} steps for {len(results)} results", where="--steps")
    series: dict[str, dict[int, ResultFile]] = {}
    for place, result in enumerate(results):
        step = _step(result) if at is None else at[place]
        line = series.setdefault(result.data["protocol"]["name"], {})
        if step in line:
            raise UserError(f"two results of step {step}", where=result.path, hint="give one result of each step")
        line[step] = result
    shown = [task for task in TASKS if any(task.name in r.data["tasks"] for r in results)]
    plot = _plot()
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure, grid = plot.subplots(
        lines, columns, figsize=(2.6 * columns, 0.9 + 2.2 * lines), layout="constrained", squeeze=False
    )
    # Lines of two protocols side by side, so that their intervals can be told apart.
    every = sorted({step for line in series.values() for step in line})
    aside = 0.012 * (every[-1] - every[0])
    for place, task in enumerate(shown):
        name = task.name
        axes = grid[place // columns][place % columns]
        for number, (protocol, line) in enumerate(series.items()):
            points = [
                (step + aside * (2 * number - len(series) + 1), *_percent(line[step].data["tasks"][name]))
                for step in sorted(line)
                if name in line[step].data["tasks"]
            ]
            axes.errorbar(
                [p[0] for p in points],
                [p[1] for p in points],
                yerr=[[p[1] - p[2] for p in points], [p[3] - p[1] for p in points]],
                fmt=f"-{_MARKERS[number % len(_MARKERS)]}",
                color=_COLOURS[number % len(_COLOURS)],
                markersize=4,
                elinewidth=1,
                capsize=2,
                label=protocol if place == 0 else None,
            )
        if task.chance is not None:
            axes.axhline(task.chance, color="#888888", linestyle=":", linewidth=1.2, label=None if place else "chance")
        axes.set_title(f"{task.title} ({task.metric})", loc="left", fontsize=9)
        highest = max(_percent(r.data["tasks"][name])[2] for r in results if name in r.data["tasks"])
        axes.set_ylim(0, min(100, 20 * math.ceil(highest / 20 + 0.05)))  # from zero, so that heights compare
        axes.tick_params(labelsize=8)
        axes.grid(True, color="#e5e5e5", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for empty in range(len(shown), lines * columns):
        grid[empty // columns][empty % columns].set_visible(False)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("percent; bars are 95 % intervals", fontsize=9)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return _save(figure, folder, "steps")


# --- inside ---------------------------------------------------------------------------------------------------------


def _plot():
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "orca-bench"  # the same results give the same bytes
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    import matplotlib.pyplot as plot

    return plot


def _percent(entry: dict) -> tuple[float, float, float]:
    """(value, low, high) in percent; a result of version 1 has no interval, so it is made of its standard error."""
    value, interval = entry["value"], entry.get("interval")
    if interval is None and entry.get("stderr"):
        interval = normal_interval(value, entry["stderr"], 0.0)
    elif interval is None:
        interval = wilson_interval(value, entry.get("n", 1))
    return 100 * value, 100 * min(interval[0], value), 100 * max(interval[1], value)


def _points(axes, points: list[tuple[float, float, float, float]], number: int, label: str) -> None:
    axes.errorbar(
        [p[1] for p in points],
        [p[0] for p in points],
        xerr=[[p[1] - p[2] for p in points], [p[3] - p[1] for p in points]],
        fmt=_MARKERS[number % len(_MARKERS)],
        color=_COLOURS[number % len(_COLOURS)],
        markersize=6,
        elinewidth=1.5,
        capsize=3,
        clip_on=False,
        label=label,
    )


def _finish(axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=9)
    axes.grid(True, axis="x", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.get_figure().legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _step(result: ResultFile) -> int:
    """The step that the model's folder told, else that in its name or the result's: step-500, checkpoint_500, global_step500."""
    if isinstance(told := result.data["model"].get("step"), int):
        return told
    for text in (str(result.data["model"].get("path")), result.label, result.path.stem):
        found = re.findall(r"(?:step|checkpoint)[-_]?(\d+)", text)
        if found:
            return int(found[-1])
    raise UserError("no step in the name of this result or its model", where=result.path, hint="give --steps 100,200,…")


def _save(figure, folder: Path, name: str) -> list[Path]:
    import matplotlib.pyplot as plot

    make_folder(folder)
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    try:
        for path in paths:
            with writing(path):
                figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    finally:
        plot.close(figure)
    return paths
