"""What a picture is made of: lines, areas, points and labels in pixels, without a library and without colours of a theme.

Origin at the upper left, y down. A shape names a role (text, grid, …) or a model's style instead of a colour, so that the same
drawing becomes an SVG that follows a page's theme, an SVG file and a PNG file (svg.py, png.py). Its own module because
pictures are laid out once and written in three ways.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.text_layout import text_width, wrap_text


class Role(enum.Enum):
    """What a shape is for; each theme gives it a colour. The value is its name in SVG files."""

    INK = "ink"
    MUTED = "muted"
    GRID = "grid"
    BACKGROUND = "background"


Paint: TypeAlias = Role | ModelStyle
Position: TypeAlias = tuple[float, float]

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 16.0, 12.5, 12.0  # pixels, of fonts
LINE_HEIGHT = 1.3  # of the font's size


@dataclass(frozen=True)
class Line:
    """A line through positions; `dash` has lengths of dash and gap in pixels."""

    positions: tuple[Position, ...]
    paint: Paint
    width: float = 1.0
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Area:
    """A rectangle without a border, painted with an opacity of 0 (where it only catches the pointer) to 1."""

    left: float
    top: float
    width: float
    height: float
    paint: Paint
    opacity: float = 1.0


@dataclass(frozen=True)
class Point:
    """A marker around a position: a name of model_colors.MARKERS, or `x`; a hollow one shows the background inside."""

    x: float
    y: float
    marker: str
    paint: Paint
    radius: float = 5.0
    is_hollow: bool = False


@dataclass(frozen=True)
class Label:
    """A line of text whose baseline begins, has its middle or ends at a position: `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    size: float = TEXT_SIZE
    anchor: str = "start"
    paint: Paint = Role.INK
    is_bold: bool = False

    @property
    def left(self) -> float:
        """The x of its left edge."""
        return self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * self.width

    @property
    def width(self) -> float:
        """Its width in pixels."""
        return text_width(self.text, self.size, self.is_bold)


Shape: TypeAlias = Line | Area | Point | Label


@dataclass(frozen=True)
class Group:
    """Shapes with the text that appears when the pointer rests on them; `task` is empty where they are of no single task."""

    shapes: tuple[Shape, ...]
    task: str
    tooltip: str


@dataclass(frozen=True)
class Drawing:
    """A picture in one layout; width and height in pixels."""

    width: float
    height: float
    shapes: tuple[Shape | Group, ...]

    def all_shapes(self) -> list[Shape]:
        """All shapes, those of groups too, in the order in which they are drawn."""
        flat: list[Shape] = []
        for shape in self.shapes:
            flat += shape.shapes if isinstance(shape, Group) else [shape]
        return flat


@dataclass
class Canvas:
    """A drawing in the making, from top to bottom; `left` is the left edge, `y` the upper edge of what comes next."""

    width: float
    left: float = 12.0
    y: float = 10.0
    shapes: list[Shape | Group] = field(default_factory=list)

    @property
    def right(self) -> float:
        """The right edge of what is drawn: as far from the right end as texts of a whole picture are from the left one."""
        return self.width - 12.0

    @property
    def inner_width(self) -> float:
        """The width between left and right edge, in pixels."""
        return self.right - self.left

    def add(self, *shapes: Shape | Group) -> None:
        """Draw shapes on top of what is there."""
        self.shapes += shapes

    def paragraph(
        self, text: str, size: float = TEXT_SIZE, paint: Paint = Role.INK, is_bold: bool = False, x: float | None = None
    ) -> None:
        """A text over the whole width, or from `x` on, in as many lines as it needs."""
        left = self.left if x is None else x
        labels, self.y = wrapped_labels(text, left, self.y, self.right - left, size, paint, is_bold)
        self.add(*labels)

    def legend(self, entries: Sequence[tuple[Sequence[Shape], str]]) -> None:
        """Entries (shapes around the position 0, 0, text) side by side, as many in a line as have room."""
        symbol_width, gap, size = 26.0, 18.0, SMALL_SIZE
        x, line_height = self.left, size * LINE_HEIGHT + 3
        for symbol_shapes, text in entries:
            lines = wrap_text(text, size, self.inner_width - symbol_width)
            width = symbol_width + max(text_width(line, size) for line in lines)
            if x > self.left and x + width > self.right:
                x, self.y = self.left, self.y + line_height
            center_y = self.y + line_height / 2
            self.add(*(_moved(shape, x + symbol_width / 2 - 3, center_y) for shape in symbol_shapes))
            for index, line in enumerate(lines):
                self.add(Label(x + symbol_width, center_y + size * 0.36 + index * line_height, line, size))
            if len(lines) > 1:
                x, self.y = self.left, self.y + line_height * len(lines)
            else:
                x += width + gap
        if x > self.left:
            self.y += line_height

    def finish(self) -> Drawing:
        """The drawing, with room below its last shape."""
        return Drawing(self.width, round(self.y + 10, 1), tuple(self.shapes))


def wrapped_labels(
    text: str,
    x: float,
    top: float,
    width: float,
    size: float = TEXT_SIZE,
    paint: Paint = Role.INK,
    is_bold: bool = False,
    anchor: str = "start",
) -> tuple[list[Label], float]:
    """Labels of a text in lines of at most `width` pixels below `top`, and the lower edge of the last one."""
    labels = []
    for line in wrap_text(text, size, width, is_bold):
        labels.append(Label(x, top + size, line, size, anchor, paint, is_bold))
        top += size * LINE_HEIGHT
    return labels, top


def _moved(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Line):
        positions = tuple((x + line_x, y + line_y) for line_x, line_y in shape.positions)
        return Line(positions, shape.paint, shape.width, shape.dash)
    if isinstance(shape, Point):
        return Point(x + shape.x, y + shape.y, shape.marker, shape.paint, shape.radius, shape.is_hollow)
    raise TypeError(f"a {type(shape).__name__} is no symbol of a legend")
