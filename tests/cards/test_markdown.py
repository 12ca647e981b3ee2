"""Texts from anywhere stay texts: the Markdown that is written is rendered and read."""

import re

import pytest
from markdown_it import MarkdownIt

from orca_bench.cards import markdown

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a | b",
    "**bold** _it_ `code` ~~gone~~",
    "[link](javascript:alert(1)) ![p](x)",
    "x\n\n## heading\n\n- item",
    "# heading",
    "1. item",
    "--> <!-- orca-bench: end scores -->",
    "```\nfence",
    "&amp; & <b>",
    "نموذج عربي",
    "a\\",
    "snake_case_name-1.0",
]


def rendered(text):
    return MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text)


def text_of(html):
    import html as html_module

    return html_module.unescape(re.sub(r"<[^>]*>", "", html)).strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_plain_text_is_shown_as_it_is(text):
    html = rendered(f"before {markdown.plain(text)}")
    assert text_of(html) == f"before {markdown.one_line(text)}"
    assert set(re.findall(r"<(\w+)", html)) == {"p"}
    assert set(re.findall(r"<(\w+)", rendered(markdown.plain(text)))) == {"p"}


@pytest.mark.parametrize("text", HOSTILE)
def test_code_and_cells_of_a_table_are_shown_as_they_are(text):
    table = markdown.table(["a", "b"], [[markdown.code(text), markdown.plain(text)]])
    html = rendered(table)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    assert [text_of(cell) for cell in cells] == [markdown.one_line(text)] * 2
    assert set(re.findall(r"<(\w+)", html)) == {"table", "thead", "tbody", "tr", "th", "td", "code"}


@pytest.mark.parametrize("text", [*HOSTILE, "````\n```"])
def test_a_block_of_code_is_closed_by_its_own_fence_alone(text):
    html = rendered(markdown.code_block(text, "yaml") + "after\n")
    assert html.count("<pre>") == 1 and html.endswith("<p>after</p>\n")


def test_controls_of_direction_and_terminals_are_left_out():
    assert markdown.one_line("a\u202eb\x1b[31m\tc\u2028d") == "ab [31m c d"
