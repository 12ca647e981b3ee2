"""The forms of a grid: what each of them must escape."""

from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from orca_bench.report import grid_formats
from orca_bench.report.grid import Grid, TextCell, format_p
from orca_bench.report.notes import Note


def test_every_form_escapes_what_it_must():
    grid = Grid(
        ["a_b", "50 % | x"],
        [[TextCell("<b>&", bold=True), TextCell("1 ± 2 | \\")]],
        [Note("n & m")],
        "t <i>",
    )
    assert "**&lt;b&gt;&amp;** | 1 ± 2 \\| \\\\ |" in grid_formats.to_markdown(
        grid
    ) and "50 % \\| x" in grid_formats.to_markdown(grid)
    latex = grid_formats.to_latex(grid)
    assert r"a\_b & 50 \% | x" in latex and r"\textbf{$<$b$>$\&} & 1 $\pm$ 2 | \textbackslash{}" in latex
    assert ElementTree.fromstring(f"<x>{grid_formats.to_html(grid)}</x>").find("table/tbody/tr/td/b").text == "<b>&"


HOSTILE = "a\x1b[31m\u202eb\nc ![x](http://e/x.png) [y](http://e) <img src=x> `z` **w** |"


def test_a_hostile_text_is_one_line_of_text_in_every_form():
    grid = Grid([HOSTILE, "x"], [[TextCell(HOSTILE), TextCell("+1")]], [Note(HOSTILE)], HOSTILE, HOSTILE)
    for write in (grid_formats.to_markdown, grid_formats.to_latex, grid_formats.to_html):
        text = write(grid)
        assert not {"\x1b", "\u202e"} & set(text) and not any(line.startswith("c ") for line in text.splitlines())
    html = MarkdownIt("gfm-like", {"linkify": False}).render(grid_formats.to_markdown(grid))
    assert not [tag for tag in ("<img", "<a ", "<code", "<strong") if tag in html]
    cells = [cell.text for cell in ElementTree.fromstring(f"<x>{html}</x>").iter("td")]
    assert cells == [HOSTILE.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd").replace("\n", " "), "+1"]


def test_an_interval_is_no_link_and_stays_as_it_is():
    assert grid_formats.markdown_cell("0.00 [0.0, 3.1]") == "0.00 [0.0, 3.1]"
    html = MarkdownIt("gfm-like", {"linkify": False}).render(
        grid_formats.markdown_line("[0.0, 3.1](http://e) [0.0, 3.1][x]")
    )
    assert "<a " not in html and "[0.0, 3.1](http://e) [0.0, 3.1][x]" in html


@pytest.mark.parametrize(
    ("p", "level", "text"),
    [
        (0.0547, 0.05, "0.055"),
        (0.0499, 0.05, "0.0499"),
        (0.0452, 0.05, "0.045"),
        (0.0501, 0.05, "0.0501"),
        (0.05, 0.05, "0.05"),
        (0.056, 0.05, "0.06"),
        (0.5, 0.05, "0.50"),
        (0.0104, 0.01, "0.0104"),
        (0.0012, 0.05, "0.0012"),
        (0.00001, 0.05, "<0.0001"),
    ],
)
def test_a_p_is_on_the_side_of_the_level_on_which_it_is(p, level, text):
    assert format_p(p, level) == text
