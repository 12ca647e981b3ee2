"""A card's text in, its metadata and sections out; the text with some of them changed, and all else as it was, out.

A card is YAML between two lines of `---` (the front matter) and Markdown. Sections of ours stand between two marks, HTML
comments that are not shown. Only what is inside the marks is replaced: a person's own text, metadata, comments and line ends
stay as they are. Its own module because the rest of the package writes texts and need not know how they are put into a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from orca_bench import yaml_files
from orca_bench.errors import UserError
from orca_bench.files import catch_read_errors

#: An object of a card's YAML: keys are texts, values whatever their author wrote.
YamlObject: TypeAlias = MutableMapping[str, Any]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n((?:.*?\r?\n)??)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_MATTER_START = re.compile(r"\A---[ \t]*(?:\r?\n|\Z)")
_MARK = re.compile(r"^<!-- orca-bench: (begin|end) ([a-z]+) -->[ \t]*\r?$", re.MULTILINE)
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Card:
    """A card: its metadata as ruamel.yaml's own values, and its text.

    `front_matter` is the YAML as it was written, None where there is none. `prefix` is a byte order mark or empty,
    `line_end` how the lines of the file end.
    """

    metadata: YamlObject
    body: str
    front_matter: str | None
    prefix: str
    line_end: str

    def with_metadata(self, changes: Mapping[str, Any], where: Path) -> Card:
        """The card with other values of some keys, new keys last; all other lines of its YAML stay as they are."""
        front_matter = _changed_yaml(self.front_matter or "", self.metadata, changes, where)
        return Card(
            yaml_files.load_round_trip(front_matter, where, 2), self.body, front_matter, self.prefix, self.line_end
        )

    def with_sections(self, text_by_section: Mapping[str, str], where: Path) -> Card:
        """The card with other texts in those of its sections that are named; names that it has no section for are ignored."""
        body = self.body
        for name, (start, end) in sorted(_section_spans(body, where).items(), key=lambda item: -item[1][0]):
            if name in text_by_section:
                body = body[:start] + self._lines(text_by_section[name]) + body[end:]
        return Card(self.metadata, body, self.front_matter, self.prefix, self.line_end)

    def with_section_appended(self, name: str, text: str, heading: str) -> Card:
        """The card with one more section below a heading at its end."""
        gap = "" if not self.body else "\n" if self.body.endswith("\n") else "\n\n"
        body = self.body + self._lines(f"{gap}## {heading}\n\n{marked_section(name, text)}")
        return Card(self.metadata, body, self.front_matter, self.prefix, self.line_end)

    def section_names(self, where: Path) -> list[str]:
        """The names of its sections between marks. Raises UserError where a mark has no partner."""
        return list(_section_spans(self.body, where))

    def to_text(self) -> str:
        """The card as a file holds it."""
        if self.front_matter is None:
            return self.prefix + self.body
        return self.prefix + self._lines(f"---\n{self.front_matter}---\n") + self.body

    def _lines(self, text: str) -> str:
        return re.sub(r"\r?\n", self.line_end, text)


def marked_section(name: str, text: str) -> str:
    """A section between its two marks."""
    return f"<!-- orca-bench: begin {name} -->\n{text}<!-- orca-bench: end {name} -->\n"


def read_card(path: Path) -> str | None:
    """A card's text with its own line ends, None where there is no such file; raises UserError where it cannot be read."""
    if not path.is_file():
        return None
    with catch_read_errors(path):
        card_bytes = path.read_bytes()
    try:
        return card_bytes.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read the card: not UTF-8 text ({error.reason})", where=path) from None


def parse_card(text: str, where: Path) -> Card:
    """The parts of a card; the metadata is empty where it has no front matter.

    Raises UserError where the front matter has no end, is not YAML, or is not a mapping.
    """
    prefix, text = (_BYTE_ORDER_MARK, text[1:]) if text.startswith(_BYTE_ORDER_MARK) else ("", text)
    line_end = "\r\n" if "\r\n" in text and text.count("\r\n") * 2 > text.count("\n") else "\n"
    match = _FRONT_MATTER.match(text)
    if match is None:
        if _FRONT_MATTER_START.match(text):
            raise UserError("the front matter has no end", where=f"{where}:1", hint="close it with a line of ---")
        return Card({}, text, None, prefix, line_end)
    front_matter = re.sub(r"\r\n", "\n", match.group(1))
    metadata = yaml_files.load_round_trip(front_matter, where, first_line=2)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise UserError("the front matter is not a mapping", where=where)
    return Card(metadata, text[match.end() :], front_matter, prefix, line_end)


def _changed_yaml(front_matter: str, metadata: YamlObject, changes: Mapping[str, Any], where: Path) -> str:
    """YAML with some values changed: only their lines, or, where that gives another value, all of it written again."""
    expected_metadata = dict(metadata) | dict(changes)
    changed_text = front_matter
    try:
        for key, value in changes.items():
            changed_text = _with_lines_of_key(changed_text, key, value, where)
        if yaml_files.load_round_trip(changed_text, where, 2) == expected_metadata:
            return changed_text
    except UserError:
        pass
    # ruamel.yaml's own mapping, a copy, preserves comments, quotes and order of all other keys.
    whole_metadata = yaml_files.load_round_trip(front_matter, where, 2) or {}
    for key, value in changes.items():
        whole_metadata[key] = value
    return yaml_files.to_yaml_text(whole_metadata)


def _with_lines_of_key(front_matter: str, key: str, value: Any, where: Path) -> str:
    """YAML in blocks with the lines of one key replaced, or added at the end."""
    lines = front_matter.splitlines()
    new_lines = yaml_files.to_yaml_text({key: value}).splitlines()
    tree = yaml_files.load_round_trip(front_matter, where, 2)
    # An empty mapping such as {} has no lines of keys.
    line_by_key = {name: mark[0] for name, mark in tree.lc.data.items()} if tree else {}
    if key not in line_by_key:
        return "\n".join([*lines, *new_lines, ""])
    start = line_by_key[key]
    end = min((line for line in line_by_key.values() if line > start), default=len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1  # a comment above the next key is about that key
    return "\n".join([*lines[:start], *new_lines, *lines[end:], ""])


def _section_spans(body: str, where: Path) -> dict[str, tuple[int, int]]:
    """Where the text between the marks of each section begins and ends in the body."""
    spans: dict[str, tuple[int, int]] = {}
    marks = list(_MARK.finditer(body))
    for begin, end in zip(marks[::2], [*marks[1::2], None], strict=False):
        name = begin.group(2)
        is_pair = end is not None and (begin.group(1), end.group(1)) == ("begin", "end") and end.group(2) == name
        if not is_pair or end is None or name in spans:
            problem = "stands twice" if name in spans else "has no partner"
            raise UserError(
                f"the mark '{begin.group().strip()}' {problem}",
                where=where,
                hint="a section stands between a 'begin' and an 'end' mark of its name; delete what is left of it",
            )
        spans[name] = (body.index("\n", begin.end() - 1) + 1, end.start())
    return spans
