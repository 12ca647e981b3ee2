"""The file of a card: our sections are replaced, and everything else stays as its author wrote it."""

from pathlib import Path

import pytest

from orca_bench.cards.card_document import marked_section, parse_card, read_card
from orca_bench.errors import UserError

CARD = Path("README.md")

ODD_YAML = """\
# why this licence
license: 'mit'  # as the data
language:
  - no
  -   "en"
version: 1.10
date: 2024-01-02
title: a line that ends in ---
description: >-
  folded
  text
anchors: &shared
    a: 1
copy: *shared

# about the widget
widget:
- text: |
    ---
    three
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_odd_yaml_stays_as_it_is_when_a_key_is_added_or_changed(line_end, prefix):
    text = prefix + f"---\n{ODD_YAML}---\n\n# Mine\n".replace("\n", line_end)
    card = parse_card(text, CARD)
    assert card.to_text() == text
    added = card.with_metadata({"model-index": [{"name": "m"}]}, CARD).to_text()
    new_lines = f"model-index:{line_end}- name: m{line_end}"
    assert added == text.replace(f"    three{line_end}", f"    three{line_end}{new_lines}")
    changed = parse_card(added, CARD).with_metadata({"model-index": [{"name": "n"}]}, CARD).to_text()
    assert changed == added.replace("- name: m", "- name: n")
    licensed = card.with_metadata({"license": "apache-2.0"}, CARD).to_text()
    assert licensed == text.replace("license: 'mit'  # as the data", "license: apache-2.0")


@pytest.mark.parametrize("yaml", ["{}", "{license: mit, tags: [a]}", "license: mit\n...", "tags: &t [a]\nother: *t"])
def test_yaml_that_has_no_lines_of_its_own_for_a_key_is_written_again_with_the_same_values(yaml):
    old_card = parse_card(f"---\n{yaml}\n---\nbody\n", CARD)
    card = old_card.with_metadata({"model-index": [1]}, CARD)
    assert "model-index" not in old_card.metadata
    again = parse_card(card.to_text(), CARD)
    assert again.metadata["model-index"] == [1] and again.body == "body\n"
    assert {key: again.metadata[key] for key in again.metadata if key != "model-index"} == dict(
        parse_card(f"---\n{yaml}\n---\n", CARD).metadata
    )


def test_a_section_is_replaced_and_the_text_around_it_kept():
    old_scores, new_scores = marked_section("scores", "old\n"), marked_section("scores", "\nnew\n")
    rest = "\nmore of mine\n" + marked_section("data", "old\n")
    card = parse_card(f"# Mine\n\n{old_scores}{rest}", CARD)
    assert card.section_names(CARD) == ["scores", "data"]
    after = card.with_sections({"scores": "\nnew\n", "usage": "not on this card"}, CARD).to_text()
    assert after == f"# Mine\n\n{new_scores}{rest}"
    assert parse_card(after, CARD).with_sections({"scores": "\nnew\n"}, CARD).to_text() == after


def test_line_ends_of_a_section_are_those_of_the_file():
    card = parse_card("a\r\nb\r\n", CARD).with_section_appended("scores", "x\n", heading="Scores")
    assert card.to_text().count("\r\n") == card.to_text().count("\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<!-- orca-bench: begin scores -->\ntext\n", "has no partner"),
        ("<!-- orca-bench: end scores -->\n", "has no partner"),
        ("<!-- orca-bench: begin scores -->\n<!-- orca-bench: end data -->\n", "has no partner"),
        (marked_section("scores", "") * 2, "stands twice"),
    ],
)
def test_marks_without_a_partner_are_refused(body, message):
    with pytest.raises(UserError, match=message):
        parse_card(body, CARD).section_names(CARD)


@pytest.mark.parametrize(
    ("text", "message"),
    [("---\na: [\n---\n", "not YAML"), ("---\n- a\n---\n", "not a mapping"), ("---\na: 1\n", "no end")],
)
def test_broken_metadata_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_card(text, CARD)


def test_a_card_that_is_not_utf_8_is_refused_and_one_that_is_not_there_is_none(tmp_path):
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_card(tmp_path / "README.md")
    assert read_card(tmp_path / "other.md") is None
