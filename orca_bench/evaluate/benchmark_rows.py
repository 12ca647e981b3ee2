"""Benchmark rows in: from the hub, or from a folder of files, each checked for the columns its task reads.

Both give the same rows in the same order, so a result does not depend on where they came from. The hash of what a task reads
of them goes into it, and says whether they are the leaderboard's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench import hub, row_files
from orca_bench.errors import UserError, spelling_hint
from orca_bench.evaluate.benchmark_files import files_of_split, has_task_folder
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Row, Task
from orca_bench.files import read_json
from orca_bench.results.models import Result
from orca_bench.results.task_results import OTHER_ROWS, TRUE_ROWS, UNVERIFIED_ROWS

#: A benchmarks directory may say in this file that it is not the leaderboard's data.
SUITE_FILE_NAME = "suite.json"
_FOLDER_HINT = "name a folder of rows with --benchmarks DIR"
_FOLDER_OR_MINI_HINT = f"{_FOLDER_HINT}, or take the embedded mini suite's with --benchmarks mini:"


@dataclass(frozen=True)
class BenchmarkRows:
    """The rows of one task: those that are evaluated, those that few-shot examples come from, and each split's hash.

    `hub_commit` is the hub's, where they come from it.
    """

    evaluation_rows: list[Row]
    few_shot_pool: list[Row]
    hashes_by_split: dict[str, str]
    hub_commit: hub.Commit | None = None


@dataclass(frozen=True)
class HashedRows:
    """The rows of one split, the SHA-256 of each row's identity (`row_identity_json`), and that of the split."""

    rows: list[Row]
    row_hashes: list[str]
    sha256: str


def row_statuses_by_split(task: Task, task_rows: BenchmarkRows) -> dict[str, str]:
    """By split, whether the rows are the leaderboard's (TRUE_ROWS), other ones, or UNVERIFIED_ROWS."""
    row_counts_by_split = {task.evaluation_split: len(task_rows.evaluation_rows)} | (
        {task.few_shot_split: len(task_rows.few_shot_pool)} if task.few_shot_split else {}
    )
    return {
        split: _row_status(task, split, row_count, task_rows.hashes_by_split.get(split))
        for split, row_count in row_counts_by_split.items()
    }


def _row_status(task: Task, split: str, row_count: int, rows_sha256: str | None) -> str:
    if row_count != task.facts.row_count_by_split[split]:
        return OTHER_ROWS
    true_hash = task.facts.true_row_hash_by_split.get(split)
    return UNVERIFIED_ROWS if true_hash is None else TRUE_ROWS if rows_sha256 == true_hash else OTHER_ROWS


@dataclass(frozen=True)
class SplitStatus:
    """What `survey_splits` says of one split: its rows here and in full, its hash and status, or why it cannot be read."""

    task_name: str
    split: str
    status: str
    row_count: int
    full_row_count: int
    sha256: str | None = None
    error_text: str | None = None


def survey_splits(benchmarks_folder: Path) -> Iterator[SplitStatus]:
    """Every split of the suite in a benchmarks directory; one that is missing or cannot be read has the status `missing`."""
    read_suite(benchmarks_folder)
    for task in SUITE:
        try:
            task_rows = load_task_rows(task, benchmarks_folder)
        except UserError as error:
            yield SplitStatus(
                task.name, task.evaluation_split, "missing", 0, task.facts.full_question_count, error_text=str(error)
            )
            continue
        row_counts_by_split = {
            task.evaluation_split: len(task_rows.evaluation_rows),
            task.few_shot_split: len(task_rows.few_shot_pool),
        }
        for split, status in row_statuses_by_split(task, task_rows).items():
            yield SplitStatus(
                task.name,
                split,
                status,
                row_counts_by_split[split],
                task.facts.row_count_by_split[split],
                task_rows.hashes_by_split[split],
            )


@dataclass(frozen=True)
class Suite:
    """Which benchmark suite the rows are: its name, and whether its scores may stand beside the leaderboard's."""

    suite_name: str
    is_comparable: bool
    suite_note: str = ""


#: The seven tasks. Whether the rows are the leaderboard's own is said by task and split (`row_statuses_by_split`).
LEADERBOARD_SUITE = Suite("open-llm-leaderboard-v1", True)


def read_suite(benchmarks_folder: Path | None) -> Suite:
    """What a benchmarks directory says it is; raises UserError where there is no such directory."""
    if benchmarks_folder is None:
        return LEADERBOARD_SUITE
    if not benchmarks_folder.is_dir():
        raise UserError(
            "no such benchmarks directory",
            where=benchmarks_folder,
            hint="expected DIR/TASK/SPLIT.jsonl.gz; mini: is the embedded suite",
        )
    description_file = benchmarks_folder / SUITE_FILE_NAME
    if not description_file.is_file():
        return LEADERBOARD_SUITE
    description = read_json(description_file)
    if not isinstance(description, dict) or "name" not in description:
        raise UserError("not a suite description", where=description_file, hint='expected {"name": …, "note": …}')
    return Suite(str(description["name"]), False, str(description.get("note", "")))


def tasks_of_suite(benchmarks_folder: Path | None, tasks: Sequence[Task]) -> list[Task]:
    """Those of `tasks` that a suite of its own has rows for; all of them of the leaderboard's suite, which must be whole.

    Raises UserError where there is no such directory.
    """
    if benchmarks_folder is None or read_suite(benchmarks_folder).is_comparable:
        return list(tasks)
    return [task for task in tasks if has_task_folder(benchmarks_folder, task)] or list(tasks)


