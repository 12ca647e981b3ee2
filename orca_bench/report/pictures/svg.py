"""Drawings in, SVG texts out: one that follows the theme of the HTML page that it stands in, and one for a file.

In a page all colours are custom properties (`--ink`, `--muted`, `--line`, `--back`, `--model-1` …) with `currentColor`, or the
model's own colour, where the page defines none, and the background is transparent. A file has its own colours and background,
light or dark as its reader prefers. No script, no style sheet in a page's SVG; the same drawing gives the same bytes. Its own
module because it alone writes XML.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from orca_bench.report.model_colors import DARK_BACKGROUND, LIGHT_BACKGROUND, ModelStyle
from orca_bench.report.pictures.drawing import Area, Drawing, Group, Line, Paint, Point, Role, Shape
from orca_bench.report.pictures.markers import OUTLINES, X_STROKES
from orca_bench.report.pictures.text_layout import plain_text

LIGHT_COLORS = {Role.INK: "#111111", Role.MUTED: "#5a5a5a", Role.GRID: "#dcdcdc", Role.BACKGROUND: LIGHT_BACKGROUND}
DARK_COLORS = {Role.INK: "#eeeeee", Role.MUTED: "#aaaaaa", Role.GRID: "#3a3d42", Role.BACKGROUND: DARK_BACKGROUND}
_PAGE_COLORS = {
    Role.INK: "var(--ink, currentColor)",
    Role.MUTED: "var(--muted, currentColor)",
    Role.GRID: "var(--line, #8886)",
    Role.BACKGROUND: "var(--back, Canvas)",
}
_FONTS = 'system-ui, "DejaVu Sans", sans-serif'

#: Gives the attributes that paint what (`fill` or `stroke`) with a paint.
_Painter = Callable[[str, Paint], str]


def inline_svg(drawing: Drawing, title: str, description: str, id_prefix: str) -> str:
    """The drawing as an `<svg>` element for an HTML page; `id_prefix` must be unique in the page."""
    title_id, description_id = f"{escape(id_prefix)}-title", f"{escape(id_prefix)}-desc"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(drawing.width)} {_number(drawing.height)}" '
        f'role="img" aria-labelledby="{title_id}" aria-describedby="{description_id}" font-family="{escape(_FONTS)}">\n'
        f'<title id="{title_id}">{_text(title)}</title>\n<desc id="{description_id}">{_text(description)}</desc>\n'
        f"{_shapes_markup(drawing, _page_paint)}</svg>\n"
    )


def file_svg(drawing: Drawing, title: str, description: str) -> str:
    """The drawing as the text of an SVG file."""
    width, height = _number(drawing.width), _number(drawing.height)
    dark_rules = " ".join(
        f".fill-{role.value} {{ fill: {color} }} .stroke-{role.value} {{ stroke: {color} }}"
        for role, color in DARK_COLORS.items()
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-labelledby="title" aria-describedby="desc" font-family="{escape(_FONTS)}">\n'
        f'<title id="title">{_text(title)}</title>\n<desc id="desc">{_text(description)}</desc>\n'
        f"<style>@media (prefers-color-scheme: dark) {{ {dark_rules} }}</style>\n"
        f'<rect width="{width}" height="{height}" {_file_paint("fill", Role.BACKGROUND)}/>\n'
        f"{_shapes_markup(drawing, _file_paint)}</svg>\n"
    )


def _page_paint(attribute: str, paint: Paint) -> str:
    color = paint.css_color if isinstance(paint, ModelStyle) else _PAGE_COLORS[paint]
    return f'{attribute}="{color}"'


def _file_paint(attribute: str, paint: Paint) -> str:
    if isinstance(paint, ModelStyle):
        return f'{attribute}="{paint.color}"'
    return f'{attribute}="{LIGHT_COLORS[paint]}" class="{attribute}-{paint.value}"'


def _shapes_markup(drawing: Drawing, painter: _Painter) -> str:
    return "".join(
        _group(shape, painter) if isinstance(shape, Group) else _shape(shape, painter) for shape in drawing.shapes
    )


def _group(group: Group, painter: _Painter) -> str:
    shapes = "".join(_shape(shape, painter) for shape in group.shapes)
    task = f' data-task="{escape(group.task)}"' if group.task else ""
    return f"<g{task}><title>{_text(group.tooltip)}</title>\n{shapes}</g>\n"


def _shape(shape: Shape, painter: _Painter) -> str:
    if isinstance(shape, Line):
        return _line(shape, painter)
    if isinstance(shape, Area):
        place = f'x="{_number(shape.left)}" y="{_number(shape.top)}"'
        size = f'width="{_number(shape.width)}" height="{_number(shape.height)}"'
        opacity = "" if shape.opacity == 1 else f' fill-opacity="{_number(shape.opacity)}"'
        return f"<rect {place} {size} {painter('fill', shape.paint)}{opacity}/>\n"
    if isinstance(shape, Point):
        return _point(shape, painter)
    anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
    weight = ' font-weight="600"' if shape.is_bold else ""
    return (
        f'<text x="{_number(shape.x)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}"{anchor}{weight} '
        f"{painter('fill', shape.paint)}>{_text(shape.text)}</text>\n"
    )


def _line(line: Line, painter: _Painter) -> str:
    positions = " ".join(f"{_number(x)},{_number(y)}" for x, y in line.positions)
    dash = f' stroke-dasharray="{" ".join(_number(length) for length in line.dash)}"' if line.dash else ""
    return (
        f'<polyline points="{positions}" fill="none" stroke-width="{_number(line.width)}"{dash} '
        f"{painter('stroke', line.paint)}/>\n"
    )


def _point(point: Point, painter: _Painter) -> str:
    if point.marker == "x":
        strokes = (
            tuple((point.x + x * point.radius, point.y + y * point.radius) for x, y in stroke) for stroke in X_STROKES
        )
        return "".join(_line(Line(stroke, point.paint, 2), painter) for stroke in strokes)
    # Two elements for a hollow marker: in a file, one element cannot have both classes.
    fill = painter("fill", Role.BACKGROUND if point.is_hollow else point.paint)
    if not point.is_hollow:
        return _outline(point, fill)
    return _outline(point, fill) + _outline(point, f'fill="none" stroke-width="1.8" {painter("stroke", point.paint)}')


def _outline(point: Point, paint_attributes: str) -> str:
    corners = OUTLINES[point.marker]
    if not corners:
        return f'<circle cx="{_number(point.x)}" cy="{_number(point.y)}" r="{_number(point.radius)}" {paint_attributes}/>\n'
    positions = " ".join(
        f"{_number(point.x + x * point.radius)},{_number(point.y + y * point.radius)}" for x, y in corners
    )
    return f'<polygon points="{positions}" {paint_attributes}/>\n'


def _number(value: float) -> str:
    """A number without more digits than can be seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    return escape(plain_text(text), quote=False)
