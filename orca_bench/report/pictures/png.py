"""A drawing in, a PNG file out, on white, drawn by matplotlib.

Its own module because it alone needs matplotlib, which is imported when a picture is written and takes about a second.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orca_bench.files import catch_write_errors
from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.drawing import Area, Drawing, Line, Paint, Point, Role, Shape
from orca_bench.report.pictures.markers import OUTLINES, X_STROKES
from orca_bench.report.pictures.svg import LIGHT_COLORS
from orca_bench.report.pictures.text_layout import plain_text

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from PIL import Image

_PIXELS_PER_UNIT = 2  # a picture 800 wide becomes a PNG of 1,600 pixels
_DOTS_PER_INCH = 100
_POINTS_PER_PIXEL = 72 / _DOTS_PER_INCH  # matplotlib counts fonts and lines in points

#: Fonts for what DejaVu Sans lacks, where they are installed.
_FALLBACK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "WenQuanYi Zen Hei", "Arial Unicode MS")


class PngFacts(NamedTuple):
    """What a PNG file became: its (width, height) in pixels, and whether boxes stand for letters that no font here has."""

    size: tuple[int, int]
    has_missing_glyphs: bool


def write_png(drawing: Drawing, path: Path) -> PngFacts:
    """Write a drawing to a PNG file. Raises UserError where it cannot be written."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        dpi=_PIXELS_PER_UNIT * _DOTS_PER_INCH,
        figsize=(drawing.width / _DOTS_PER_INCH, drawing.height / _DOTS_PER_INCH),
        facecolor=_color(Role.BACKGROUND),
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    fonts = _fonts()
    for order, shape in enumerate(drawing.all_shapes()):
        _draw(axes, shape, order, fonts)
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    with catch_write_errors(path):
        _palette_image(pixels).save(path, format="png", optimize=True)
    has_missing_glyphs = any("missing from font" in str(record.message) for record in records)
    return PngFacts((pixels.shape[1], pixels.shape[0]), has_missing_glyphs)


def _palette_image(pixels: np.ndarray) -> Image.Image:
    """An image of at most 256 colours from `pixels` [height, width, 3], a third of the size of one with all.

    The most frequent colours stay exactly; the others, which smooth the edges of letters, become the nearest of these.
    """
    import numpy as np
    from PIL import Image

    packed_pixels = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colors, color_numbers, counts = np.unique(packed_pixels, return_inverse=True, return_counts=True)
    most_frequent = np.sort(np.argsort(-counts, kind="stable")[:256])
    channels = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.int32)
    distances = ((channels[:, None] - channels[most_frequent][None]) ** 2).sum(axis=2)
    palette_numbers = distances.argmin(axis=1).astype(np.uint8)
    image = Image.fromarray(palette_numbers[color_numbers].reshape(packed_pixels.shape), mode="P")
    image.putpalette(channels[most_frequent].astype(np.uint8).tobytes())
    return image


def _fonts() -> list[str]:
    """The families in which a character is looked for: DejaVu Sans, then those of the fallback that are installed."""
    from matplotlib.font_manager import get_font_names

    installed_fonts = set(get_font_names())
    return ["DejaVu Sans", *(font for font in _FALLBACK_FONTS if font in installed_fonts)]


def _color(paint: Paint) -> str:
    return paint.color if isinstance(paint, ModelStyle) else LIGHT_COLORS[paint]


def _draw(axes: Axes, shape: Shape, order: int, fonts: list[str]) -> None:
    """Draw one shape; `order` says what lies above what."""
    from matplotlib.patches import Rectangle

    if isinstance(shape, Line):
        _draw_line(axes, shape, order)
    elif isinstance(shape, Area):
        if shape.opacity:
            position = (shape.left, shape.top)
            rectangle = Rectangle(
                position,
                shape.width,
                shape.height,
                facecolor=_color(shape.paint),
                alpha=shape.opacity,
                linewidth=0,
                zorder=order,
            )
            axes.add_patch(rectangle)
    elif isinstance(shape, Point):
        _draw_point(axes, shape, order)
    else:
        text = plain_text(shape.text)
        axes.text(
            shape.x,
            shape.y,
            text,
            fontsize=shape.size * _POINTS_PER_PIXEL,
            family=fonts,
            weight="bold" if shape.is_bold else "normal",
            color=_color(shape.paint),
            ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor],
            va="baseline",
            zorder=order,
            parse_math=False,
        )


def _draw_line(axes: Axes, line: Line, order: int) -> None:
    from matplotlib.lines import Line2D

    width = line.width * _POINTS_PER_PIXEL
    # matplotlib counts dashes in widths of the line.
    style = (0, tuple(length / line.width for length in line.dash)) if line.dash else "-"
    axes.add_line(
        Line2D(
            [x for x, _ in line.positions],
            [y for _, y in line.positions],
            color=_color(line.paint),
            linewidth=width,
            linestyle=style,
            zorder=order,
            solid_capstyle="butt",
        )
    )


def _draw_point(axes: Axes, point: Point, order: int) -> None:
    from matplotlib.patches import Circle, Polygon

    if point.marker == "x":
        for stroke in X_STROKES:
            positions = tuple((point.x + x * point.radius, point.y + y * point.radius) for x, y in stroke)
            _draw_line(axes, Line(positions, point.paint, 2), order)
        return
    color = _color(point.paint)
    style = {
        "facecolor": _color(Role.BACKGROUND) if point.is_hollow else color,
        "edgecolor": color if point.is_hollow else "none",
        "linewidth": 1.8 * _POINTS_PER_PIXEL if point.is_hollow else 0,
        "zorder": order,
    }
    corners = OUTLINES[point.marker]
    if corners:
        outline = [(point.x + x * point.radius, point.y + y * point.radius) for x, y in corners]
        axes.add_patch(Polygon(outline, closed=True, **style))
    else:
        axes.add_patch(Circle((point.x, point.y), point.radius, **style))
