"""The lengths of a report in, a PNG picture of them out: how many examples have how many tokens, and which are cut.

Its own module because it alone needs matplotlib, whose import takes about a second. The style is that of the pictures of results.
"""

from __future__ import annotations

from pathlib import Path

from orca_bench.counts import counted
from orca_bench.files import catch_write_errors, path_replacement
from orca_bench.results.data_report import TokenLengths

_INK, _MUTED, _GRID = "#111111", "#5a5a5a", "#dcdcdc"
_WHOLE_COLOR, _CUT_COLOR = "#0078b4", "#d86000"
_SIZE_INCHES, _DOTS_PER_INCH = (8.0, 3.6), 200


def write_length_picture(lengths: TokenLengths, record_count: int, path: Path) -> None:
    """Write the picture; raises UserError where the disk does not take it. `record_count` is the number of examples."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = lengths.bin_width
    starts = [width * index for index in range(len(lengths.histogram))]
    colors = [_CUT_COLOR if start >= lengths.max_length else _WHOLE_COLOR for start in starts]
    axes.bar(starts, lengths.histogram, width=width * 0.92, align="edge", color=colors, zorder=2)
    axes.axvline(lengths.max_length, color=_INK, linewidth=1, zorder=3)
    axes.annotate(
        f"max_length {lengths.max_length:,}",
        (lengths.max_length, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        textcoords="offset points",
        verticalalignment="top",
        color=_INK,
        fontsize=9,
    )
    axes.set_title(length_sentence(lengths, record_count), loc="left", color=_INK, fontsize=10)
    has_longer = lengths.longest > width * len(lengths.histogram)
    last_bar_text = "; the last bar has all that are longer" if has_longer else ""
    axes.set_xlabel(f"tokens of an example (prompt and response){last_bar_text}", color=_MUTED, fontsize=9)
    axes.set_ylabel("examples", color=_MUTED, fontsize=9)
    axes.set_xlim(0, max(width * len(lengths.histogram), lengths.max_length * 1.05))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color=_GRID, linewidth=0.6, zorder=0)
    axes.tick_params(colors=_MUTED, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with path_replacement(path) as temporary_path, catch_write_errors(path):
        figure.savefig(temporary_path, format="png", metadata={"Software": None})


def length_sentence(lengths: TokenLengths, example_count: int) -> str:
    """How long the examples are and how many are cut, in one sentence."""
    mean = lengths.total / example_count if example_count else 0.0
    share = lengths.cut / example_count if example_count else 0.0
    return (
        f"{counted(lengths.cut, 'example')} of {example_count:,} ({share:.1%}) longer than {lengths.max_length:,} tokens; "
        f"mean {mean:,.0f}, longest {lengths.longest:,}"
    )
