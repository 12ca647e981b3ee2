"""A result and the rows in, the very requests that were sent out: for readers of a result, which stores answers only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from orca_bench.evaluate import benchmark_rows, protocols, request_files
from orca_bench.evaluate.tasks import SUITE
from orca_bench.results.models import Result
from orca_bench.suite import task_name_of_part

#: (context, continuation or None, stop strings) of a request.
RequestTexts = tuple[str, str | None, Sequence[str]]
#: The requests of a question by task part and place in the protocol's order; None where they are not known.
RequestLookup = Callable[[str, int], Sequence[RequestTexts] | None]


def requests_by_result(benchmarks_folder: Path | None) -> Callable[[Result], tuple[RequestLookup, list[str]]]:
    """A function that rebuilds a result's requests from these rows; results of the same requests share the work."""
    lookups_and_notes: dict[str, tuple[RequestLookup, list[str]]] = {}

    def requests_of(result: Result) -> tuple[RequestLookup, list[str]]:
        requests_hashes = {task_name: entry.requests_sha256 for task_name, entry in result.tasks.items()}
        key = json.dumps([result.protocol.to_json(), result.limit, requests_hashes], sort_keys=True)
        if key not in lookups_and_notes:
            lookups_and_notes[key] = rebuild_requests(result, benchmarks_folder)
        return lookups_and_notes[key]

    return requests_of


def rebuild_requests(result: Result, benchmarks_folder: Path | None) -> tuple[RequestLookup, list[str]]:
    """A function that gives the requests of a result's questions, made again from the rows; and notes.

    The function gives None for a task whose requests, made again, have not the hash that the result names, and for lm-eval's
    own prompts, which are not made here. Raises UserError where the rows cannot be read.
    """
    if result.protocol.name == "plain":
        return (lambda part_name, document_index: None), ["plain: lm-eval's own prompts are not made again"]
    protocol = protocols.protocol_of_result(result.protocol)
    documents_by_task: dict[str, dict[tuple[str, int], protocols.Document]] = {}
    reader_notes = []
    for task in SUITE:
        if task.name not in result.tasks:
            continue
        task_rows = benchmark_rows.reload_result_rows(result, task, benchmarks_folder)
        documents = protocol.documents(task, task_rows, result.limit)
        if request_files.requests_sha256(documents) != result.tasks[task.name].requests_sha256:
            reader_notes.append(f"{task.title}: these rows do not give the requests that were sent, so none are shown")
            continue
        documents_by_task[task.name] = {
            (document.part_name, document.document_index): document for document in documents
        }

    def requests_of(part_name: str, document_index: int) -> list[RequestTexts] | None:
        document = documents_by_task.get(task_name_of_part(part_name), {}).get((part_name, document_index))
        if document is None:
            return None
        return [(request.context, request.continuation, request.stop_strings) for request in document.requests]

    return requests_of, reader_notes
