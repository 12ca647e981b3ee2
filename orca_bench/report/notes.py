"""What a reader must know about a number, as objects: a text, the numbers that it belongs to, and how much it matters.

No input; `Note`s are made by score_table_notes.py and comparison.py, and every output format shows them: a note on single
numbers as a letter on them (`number_badges`), a note on all results once, hashes and versions only where they are wanted. Its own
module because the table, the comparison, the page and the card show the same notes.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

#: How much a note matters: `warning` can change a conclusion, `remark` explains a number, `provenance` is for checking it
#: (hashes, versions, sources), and is shown only where it is wanted.
NoteKind = Literal["warning", "remark", "provenance"]
_ORDER_OF_KINDS: tuple[NoteKind, ...] = ("warning", "remark", "provenance")


class NotedNumber(NamedTuple):
    """A number of a table: the heading of its result, and its task or average; without `name`, all numbers of the result."""

    heading: str
    name: str = ""


@dataclass(frozen=True)
class Note:
    """A text, its kind, and the numbers that it belongs to; without numbers it is about all that is shown."""

    text: str
    kind: NoteKind = "remark"
    numbers: tuple[NotedNumber, ...] = ()

    @property
    def is_on_single_numbers(self) -> bool:
        """Whether the note belongs to single numbers, so that these have its badge."""
        return bool(self.numbers) and all(number.name for number in self.numbers)


def merge_notes(notes: Sequence[Note], headings: Sequence[str]) -> list[Note]:
    """Each text once, with all its numbers, warnings first; what holds for all of `headings` is about no single result."""
    numbers_by_text: dict[tuple[str, NoteKind], dict[NotedNumber, None]] = {}
    for note in notes:
        numbers_by_text.setdefault((note.text, note.kind), {}).update(dict.fromkeys(note.numbers))
    all_results = {NotedNumber(heading) for heading in headings}
    merged_notes = [
        Note(text, kind, () if all_results <= set(numbers) else tuple(numbers))
        for (text, kind), numbers in numbers_by_text.items()
    ]
    return sorted(merged_notes, key=lambda note: _ORDER_OF_KINDS.index(note.kind))


def number_badges(notes: Sequence[Note]) -> dict[NotedNumber, str]:
    """The letters on each number: `a` for the first note on single numbers, `ac` where two notes belong to a number."""
    badges: dict[NotedNumber, str] = {}
    for letter, note in zip(_letters(notes), (note for note in notes if note.is_on_single_numbers), strict=False):
        for number in note.numbers:
            badges[number] = badges.get(number, "") + letter
    return badges


def note_badge(note: Note, notes: Sequence[Note]) -> str:
    """The letter of one of `notes`, or nothing where it belongs to no single number."""
    single_notes = [each for each in notes if each.is_on_single_numbers]
    return _letters(notes)[single_notes.index(note)] if note in single_notes else ""


def note_line(note: Note, titles: Mapping[str, str]) -> str:
    """The note as one line: `mini ARC-Challenge: text`. `titles` has those of tasks and averages by name."""
    subjects = [f"{number.heading} {titles.get(number.name, number.name)}".strip() for number in note.numbers]
    return f"{', '.join(dict.fromkeys(subjects))}: {note.text}" if subjects else note.text


def _letters(notes: Sequence[Note]) -> list[str]:
    """A letter for each note on single numbers; after z comes aa."""
    count = sum(note.is_on_single_numbers for note in notes)
    alphabet = string.ascii_lowercase
    return [alphabet[i] if i < 26 else alphabet[i // 26 - 1] + alphabet[i % 26] for i in range(count)]
