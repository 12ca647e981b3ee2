"""One picture in two layouts, wide and narrow, with its title and its numbers in words; as HTML, as SVG file, as PNG file.

Its own module because pages, cards and `plot` use pictures without knowing how each is laid out.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from orca_bench.files import make_writable_folder, write_text
from orca_bench.report.pictures.drawing import TITLE_SIZE, Canvas, Drawing, Role
from orca_bench.report.pictures.svg import file_svg, inline_svg

WIDE_WIDTH, NARROW_WIDTH = 800.0, 360.0  # pixels

#: Rules for a page with pictures in it. The narrow layout is shown where a figure is narrower than 660 pixels, below which
#: the letters of the wide one would be smaller than 9 pixels.
PICTURE_CSS = """\
.picture { container-type: inline-size; margin: 0; }
.picture svg { display: block; width: 100%; height: auto; }
.picture .wide { max-width: 960px; } .picture .narrow { display: none; max-width: 440px; }
.picture [data-task] { cursor: pointer; }
@container (max-width: 660px) { .picture .wide { display: none; } .picture .narrow { display: block; } }
"""


@dataclass(frozen=True)
class Picture:
    """A picture; `kind` is differences, scores, subjects or steps, `name` the name of its files without a suffix.

    `description` has the numbers in words.
    """

    kind: str
    name: str
    title: str
    description: str
    wide: Drawing
    narrow: Drawing

    def html(self, id_prefix: str) -> str:
        """A `<figure>` with both layouts, of which PICTURE_CSS shows one; `id_prefix` must be unique in the page.

        Colours are the page's `--ink`, `--muted`, `--line`, `--back` and `--model-1` … (model_colors.css_properties). What
        belongs to one task stands in a group with the attribute `data-task`.
        """
        wide = inline_svg(self.wide, self.title, self.description, f"{id_prefix}-wide")
        narrow = inline_svg(self.narrow, self.title, self.description, f"{id_prefix}-narrow")
        return (
            f'<figure class="picture" data-picture="{escape(self.kind)}"><div class="wide">{wide}</div>'
            f'<div class="narrow">{narrow}</div></figure>\n'
        )

    def svg_text(self) -> str:
        """The text of an SVG file, in the wide layout."""
        return file_svg(self.wide, self.title, self.description)


@dataclass(frozen=True)
class PictureFiles:
    """The two files of a picture; the PNG's width and height in pixels, and whether it lacks letters that no font here has."""

    png: Path
    svg: Path
    png_size: tuple[int, int]
    has_missing_glyphs: bool


def write_picture(picture: Picture, folder: Path) -> PictureFiles:
    """Write a picture to `folder` as PNG and SVG. Raises UserError where a file cannot be written."""
    from orca_bench.report.pictures.png import write_png

    make_writable_folder(folder)
    png, svg = folder / f"{picture.name}.png", folder / f"{picture.name}.svg"
    png_facts = write_png(picture.wide, png)
    write_text(svg, picture.svg_text())
    return PictureFiles(png, svg, png_facts.size, png_facts.has_missing_glyphs)


def start_canvas(width: float, title: str, *lines: str, sentence: str = "") -> Canvas:
    """A canvas with the title, and below it what was found (`sentence`), what was measured and how it is shown."""
    canvas = Canvas(width)
    canvas.paragraph(title, TITLE_SIZE, is_bold=True)
    if sentence:
        canvas.y += 2
        canvas.paragraph(sentence)
    for line in lines:
        canvas.y += 2
        canvas.paragraph(line, paint=Role.MUTED)
    canvas.y += 8
    return canvas
