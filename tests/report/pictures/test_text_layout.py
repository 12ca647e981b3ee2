"""Widths and lines of texts."""

from hypothesis import given
from hypothesis import strategies as st

from orca_bench.report.pictures.text_layout import isolate, plain_text, text_width, wrap_text


def test_widths_are_those_of_the_font_that_draws():
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for text in ("mini-untrained", "WWWW iiii", "0.25 … no difference shown"):
        width = TextPath((0, 0), text, size=12, prop=FontProperties(family="DejaVu Sans")).get_extents().width
        assert 0.97 * width < text_width(text, 12) < 1.15 * width + 3


@given(st.text(), st.integers(20, 300))
def test_lines_fit_and_no_letter_is_lost(text, width):
    lines = wrap_text(text, 12, width)
    assert all(text_width(line, 12) <= width for line in lines if len(line) > 1)
    assert "".join("".join(lines).split()) == "".join(plain_text(text).split())


def test_texts_break_after_spaces_hyphens_and_slashes():
    assert wrap_text("one two", 12, 45) == ["one", "two"]
    assert wrap_text("organisation/model-name", 12, 90) == ["organisation/", "model-name"]
    assert wrap_text("", 12, 90) == [""]


def test_control_characters_become_the_replacement_character():
    assert plain_text("a\x00b\ud800c\nd") == "a\ufffdb\ufffdc d"
    assert isolate("\u202eabc") == "\ufffdabc"  # it turns no text around
