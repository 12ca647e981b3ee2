"""What a reader must know about a number, as objects: a text, the numbers that it belongs to, and how much it matters.

No input; score_table_notes.py and comparison.py make the `Note`s, and every output format shows them: a note on single numbers
as a letter on them (`number_badges`), a note on all results once, hashes and versions only where they are wanted. Its own
module because the table, the comparison, the page and the card show the same notes.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME

#: How much a note matters: a `warning` can change a conclusion, a `remark` explains a number, `method` says how it was
#: computed, `provenance` is for checking it (hashes, versions, sources). The last two are shown only where they are wanted.
NoteKind = Literal["warning", "remark", "method", "provenance"]
_ORDER_OF_KINDS: tuple[NoteKind, ...] = ("warning", "remark", "method", "provenance")
#: The kinds that are shown unless more is wanted.
DEFAULT_KINDS: frozenset[NoteKind] = frozenset({"warning", "remark"})
ALL_KINDS: frozenset[NoteKind] = frozenset(_ORDER_OF_KINDS)
#: The `rank` of notes that are not on a model.
OTHER_RANK = 9
_MOST_NAMED_RESULTS = 3
_SUPERSCRIPT_LETTERS = dict(zip("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
_LETTERS = string.ascii_lowercase.replace("q", "")  # there is no superscript q


class NotedNumber(NamedTuple):
    """A number of a table: the heading of its result, and its task or average; without `name`, all numbers of the result."""

    heading: str
    name: str = ""


@dataclass(frozen=True)
class Note:
    """A text, its kind, and the numbers that it belongs to; without numbers it is about all that is shown.

    `column` is the heading of the column that the note explains, if it explains one. `rank` orders notes of one kind, the lowest
    first: those on the models have one below `OTHER_RANK`. A note that `is_always_shown` is never left out for want of lines.
    """

    text: str
    kind: NoteKind = "remark"
    numbers: tuple[NotedNumber, ...] = ()
    column: str = ""
    rank: int = OTHER_RANK
    is_always_shown: bool = False

    @property
    def is_on_single_numbers(self) -> bool:
        """Whether the note belongs to single numbers, so that these have its badge."""
        return bool(self.numbers) and all(number.name for number in self.numbers)


def merge_notes(notes: Sequence[Note], headings: Sequence[str]) -> list[Note]:
    """Each text once, with all its numbers, warnings first; what holds for all of `headings` is about no single result.

    Within a kind, notes on models stand first, and notes on whole results before those on single numbers.
    """
    numbers_by_text: dict[str, dict[NotedNumber, None]] = {}
    kind_by_text: dict[str, NoteKind] = {}
    rank_by_text: dict[str, int] = {}
    for note in notes:
        numbers_by_text.setdefault(note.text, {}).update(dict.fromkeys(note.numbers))
        known_kind = kind_by_text.get(note.text, note.kind)
        kind_by_text[note.text] = min(note.kind, known_kind, key=_ORDER_OF_KINDS.index)
        rank_by_text[note.text] = min(note.rank, rank_by_text.get(note.text, note.rank))
    always_shown_texts = {note.text for note in notes if note.is_always_shown}
    all_results = {NotedNumber(heading) for heading in headings}
    merged_notes = [
        Note(
            text,
            kind_by_text[text],
            () if all_results <= set(numbers) else tuple(numbers),
            rank=rank_by_text[text],
            is_always_shown=text in always_shown_texts,
        )
        for text, numbers in numbers_by_text.items()
    ]
    return sorted(
        merged_notes, key=lambda note: (_ORDER_OF_KINDS.index(note.kind), note.rank, note.is_on_single_numbers)
    )


def select_notes(
    notes: Sequence[Note],
    numbers: Sequence[NotedNumber],
    column_headings: Collection[str],
    kinds: Collection[NoteKind] = DEFAULT_KINDS,
) -> list[Note]:
    """The notes of some kinds that are about something shown: notes on single numbers lose those not among `numbers`.

    Within a kind, notes on single numbers stand in the order of these, so that the letters in a table begin with `a`.
    """
    places = {number: index for index, number in reversed(list(enumerate(numbers)))}
    selected_notes = []
    for note in notes:
        if note.kind not in kinds or (note.column and note.column not in column_headings):
            continue
        if note.is_on_single_numbers:
            note = replace(note, numbers=tuple(number for number in note.numbers if number in places))
            if not note.numbers:
                continue
        selected_notes.append(note)

    def order(note: Note) -> tuple[int, int, int]:
        first_place = min(places[number] for number in note.numbers) if note.is_on_single_numbers else -1
        return _ORDER_OF_KINDS.index(note.kind), note.rank, first_place

    return sorted(selected_notes, key=order)


def badge_letters(notes: Sequence[Note]) -> list[str]:
    """For each note its letter, `a` for the first; empty for a note that belongs to no single number."""
    letters, count = [], 0
    for note in notes:
        letters.append(_letter(count) if note.is_on_single_numbers else "")
        count += note.is_on_single_numbers
    return letters


def number_badges(notes: Sequence[Note]) -> dict[NotedNumber, str]:
    """The letters on each number: `a` for the first note on single numbers, `a,c` where two notes belong to a number."""
    badges: dict[NotedNumber, list[str]] = {}
    for letter, note in zip(badge_letters(notes), notes, strict=True):
        if letter:
            for number in note.numbers:
                badges.setdefault(number, []).append(letter)
    return {number: ",".join(letters) for number, letters in badges.items()}


def superscript(badge: str) -> str:
    """A badge in superscript letters, for formats without markup."""
    return "".join(_SUPERSCRIPT_LETTERS.get(character, "") for character in badge)


def note_line(note: Note) -> str:
    """The note as a line of its own: `mini ARC-Challenge: text`."""
    subjects = [
        f"{number.heading} {number_title(number)}".strip() for number in note.numbers if number.heading or number.name
    ]
    return f"{', '.join(dict.fromkeys(subjects))}: {note.text}" if subjects else note.text


def footnote_text(note: Note) -> str:
    """The note as it stands below a table whose numbers have badges: only a note on whole results names them."""
    if note.is_on_single_numbers or not note.numbers:
        return note.text
    headings = list(dict.fromkeys(number.heading for number in note.numbers))
    if len(headings) > _MOST_NAMED_RESULTS:
        headings = [*headings[: _MOST_NAMED_RESULTS - 1], f"{len(headings) - _MOST_NAMED_RESULTS + 1} others"]
    return f"{', '.join(headings)}: {note.text}"


def number_title(number: NotedNumber) -> str:
    """The title of a number's task or average."""
    task = TASK_BY_NAME.get(number.name)
    return task.title if task is not None else AVERAGE_TITLE_BY_NAME.get(number.name, number.name)


def _letter(index: int) -> str:
    """`a` to `z` without q, then `aa`, `ab` and so on."""
    round_number, letter_index = divmod(index, len(_LETTERS))
    return (_LETTERS[round_number - 1] if round_number else "") + _LETTERS[letter_index]
