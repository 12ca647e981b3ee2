"""Results in, one HTML file out that needs nothing else: table, pictures, notes, and every question with its requests.

Nothing is fetched and nothing runs but the page's own script (a content security policy names its hash). Everything that a
model or a data set wrote is data: JSON in which no tag can begin, shown as text by the script. Requests and answers lie in
compressed chunks that the script unpacks when one of their questions is opened, so that a page of tens of thousands of questions
opens at once. Its own module because it alone puts a whole result into one file; page.html, page.css and page.js are its parts.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from orca_bench.errors import UserError
from orca_bench.files import open_text_replacement
from orca_bench.report import score_table_formats
from orca_bench.report.grid import Grid, TextCell
from orca_bench.report.leaderboard import build_leaderboard
from orca_bench.report.notes import note_line
from orca_bench.report.pictures import PictureFiles
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.score_table import build_score_table
from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile
from orca_bench.suite import task_name_of_part

_CHUNK_SIZE = 100  # questions that are unpacked together
_COMPRESSION_LEVEL = 6
_MAX_RESULT_COLUMNS = 2  # of more results the table has a row for each
_PACKAGE_FOLDER = Path(__file__).parent

#: Called with (questions written, all questions).
Progress: TypeAlias = Callable[[int, int], None]
#: One request as it was sent: context, continuation (None where a text was generated), stop strings.
RequestTexts: TypeAlias = tuple[str, str | None, Sequence[str]]
#: Gives the requests of a question by task part and index in the protocol's order; None where they cannot be rebuilt.
RequestLookup: TypeAlias = Callable[[str, int], Sequence[RequestTexts] | None]

_QuestionKey: TypeAlias = tuple[str, str, int]  # task, part, row
_Json: TypeAlias = dict[str, object]


def no_progress(_written: int, _count: int) -> None:
    """A Progress without a display."""


def write_page(
    out: Path,
    title: str,
    results: Sequence[ResultFile],
    reported_scores: ReportedScores,
    pictures: Sequence[PictureFiles],
    request_lookups: Sequence[RequestLookup | None],
    progress: Progress = no_progress,
) -> None:
    """Write the page of some results, with their questions, to the file `out`; `request_lookups` has one entry per result.

    The table has a column for each result, from three results on a row for each. Raises UserError where the file cannot be
    written, and for a number that is not finite.
    """
    score_table = build_score_table(
        [(result_file.label, result_file.result) for result_file in results], reported_scores
    )
    grid = score_table_formats.to_grid(score_table)
    if len(results) > _MAX_RESULT_COLUMNS:
        leaderboard = build_leaderboard(results, [reported_scores])
        notes = list(dict.fromkeys([*leaderboard.notes, *score_table.notes]))
        grid = replace(leaderboard, title=score_table.title, notes=notes)
    with open_text_replacement(out) as handle:
        for html_piece in page_pieces(title, results, grid, pictures, request_lookups, progress):
            handle.write(html_piece)


def page_pieces(
    title: str,
    results: Sequence[ResultFile],
    grid: Grid,
    pictures: Sequence[PictureFiles],
    request_lookups: Sequence[RequestLookup | None],
    progress: Progress = no_progress,
) -> Iterator[str]:
    """The page in pieces of text, so that a large one is never in memory as a whole; parameters as for `write_page`."""
    question_keys = _question_keys(results)
    script, style = _read_package_file("page.js"), _read_package_file("page.css")
    yield _html_head(title, script, style)
    yield _html_table(grid)
    yield '<section id="pictures">\n'
    for picture in pictures:
        svg_base64 = base64.b64encode(picture.svg.read_bytes()).decode()
        caption = html.escape(picture.caption)
        yield (
            f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{svg_base64}">'
            f"<figcaption>{caption}</figcaption></figure>\n"
        )
    yield "</section>\n"
    yield _read_package_file("page.html")
    yield f'<script type="application/json" id="index">{_json(_page_index(results, question_keys))}</script>\n'
    for index, chunk_start in enumerate(range(0, len(question_keys), _CHUNK_SIZE)):
        progress(chunk_start, len(question_keys))
        chunk = [
            _question_json(results, request_lookups, key)
            for key in question_keys[chunk_start : chunk_start + _CHUNK_SIZE]
        ]
        compressed = gzip.compress(_json(chunk).encode(), _COMPRESSION_LEVEL, mtime=0)
        yield f'<script type="text/plain" id="chunk-{index}">{base64.b64encode(compressed).decode()}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _read_package_file(name: str) -> str:
    return (_PACKAGE_FOLDER / name).read_text(encoding="utf-8")


def _html_head(title: str, script: str, style: str) -> str:
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{script_hash}'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
    )


def _html_table(grid: Grid) -> str:
    """The table of scores with its notes; the script sorts it by a column."""
    headings = "".join(
        f'<th class="{_alignment(grid, i)}"><button type="button">{html.escape(heading)}</button></th>'
        for i, heading in enumerate(grid.headings)
    )
    rows = [
        f"<tr>{''.join(_table_cell(cell, _alignment(grid, i)) for i, cell in enumerate(row))}</tr>" for row in grid.rows
    ]
    notes = "".join(f"<li>{html.escape(note_line(note))}</li>" for note in grid.notes)
    title = f"<p>{html.escape(grid.title)}</p>" if grid.title else ""
    return (
        f'<section id="scores">{title}<div class="wide"><table><thead><tr>{headings}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + f"\n</tbody></table></div><ul>{notes}</ul></section>\n"
    )


def _alignment(grid: Grid, column: int) -> str:
    return "left" if column in grid.left_columns else "right"


def _table_cell(cell: TextCell, alignment: str) -> str:
    text = html.escape(cell.text)
    return f'<td class="{alignment}">{f"<b>{text}</b>" if cell.bold else text}</td>'


def _question_keys(results: Sequence[ResultFile]) -> list[_QuestionKey]:
    """(task, part, row) of every question of any result, in the order of the first result that has it."""
    question_keys: dict[_QuestionKey, None] = {}
    for result_file in results:
        for task, task_questions in result_file.questions_by_task.items():
            question_keys |= {(task, *question_key): None for question_key in task_questions.questions_by_key}
    tasks = list(dict.fromkeys(task for task, _, _ in question_keys))
    return sorted(
        question_keys, key=lambda question_key: tasks.index(question_key[0])
    )  # stable: within a task in the protocol's order


def _find_question(result_file: ResultFile, question_key: _QuestionKey) -> Question | None:
    """A question of a result, or None where the result has none of this key."""
    task, part_name, row_index = question_key
    return (
        result_file.questions_by_task[task].questions_by_key.get((part_name, row_index))
        if task in result_file.questions_by_task
        else None
    )


def _page_index(results: Sequence[ResultFile], question_keys: Sequence[_QuestionKey]) -> _Json:
    """What the page's list needs of every question: task, part, row, and its score in each result, null where it has none."""
    parts = list(dict.fromkeys(part for _, part, _ in question_keys))
    part_numbers = {part: index for index, part in enumerate(parts)}
    scores = []
    for result_file in results:
        questions = [_find_question(result_file, question_key) for question_key in question_keys]
        scores.append([None if question is None else round(question.score, 4) for question in questions])
    titles: dict[str, list[str]] = {}
    for result_file in results:
        titles |= {
            name: [task_result.title, task_result.metric] for name, task_result in result_file.result.tasks.items()
        }
    tasks = dict.fromkeys(task for task, _, _ in question_keys)
    return {
        "results": [result_file.label for result_file in results],
        "tasks": [[name, *titles.get(name, [name, None])] for name in tasks],
        "parts": [[part, task_name_of_part(part)] for part in parts],
        "part": [part_numbers[part] for _, part, _ in question_keys],
        "row": [row for _, _, row in question_keys],
        "scores": scores,
        "chunk": _CHUNK_SIZE,
    }


