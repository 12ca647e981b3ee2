"""Results in, one HTML file out that needs nothing else: what was found, tables, pictures, and every question with its
requests.

Nothing is fetched and nothing runs but the page's own script (a content security policy names its hash). Everything that a
model or a data set wrote is data: JSON in which no tag can begin, shown as text by the script. The words of questions, answers
and requests lie in compressed chunks that the script unpacks when they are needed, so that a page of tens of thousands of
questions opens at once. Its own module because it alone puts whole results into one file; its parts are in the package `page`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from orca_bench.files import open_text_replacement
from orca_bench.report import model_colors
from orca_bench.report.comparison import Comparison
from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.grid_formats import escape_html
from orca_bench.report.page import foot, heading, page_files, page_notes, question_chunks
from orca_bench.report.page.page_groups import PageGroup, group_results, page_labels
from orca_bench.report.page.question_chunks import Progress
from orca_bench.report.page.question_list import list_questions
from orca_bench.report.page.score_lines import group_comparison, score_lines
from orca_bench.report.page.score_tables import score_tables
from orca_bench.report.pictures import PICTURE_CSS, Picture
from orca_bench.report.pictures.differences import draw_differences
from orca_bench.report.pictures.scores import draw_scores
from orca_bench.report.pictures.steps import draw_known_steps
from orca_bench.report.pictures.subjects import draw_subjects
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.question_texts import QuestionTextsLookup
from orca_bench.results.reading import ResultFile


def no_progress(_written_count: int, _count: int) -> None:
    """A Progress without a display."""


def write_page(
    out: Path,
    title: str,
    result_files: Sequence[ResultFile],
    reported_scores: ReportedScores | None,
    lookups: Sequence[QuestionTextsLookup | None],
    absence_reasons: Sequence[str] = (),
    progress: Progress = no_progress,
) -> None:
    """Write the page of some results, with their questions, to the file `out`.

    `lookups` has, for each result, how to look up the words and requests of its questions, None where they are not to be had;
    `absence_reasons` say why, for the foot of the page. Raises UserError where the file cannot be written, and for a number that
    is not finite.
    """
    with open_text_replacement(out) as handle:
        for html_piece in page_pieces(title, result_files, reported_scores, lookups, absence_reasons, progress):
            handle.write(html_piece)


def page_pieces(
    title: str,
    result_files: Sequence[ResultFile],
    reported_scores: ReportedScores | None,
    lookups: Sequence[QuestionTextsLookup | None],
    absence_reasons: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Iterator[str]:
    """The page in pieces of text, so that a large one is never in memory as a whole; parameters as for `write_page`."""
    groups = group_results(result_files)
    order = [index for group in groups for index in group.indices]
    page_results = [
        replace(result_files[index], label=label)
        for index, label in zip(order, page_labels(groups, result_files), strict=True)
    ]
    questions = list_questions(page_results)
    comparisons = [group_comparison(group) for group in groups]
    conclusions = [
        scores_sentence(group.results, reported_scores, group.protocol_name, comparison)
        for group, comparison in zip(groups, comparisons, strict=True)
    ]
    script = page_files.script()
    yield _html_head(title, script)
    yield heading.page_heading(title, groups, conclusions, len(questions))
    yield "<main>\n"
    for number, group in enumerate(groups):
        conclusion = conclusions[number] if len(groups) > 1 else None
        yield _group_section(group, number, conclusion, reported_scores, comparisons[number])
    yield page_files.questions_section()
    yield "</main>\n"
    reasons = list(absence_reasons)
    if questions and not any(lookups):
        reasons.append(
            "The questions' words and requests: they are in the benchmark's rows, which --benchmarks FOLDER names."
        )
    yield foot.page_foot(page_results, page_notes.all_notes(groups, reported_scores), reasons)
    pieces = question_chunks.question_elements(
        page_results,
        questions,
        [lookups[index] for index in order],
        [styled_result.style.css_color for group in groups for styled_result in group.styled_results],
        progress,
    )
    # The script stands before the chunks, so that the page answers while the rest of a large file is still being read.
    yield next(pieces)
    yield next(pieces)
    yield f"<script>{script}</script>\n"
    yield from pieces
    yield '<i id="page-end" hidden></i>\n</body>\n</html>\n'


def _html_head(title: str, script: str) -> str:
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{script_hash}'"
    style = f":root {{ {model_colors.css_properties()} }}\n{PICTURE_CSS}{page_files.style_sheet()}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape_html(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    )


def _group_section(
    group: PageGroup,
    number: int,
    conclusion: str | None,
    reported_scores: ReportedScores | None,
    comparison: Comparison | None,
) -> str:
    """The table and the pictures of a group; `conclusion` heads it where the page has several groups."""
    lines = score_lines(group, reported_scores, comparison)
    notes = page_notes.group_notes(group, reported_scores)
    group_head = "" if conclusion is None else heading.group_heading(group, number, conclusion)
    section_label = "Scores" if conclusion is None else f"Scores: {group.suite_name}, {group.protocol_name}"
    title_html = "<h2>Scores</h2>\n" if conclusion is None else ""
    tables = score_tables(group, lines, comparison, page_notes.badges_of(notes))
    pictures = "".join(
        picture.html(f"picture-{number}-{picture.kind}") for picture in _pictures(group, comparison, reported_scores)
    )
    return (
        f'<section class="group" aria-label="{escape_html(section_label)}">\n{group_head}{title_html}'
        f'{tables}{page_notes.notes_html(notes)}<div class="figures" id="pictures-{number}">{pictures}</div></section>\n'
    )


def _pictures(group: PageGroup, comparison: Comparison | None, reported_scores: ReportedScores | None) -> list[Picture]:
    """Differences where two results were compared, else scores; then MMLU by subject, and scores over training steps."""
    part = group.part
    if not part.tasks:
        return []
    pictures = [draw_scores(part, reported_scores) if comparison is None else draw_differences(part, comparison)]
    return pictures + [picture for picture in (draw_subjects(part), draw_known_steps(part)) if picture is not None]
