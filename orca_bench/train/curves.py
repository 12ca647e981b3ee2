"""The metrics of a run in, a picture of its curves out: losses, learning rate and gradient norm over the optimizer steps.

Its own module because it alone needs matplotlib, whose import and drawing take about a second. The style is that of the pictures
of results (report/pictures), which training does not import: white, thin grid lines, DejaVu Sans, their first two colours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_write_errors, path_replacement
from orca_bench.train import step_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED, _GRID = "#111111", "#5a5a5a", "#dcdcdc"
_TRAINING_COLOR, _HELD_OUT_COLOR = "#0078b4", "#d86000"
_SIZE_INCHES, _PADDING_INCHES, _DOTS_PER_INCH = (8.0, 7.0), 0.08, 200
_MAX_DRAWING_SHARE = 0.02  # of the time of a training, for pictures on the way
_SMOOTHED_STEPS_SHARE = 50  # a smoothed value is the mean of the steps' 50th part around it
_MIN_SMOOTHED_STEPS = 5


class CurvesPicture:
    """The picture of a run that trains: `redraw` may be called often, and draws as often as 2 % of the time allows."""

    def __init__(self, metrics_file: Path, picture_file: Path, run_name: str) -> None:
        self._metrics_file, self._picture_file, self._run_name = metrics_file, picture_file, run_name
        self._next_s = time.monotonic()

    def redraw(self) -> None:
        """Draw the curves, where it is time for it. What keeps them from being drawn is a line on standard error."""
        start_s = time.monotonic()
        if start_s < self._next_s:
            return
        draw_curves(
            self._metrics_file,
            self._picture_file,
            self._run_name,
            lambda line: print(line, file=sys.stderr, flush=True),
        )
        end_s = time.monotonic()
        self._next_s = end_s + (end_s - start_s) / _MAX_DRAWING_SHARE


def draw_curves(
    metrics_file: Path, picture_file: Path, run_name: str, show_message: Callable[[str], None] = lambda line: None
) -> None:
    """As `write_curves`, except that what fails is a message: the training is what counts."""
    try:
        write_curves(metrics_file, picture_file, run_name)
    except Exception as error:  # a full disk, or whatever matplotlib raises
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error, 300)}"
        show_message(f"the curves were not drawn: {reason}")


def write_curves(metrics_file: Path, picture_file: Path, run_name: str) -> bool:
    """Draw the curves of a metrics.jsonl to a PNG file; returns False where there is no step to draw.

    Raises UserError where the file cannot be written.
    """
    metrics = step_metrics.read_metrics(metrics_file)
    if not metrics:
        return False
    figure = _draw_figure(metrics, run_name)
    with path_replacement(picture_file) as temporary_path, catch_write_errors(picture_file):
        figure.savefig(temporary_path, format="png")
    return True


def _draw_figure(metrics: Sequence[dict[str, Any]], run_name: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    layout = ConstrainedLayoutEngine(w_pad=_PADDING_INCHES, h_pad=_PADDING_INCHES)
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(_title(metrics, run_name), x=0.012, ha="left", fontsize=12, color=_INK, parse_math=False)
    loss_axes, rate_axes, norm_axes = figure.subplots(3, 1, sharex=True, height_ratios=(2.2, 1, 1))
    steps = np.array([line["step"] for line in metrics], dtype=np.int64)
    _draw_losses(loss_axes, steps, metrics)
    _draw_curve(rate_axes, steps, _numbers(metrics, "lr"), "learning rate")
    rate_axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    _draw_smoothed_curve(norm_axes, steps, _numbers(metrics, "grad_norm"))
    norm_axes.set_title("gradient norm, before clipping", loc="left", fontsize=9.5, color=_INK)
    norm_axes.set_xlabel("optimizer step", fontsize=9, color=_MUTED)
    for axes in (loss_axes, rate_axes, norm_axes):
        _style_axes(axes)
    norm_axes.set_xlim(0, max(1, int(steps[-1])))
    norm_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    norm_axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    return figure


def _title(metrics: Sequence[dict[str, Any]], run_name: str) -> str:
    last = metrics[-1]
    step_count = last.get("steps")
    steps_text = f"step {last['step']:,}" + (f" of {step_count:,}" if isinstance(step_count, int) else "")
    return f"{run_name}, {steps_text}"


def _numbers(metrics: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """The values of a key, float64 [steps]; NaN, which is not drawn, where a line has none."""
    values = [line.get(key) for line in metrics]
    return np.array([value if isinstance(value, (int, float)) else np.nan for value in values], dtype=np.float64)


def _draw_losses(axes: Axes, steps: np.ndarray, metrics: Sequence[dict[str, Any]]) -> None:
    """The training loss of each step, its smoothed curve, and the held-out loss where it was computed."""
    training_losses, held_out_losses = _numbers(metrics, "loss"), _numbers(metrics, "held_out_loss")
    _draw_smoothed_curve(axes, steps, training_losses, "training")
    has_held_out_loss = np.isfinite(held_out_losses)
    if has_held_out_loss.any():
        held_out_steps, held_out_losses = steps[has_held_out_loss], held_out_losses[has_held_out_loss]
        best = int(held_out_losses.argmin())
        base_loss = step_metrics.base_held_out_loss(metrics)
        axes.plot(
            held_out_steps if base_loss is None else [0, *held_out_steps],
            held_out_losses if base_loss is None else [base_loss, *held_out_losses],
            color=_HELD_OUT_COLOR,
            linewidth=1.4,
            marker="o",
            markersize=3.5,
            clip_on=False,
            label=f"held-out examples, lowest {held_out_losses[best]:.4f} at step {held_out_steps[best]:,}"
            + ("" if base_loss is None else f", base {base_loss:.4f}"),
        )
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        fontsize=9,
        frameon=False,
        labelcolor=_INK,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.4,
    )
    axes.set_title("loss, nats per response token", loc="left", fontsize=9.5, color=_INK)


def _draw_curve(axes: Axes, steps: np.ndarray, values: np.ndarray, title: str) -> None:
    axes.plot(steps, values, color=_TRAINING_COLOR, linewidth=1.4)
    axes.set_title(title, loc="left", fontsize=9.5, color=_INK)


def _draw_smoothed_curve(axes: Axes, steps: np.ndarray, values: np.ndarray, label: str | None = None) -> None:
    """Each value as a pale line, and the mean of those around it as a strong one."""
    smoothed_steps = max(_MIN_SMOOTHED_STEPS, len(steps) // _SMOOTHED_STEPS_SHARE) | 1
    axes.plot(steps, values, color=_TRAINING_COLOR, linewidth=0.8, alpha=0.35)
    axes.plot(steps, _moving_mean(values, smoothed_steps), color=_TRAINING_COLOR, linewidth=1.4)
    if label is not None:
        axes.lines[-1].set_label(f"{label}, mean of {smoothed_steps} steps")


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the finite values within `window` steps around each, float64 [steps]; fewer at both ends."""
    is_finite = np.isfinite(values)
    kernel = np.ones(min(window, 2 * len(values) - 1))
    sums = np.convolve(np.where(is_finite, values, 0.0), kernel, mode="full")
    counts = np.convolve(is_finite.astype(np.float64), kernel, mode="full")
    start = (len(kernel) - 1) // 2
    means = sums[start : start + len(values)] / np.maximum(counts[start : start + len(values)], 1.0)
    return np.where(is_finite, means, np.nan)


def _style_axes(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_MUTED, labelsize=9, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)