def _question_json(
    results: Sequence[ResultFile], request_lookups: Sequence[RequestLookup | None], question_key: _QuestionKey
) -> _Json:
    """One question: its requests, each form of them once, and what each result has of it, null where it has no such question."""
    question_entries: list[_Json | None] = []
    request_forms: list[_Json] = []
    for result_file, lookup in zip(results, request_lookups, strict=True):
        question = _find_question(result_file, question_key)
        if question is None:
            question_entries.append(None)
            continue
        request_texts = None
        if lookup is not None and "index" in question.model_fields_set:
            request_texts = lookup(question.task, question.index)
        request_form = None if request_texts is None else _request_form(request_texts)
        if request_form is not None and request_form not in request_forms:
            request_forms.append(request_form)
        question_entries.append(
            _question_entry(question, None if request_form is None else request_forms.index(request_form))
        )
    return {"forms": request_forms, "results": question_entries}


def _question_entry(question: Question, form_index: int | None) -> _Json:
    """What one result has of a question; `form_index` is the index of the form in which it was sent."""
    return {
        "score": question.score,
        "prediction": question.prediction,
        "gold": question.gold,
        "answers": question.answers,
        "whole": question.whole,
        # One protocol also sends TruthfulQA's mc1 choices, before those that prediction and gold count.
        "one_set": question.mc1 is None,
        "form": form_index,
    }


def _request_form(requests: Sequence[RequestTexts]) -> _Json:
    """Contexts, each once, and by request the number of its context, its continuation and its stop strings."""
    contexts = list(dict.fromkeys(context for context, _, _ in requests))
    return {
        "contexts": contexts,
        "requests": [[contexts.index(context), continuation, list(stop)] for context, continuation, stop in requests],
    }


def _json(value: object) -> str:
    """JSON in which no tag, comment or line separator can begin."""
    try:
        text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False, default=str)
    except ValueError:
        raise UserError("a number in the questions is not finite", hint="evaluate again") from None
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
