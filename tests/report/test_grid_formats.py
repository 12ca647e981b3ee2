"""The forms of a grid: what each of them must escape."""

from xml.etree import ElementTree

from orca_bench.report import grid_formats
from orca_bench.report.grid import Grid, TextCell
from orca_bench.report.notes import Note


def test_every_form_escapes_what_it_must():
    grid = Grid(
        ["a_b", "50 % | x"],
        [[TextCell("<b>&", bold=True), TextCell("1 ± 2 | \\")]],
        [Note("n & m")],
        "t <i>",
    )
    assert "**\\<b>&** | 1 ± 2 \\| \\ |" in grid_formats.to_markdown(grid) and "50 % \\| x" in grid_formats.to_markdown(
        grid
    )
    latex = grid_formats.to_latex(grid)
    assert r"a\_b & 50 \% | x" in latex and r"\textbf{$<$b$>$\&} & 1 $\pm$ 2 | \textbackslash{}" in latex
    assert ElementTree.fromstring(f"<x>{grid_formats.to_html(grid)}</x>").find("table/tbody/tr/td/b").text == "<b>&"