def load_task_rows(
    task: Task,
    benchmarks_folder: Path | None,
    hub_revision: str | None = None,
    local_hint: str = _FOLDER_OR_MINI_HINT,
) -> BenchmarkRows:
    """The rows of a task; raises UserError for a split that is not there and a row without a column that is needed.

    `hub_revision` is that of the hub's data set, where the rows come from the hub; all splits are of one commit. `local_hint` is
    what the user can do where the hub does not give them.
    """
    rows_by_split: dict[str, list[Row]] = {}
    hashes_by_split: dict[str, str] = {}
    rows_source = (
        hub.resolve_commit(task.facts.hub_dataset[0], hub_revision, "dataset", local_hint)
        if benchmarks_folder is None
        else benchmarks_folder
    )
    for split in filter(None, (task.evaluation_split, task.few_shot_split)):
        split_rows = load_split_rows(task, split, rows_source, local_hint)
        rows_by_split[split], hashes_by_split[split] = split_rows.rows, split_rows.sha256
    few_shot_pool = rows_by_split[task.few_shot_split] if task.few_shot_split else []
    if task.few_shot_split and len(few_shot_pool) < task.shots:
        raise UserError(
            f"{len(few_shot_pool)} rows, and {task.shots} examples are drawn from it",
            where=f"{task.name} split {task.few_shot_split}",
        )
    hub_commit = rows_source if isinstance(rows_source, hub.Commit) else None
    return BenchmarkRows(rows_by_split[task.evaluation_split], few_shot_pool, hashes_by_split, hub_commit)


def load_split_rows(
    task: Task, split: str, rows_source: Path | hub.Commit, local_hint: str = _FOLDER_OR_MINI_HINT
) -> HashedRows:
    """The rows of one split, from a folder or the hub at a commit; raises UserError as `load_task_rows`."""
    check_row = task.check_evaluation_row if split == task.evaluation_split else task.check_example_row
    return _check_and_hash_rows(task, _rows_with_places(task, split, rows_source, local_hint), check_row)


def reload_result_rows(result: Result, task: Task, benchmarks_folder: Path | None) -> BenchmarkRows:
    """The rows that a result was made with, as far as they are to be had: those of the hub at the commit that it names."""
    return load_task_rows(task, benchmarks_folder, result.data_commits.get(task.name), _FOLDER_HINT)


def _rows_with_places(
    task: Task, split: str, rows_source: Path | hub.Commit, local_hint: str
) -> Iterable[tuple[str, Row]]:
    """(where, row) of a split: from the hub at a commit, or from a folder."""
    if isinstance(rows_source, hub.Commit):
        return _rows_of_hub(task, split, rows_source, local_hint)
    return _rows_of_folder(task, split, rows_source)


def _rows_of_folder(task: Task, split: str, benchmarks_folder: Path) -> Iterable[tuple[str, Row]]:
    for rows_file in files_of_split(benchmarks_folder, task, split):
        yield from row_files.read_rows(rows_file)


def _rows_of_hub(task: Task, split: str, hub_commit: hub.Commit, local_hint: str) -> Iterable[tuple[str, Row]]:
    repository_name, configuration = task.facts.hub_dataset
    for index, row in enumerate(hub.load_dataset_rows(hub_commit, configuration, split, local_hint)):
        yield f"{repository_name} {split} row {index}", row


def _check_and_hash_rows(
    task: Task, rows_with_places: Iterable[tuple[str, Row]], check_row: Callable[[Row], None]
) -> HashedRows:
    """The rows, each checked and hashed; raises UserError, with the place, for a row that is not one of the task."""
    checked_rows, row_hashes, rows_digest = [], [], hashlib.sha256()
    for row_place, row in rows_with_places:
        for column, expected_type in task.column_types.items():
            if column not in row:
                hint = spelling_hint(column, row) or f"columns here: {', '.join(row)}"
                raise UserError(f"no column '{column}', which {task.name} needs", where=row_place, hint=hint)
            if not isinstance(row[column], expected_type):
                raise UserError(f"column '{column}' is a {type(row[column]).__name__}", where=row_place)
        try:
            check_row(row)
            row_json = row_identity_json(task, row)
        except UnicodeEncodeError:
            raise UserError("a text with a lone surrogate, which no encoding can hold", where=row_place) from None
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"not a row of {task.name} ({type(error).__name__}: {error})", where=row_place) from None
        rows_digest.update(row_json + b"\n")
        row_hashes.append(hashlib.sha256(row_json).hexdigest())
        checked_rows.append(row)
    return HashedRows(checked_rows, row_hashes, rows_digest.hexdigest())


def row_identity_json(task: Task, row: Row) -> bytes:
    """What a task reads of a row, as canonical JSON; the SHA-256 of these lines in order is the hash of a split.

    Columns that the task does not read do not count, nor do line ends (copies of one data set differ in them) and whether a
    whole number is written as 1 or 1.0.
    """
    column_values = {column: _normalize_value(row[column]) for column in task.column_types}
    return json.dumps(column_values, sort_keys=True, ensure_ascii=False, default=str).encode()


def row_sha256(task: Task, row: Row) -> str:
    """The hash of what a task reads of a row: its name in a report of `orca-bench data check`."""
    return hashlib.sha256(row_identity_json(task, row)).hexdigest()


def _normalize_value(column_value: Any) -> Any:
    if isinstance(column_value, str):
        return column_value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(column_value, dict):
        return {field_name: _normalize_value(inner_value) for field_name, inner_value in column_value.items()}
    if isinstance(column_value, (list, tuple)):
        return [_normalize_value(inner_value) for inner_value in column_value]
    return int(column_value) if isinstance(column_value, float) and column_value.is_integer() else column_value
