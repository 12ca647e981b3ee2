"""The result of one evaluation, put together task by task: what is known before the first task, then an entry for each.

The suite, the protocol, a model's description and scored questions come in; an `orca_bench.results.models.Result` goes out.
It is written after every task, so an evaluation that is stopped leaves a readable one: `complete` is false while a task of
`order`, the tasks that were ordered, has no entry. Its own module because entries and their warnings depend on rows and
protocols, which the package `results` does not know.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from orca_bench import __version__
from orca_bench.evaluate.benchmark_rows import BenchmarkRows, Suite, row_statuses_by_split
from orca_bench.evaluate.overlap_marks import OverlapMarker
from orca_bench.evaluate.protocols import Protocol
from orca_bench.evaluate.tasks.task import Task
from orca_bench.question_limit import QuestionLimit
from orca_bench.results.hashing import sha256_of_all_requests, sha256_of_json
from orca_bench.results.models import RESULT_FORMAT, ModelDescription, Question, Result, SuiteDescription
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.summary import compute_averages, summarize_task
from orca_bench.results.task_facts import in_task_order, ordered_names
from orca_bench.results.task_results import OTHER_ROWS, UNVERIFIED_ROWS, HarnessTaskResult, TaskResult

if TYPE_CHECKING:
    from orca_bench.evaluate.harness.language_model import HarnessModel

_RECORDED_LIBRARIES = ("lm_eval", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "numpy")
_T = TypeVar("_T")


def start_result(
    suite: Suite, protocol: Protocol, question_limit: QuestionLimit, model_fields: Mapping[str, Any]
) -> Result:
    """A result without tasks, of which none is ordered. `model_fields` describes what answers: at least `name`."""
    library_versions = {library_name: importlib.metadata.version(library_name) for library_name in _RECORDED_LIBRARIES}
    return Result(
        format=RESULT_FORMAT,
        complete=False,
        order=[],
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        suite=SuiteDescription(name=suite.suite_name, comparable=suite.is_comparable, note=suite.suite_note),
        protocol=ProtocolDescription.model_validate(protocol.describe()),
        requests_sha256=sha256_of_json([]),
        limit=question_limit.to_json(),
        model=ModelDescription.model_validate(model_fields),
        tasks={},
        averages={},
        data_hashes={},
        data_commits={},
        versions={"orca_bench": __version__, "python": platform.python_version(), **library_versions},
        lm_eval={},
    )


def add_task_result(
    result: Result,
    task: Task,
    rows: BenchmarkRows,
    protocol: Protocol,
    questions: Sequence[Question],
    requests_sha256: str,
    tokens_sha256: str | None = None,
    shortened_context_count: int | None = None,
    server_shortened_context_count: int | None = None,
    elapsed_seconds: float | None = None,
    marker: OverlapMarker | None = None,
) -> TaskResult:
    """Put a task's scored questions into a result; returns the task's entry.

    `shortened_context_count` counts contexts that were cut to the model's window, `server_shortened_context_count` those that a
    server's window cut further. `marker` marks the questions that are in the training records.
    """
    task_result = summarize_task(task.facts, questions)
    task_result.rows, task_result.requests_sha256 = len(rows.evaluation_rows), requests_sha256
    measured_values_by_field = {
        "tokens_sha256": tokens_sha256,
        "shortened": shortened_context_count,
        "narrowed": server_shortened_context_count,
        "seconds": elapsed_seconds,
    }
    for field_name, measured_value in measured_values_by_field.items():
        if measured_value is not None:
            setattr(task_result, field_name, measured_value)
    if marker is not None and (overlap := marker.mark(task, rows, questions)) is not None:
        task_result.overlap = overlap
    if result.suite.comparable:
        task_result.row_check = row_statuses_by_split(task, rows)
    task_result.warnings = reader_warnings(protocol, task, task_result, rows)
    if rows.hub_commit is not None:
        result.data_commits = in_task_order(result.data_commits | {task.name: rows.hub_commit.commit_sha})
    _put_entry(result, task.name, task_result, rows.hashes_by_split)
    return task_result


def add_harness_result(
    result: Result,
    task_name: str,
    task_result: HarnessTaskResult,
    row_hashes_by_split: Mapping[str, str],
    harness_model: HarnessModel,
    elapsed_seconds: float,
) -> None:
    """Put the entry of a task that the suite does not have into a result, with what the model class counted."""
    task_result.tokens_sha256 = harness_model.tokens_sha256
    task_result.shortened = harness_model.shortened_context_count
    if harness_model.server_shortened_context_count:
        task_result.narrowed = harness_model.server_shortened_context_count
    task_result.seconds = elapsed_seconds
    task_result.warnings = [*task_result.warnings, *_server_shortened_warning(task_result)]
    _put_entry(result, task_name, task_result, row_hashes_by_split)


def _put_entry(result: Result, task_name: str, task_result: TaskResult, row_hashes_by_split: Mapping[str, str]) -> None:
    names = ordered_names([*(result.order or ()), *result.tasks, task_name])
    result.tasks = _select(result.tasks | {task_name: task_result}, names)
    result.data_hashes = _select(result.data_hashes | {task_name: dict(row_hashes_by_split)}, names)
    result.lm_eval = _select(result.lm_eval, names)
    result.averages = compute_averages(result.tasks)
    result.requests_sha256 = sha256_of_all_requests(result)
    result.complete = not result.missing_task_names


def _select(values_by_task: Mapping[str, _T], names: Sequence[str]) -> dict[str, _T]:
    return {name: values_by_task[name] for name in names if name in values_by_task}


def reader_warnings(protocol: Protocol, task: Task, task_result: TaskResult, rows: BenchmarkRows) -> list[str]:
    """What a reader of a task's number must know, from its entry without them."""
    return [
        *protocol.reader_warnings(task),
        *_discard_warning(task_result),
        *_token_limit_warning(task_result, protocol.max_new_tokens_by_task.get(task.name)),
        *_server_shortened_warning(task_result),
        *_row_warnings(task, task_result.row_check or {}, rows),
    ]


