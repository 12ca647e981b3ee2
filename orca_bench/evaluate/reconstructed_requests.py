"""A result and the rows in, the words of its questions and the very requests that were sent out.

For readers of a result, which keeps answers only. Its own module because evaluation sends requests and never needs them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols, request_files
from orca_bench.evaluate.protocols.chat import readable_context
from orca_bench.evaluate.protocols.protocol import parts_of_task
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import ChoiceTask, Row, Task
from orca_bench.results.models import Result
from orca_bench.results.question_texts import QuestionTexts, QuestionTextsLookup
from orca_bench.suite import task_name_of_part


def requests_by_result(benchmarks: Path | None) -> Callable[[Result], tuple[QuestionTextsLookup, list[str]]]:
    """A function that rebuilds a result's requests from these rows; results of the same requests share the work."""
    lookups_and_notes: dict[str, tuple[QuestionTextsLookup, list[str]]] = {}

    def requests_of(result: Result) -> tuple[QuestionTextsLookup, list[str]]:
        requests_hashes = {task_name: entry.requests_sha256 for task_name, entry in result.tasks.items()}
        key = json.dumps([result.protocol.to_json(), result.limit, requests_hashes, result.data_hashes], sort_keys=True)
        if key not in lookups_and_notes:
            lookups_and_notes[key] = rebuild_requests(result, benchmarks)
        return lookups_and_notes[key]

    return requests_of


def rebuild_requests(result: Result, benchmarks: Path | None) -> tuple[QuestionTextsLookup, list[str]]:
    """A function that gives the texts of a result's questions, made again from the rows; and notes on what is not to be had.

    Where the rows are others than the result's, or cannot be read, nothing of the task is given; where they are the same and the
    requests, made again, have not the hash that the result names, the question is given without its requests, and so it is
    for lm-eval's own prompts, which are not made here. Raises UserError where there is no such folder of benchmarks.
    """
    benchmark_rows.read_suite(benchmarks)
    titles_by_note: dict[str, list[str]] = {}
    texts_by_task: dict[str, dict[tuple[str, int], QuestionTexts]] = {}
    for task in SUITE:
        if task.name in result.tasks:
            texts_by_task[task.name] = _task_texts(result, task, benchmarks, titles_by_note)

    def texts_of(part_name: str, row_index: int) -> QuestionTexts | None:
        return texts_by_task.get(task_name_of_part(part_name), {}).get((part_name, row_index))

    return texts_of, [f"{_join_titles(titles)}: {note}" if titles else note for note, titles in titles_by_note.items()]


def _task_texts(
    result: Result, task: Task, benchmarks: Path | None, titles_by_note: dict[str, list[str]]
) -> dict[tuple[str, int], QuestionTexts]:
    """The texts of a task's questions by part and row number; where some are not to be had, the task is added to the note."""
    try:
        rows = benchmark_rows.reload_result_rows(result, task, benchmarks)
    except UserError as error:
        note = f"the rows cannot be had, so neither questions nor requests are shown ({error})"
        titles_by_note.setdefault(note, []).append(task.title)
        return {}
    if result.protocol.name == "plain":
        titles_by_note["plain: lm-eval's own prompts are not made again, so no requests are shown"] = []
        return {} if not _are_same_rows(result, task, rows) else _texts_of_rows(task, rows)
    protocol = protocols.protocol_of_result(result.protocol)
    documents = protocol.documents(task, rows, result.question_limit.of_task(task.name))
    if request_files.requests_sha256(documents) != result.tasks[task.name].requests_sha256:
        note = "these rows do not give the requests that were sent, so none are shown"
        titles_by_note.setdefault(note, []).append(task.title)
        return {} if not _are_same_rows(result, task, rows) else _texts_of_rows(task, rows)
    if result.protocol.name == protocols.Chat.name:
        documents = [_with_readable_contexts(document) for document in documents]
    return {
        (document.part_name, document.row_index): _question_texts(task, document.row, document.requests)
        for document in documents
    }


def _with_readable_contexts(document: protocols.Document) -> protocols.Document:
    """A document of protocol `chat` whose chats are texts for people."""
    requests = tuple(replace(request, context=readable_context(request.context)) for request in document.requests)
    return replace(document, requests=requests)


def _join_titles(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _are_same_rows(result: Result, task: Task, rows: benchmark_rows.BenchmarkRows) -> bool:
    row_hash = result.evaluation_row_hash(task.facts)
    return row_hash is not None and row_hash == rows.hashes_by_split.get(task.evaluation_split)


def _texts_of_rows(task: Task, rows: benchmark_rows.BenchmarkRows) -> dict[tuple[str, int], QuestionTexts]:
    """The texts of all rows, without requests."""
    return {
        (part.part_name, row_index): _question_texts(task, rows.evaluation_rows[row_index], ())
        for part in parts_of_task(task, rows)
        for row_index in part.row_indices
    }


def _question_texts(task: Task, row: Row, requests: Sequence[protocols.Request]) -> QuestionTexts:
    return QuestionTexts(
        task.plain_question(row),
        task.passage(row),
        tuple(task.plain_choices(row)) if isinstance(task, ChoiceTask) else (),
        tuple((request.context, request.continuation, request.stop_strings) for request in requests),
    )
