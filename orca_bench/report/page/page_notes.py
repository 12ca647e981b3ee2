"""A group of results in, its notes as HTML out: a letter on the number that a note belongs to, and its text below the table.

At most five notes stand below a table; all of them stand in full at the foot of the page. Its own module because the notes of a
page have their own form: badges are links, and hashes are only in the foot.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.counts import counted
from orca_bench.report.grid_formats import escape_html
from orca_bench.report.notes import (
    Note,
    NotedNumber,
    badge_letters,
    footnote_text,
    merge_notes,
    note_line,
    number_badges,
)
from orca_bench.report.page.page_groups import PageGroup
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.score_table_notes import reported_notes, result_notes

_MOST_NOTES = 5


def group_notes(group: PageGroup, reported_scores: ReportedScores | None) -> list[Note]:
    """The notes of a group, warnings first; what holds for all its results is about no single one."""
    is_comparable = group.results[0].result.suite.comparable
    has_reported = reported_scores is not None and is_comparable
    notes = [
        note
        for result_file in group.results
        for note in result_notes(result_file.label, result_file.result, has_reported)
    ]
    if reported_scores is not None and is_comparable:
        measured_tasks = {name for result_file in group.results for name in result_file.result.tasks}
        notes += [
            note
            for note in reported_notes(reported_scores, is_comparable)
            if not note.is_on_single_numbers or any(number.name in measured_tasks for number in note.numbers)
        ]
    return merge_notes(notes, [result_file.label for result_file in group.results])


def badges_of(notes: Sequence[Note]) -> dict[NotedNumber, str]:
    """The letters on each number."""
    return number_badges(_notes_below_table(notes))


def notes_html(notes: Sequence[Note]) -> str:
    """The notes below a table: at most five, and how many more there are."""
    table_notes = _notes_below_table(notes)
    letters = badge_letters(table_notes)
    items = []
    for letter, note in list(zip(letters, table_notes, strict=True))[:_MOST_NOTES]:
        badge = f"<b>{letter}</b> " if letter else ""
        items.append(f'<li class="{note.kind}">{badge}{escape_html(footnote_text(note))}</li>')
    if len(table_notes) > _MOST_NOTES:
        count = len(table_notes) - _MOST_NOTES
        items.append(f'<li><a href="#notes">{counted(count, "more note")} at the foot of the page</a></li>')
    return f'<ul class="notes">{"".join(items)}</ul>\n' if items else ""


def all_notes(groups: Sequence[PageGroup], reported_scores: ReportedScores | None) -> list[str]:
    """Every note of the page in full, hashes included."""
    lines = [
        f"{letter}: {note_line(note)}" if letter else note_line(note)
        for group in groups
        for notes in [group_notes(group, reported_scores)]
        for letter, note in zip(_letters_of_all(notes), notes, strict=True)
    ]
    return list(dict.fromkeys(lines))


def _notes_below_table(notes: Sequence[Note]) -> list[Note]:
    return [note for note in notes if note.kind != "provenance"]


def _letters_of_all(notes: Sequence[Note]) -> list[str]:
    """The letters of the table, so that the foot has the same; nothing for a note that is only in the foot."""
    letters = iter(badge_letters(_notes_below_table(notes)))
    return ["" if note.kind == "provenance" else next(letters) for note in notes]