def _discard_warning(task_result: TaskResult) -> list[str]:
    if task_result.whole is None:
        return []
    return [
        f"the first tokens of {task_result.whole.questions} answers, whose contexts were cut, are thrown away, as the "
        f"harness did; {100 * task_result.whole.value:.2f} with them"
    ]


def _token_limit_warning(task_result: TaskResult, max_new_tokens: int | None) -> list[str]:
    if not task_result.ran_out:
        return []
    return [
        f"{task_result.ran_out:,} of {task_result.n:,} answers had not ended after {max_new_tokens} tokens, and are scored as "
        "they are"
    ]


def _server_shortened_warning(task_result: TaskResult) -> list[str]:
    if not task_result.narrowed:
        return []
    return [
        f"{task_result.narrowed} contexts lost up to two tokens more than in process: the server's window must hold the whole "
        "request and one token"
    ]


def _row_warnings(task: Task, row_check: Mapping[str, str], rows: BenchmarkRows) -> list[str]:
    reader_warnings, full_sizes = [], task.facts.row_count_by_split

    def size_note(split_rows: Sequence[Mapping[str, Any]], split: str) -> str:
        return (
            f": {len(split_rows):,} here and {full_sizes[split]:,} in full"
            if len(split_rows) != full_sizes[split]
            else ""
        )

    if row_check.get(task.evaluation_split) == OTHER_ROWS:
        reader_warnings.append(
            f"other rows than the leaderboard's{size_note(rows.evaluation_rows, task.evaluation_split)}"
        )
    if task.few_shot_split and row_check.get(task.few_shot_split) == OTHER_ROWS:
        pool_size_note = size_note(rows.few_shot_pool, task.few_shot_split)
        reader_warnings.append(f"other examples than the leaderboard's, for their rows are others{pool_size_note}")
    unverified_splits = [split for split, status in row_check.items() if status == UNVERIFIED_ROWS]
    if unverified_splits:
        reader_warnings.append(
            f"rows not verified: no hash of the leaderboard's own is known (split {', '.join(unverified_splits)})"
        )
    return reader_warnings
