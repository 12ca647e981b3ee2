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
from orca_bench.errors import UserError, nearest
from orca_bench.evaluate.benchmark_files import files_of_split, has_rows
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Row, Task
from orca_bench.files import read_json
from orca_bench.results.models import OTHER_ROWS, TRUE_ROWS, UNVERIFIED_ROWS, Result

#: A benchmarks directory may say in this file that it is not the leaderboard's data.
SUITE_FILE = "suite.json"


@dataclass(frozen=True)
class BenchmarkRows:
    """The rows of one task: those that are evaluated, those that few-shot examples come from, and each split's hash.

    `commit` is the hub's, where they come from it.
    """

    evaluation_rows: list[Row]
    few_shot_pool: list[Row]
    hashes: dict[str, str]
    commit: hub.Commit | None = None


def row_statuses(task: Task, rows: BenchmarkRows) -> dict[str, str]:
    """By split, whether the rows are the leaderboard's (TRUE_ROWS), other ones, or UNVERIFIED_ROWS."""
    row_counts = {task.split: len(rows.evaluation_rows)} | (
        {task.few_shot_split: len(rows.few_shot_pool)} if task.few_shot_split else {}
    )
    return {
        split: _row_status(task, split, row_count, rows.hashes.get(split)) for split, row_count in row_counts.items()
    }


def _row_status(task: Task, split: str, row_count: int, digest: str | None) -> str:
    if row_count != task.facts.sizes[split]:
        return OTHER_ROWS
    true_hash = task.facts.true_rows.get(split)
    return UNVERIFIED_ROWS if true_hash is None else TRUE_ROWS if digest == true_hash else OTHER_ROWS


@dataclass(frozen=True)
class SplitStatus:
    """What `survey` says of one split: how many rows it has and has in full, its hash and status, or why it cannot be read."""

    task: str
    split: str
    status: str
    rows: int
    full_size: int
    sha256: str | None = None
    note: str | None = None


def survey(benchmarks: Path) -> Iterator[SplitStatus]:
    """Every split of the suite in a benchmarks directory; one that is missing or cannot be read has the status `missing`."""
    suite(benchmarks)
    for task in SUITE:
        try:
            rows = load(task, benchmarks)
        except UserError as error:
            yield SplitStatus(task.name, task.split, "missing", 0, task.facts.full_size, note=str(error))
            continue
        row_counts = {task.split: len(rows.evaluation_rows), task.few_shot_split: len(rows.few_shot_pool)}
        for split, status in row_statuses(task, rows).items():
            yield SplitStatus(task.name, split, status, row_counts[split], task.facts.sizes[split], rows.hashes[split])


@dataclass(frozen=True)
class Suite:
    """Which benchmark suite the rows are: its name, and whether its scores may stand beside the leaderboard's."""

    name: str
    comparable: bool
    note: str = ""


#: The seven tasks. Whether the rows are the leaderboard's own is said by task and split (`row_statuses`).
LEADERBOARD = Suite("open-llm-leaderboard-v1", True)


def suite(benchmarks: Path | None) -> Suite:
    """What a benchmarks directory says it is; raises UserError where there is no such directory."""
    if benchmarks is None:
        return LEADERBOARD
    if not benchmarks.is_dir():
        raise UserError("no such benchmarks directory", where=benchmarks, hint="expected DIR/TASK/SPLIT.jsonl.gz")
    description_file = benchmarks / SUITE_FILE
    if not description_file.is_file():
        return LEADERBOARD
    description = read_json(description_file)
    if not isinstance(description, dict) or "name" not in description:
        raise UserError("not a suite description", where=description_file, hint='expected {"name": …, "note": …}')
    return Suite(str(description["name"]), False, str(description.get("note", "")))


def tasks_of_suite(benchmarks: Path | None, tasks: Sequence[Task]) -> list[Task]:
    """Those of `tasks` that a suite of its own has rows for; all of them of the leaderboard's suite, which must be whole.

    Raises UserError where there is no such directory.
    """
    if benchmarks is None or suite(benchmarks).comparable:
        return list(tasks)
    return [task for task in tasks if has_rows(benchmarks, task)] or list(tasks)


def load(task: Task, benchmarks: Path | None, revision: str | None = None) -> BenchmarkRows:
    """The rows of a task; raises UserError for a split that is not there and a row without a column that is needed.

    `revision` is that of the hub's data set, where the rows come from the hub; all splits are of one commit.
    """
    rows_by_split: dict[str, list[Row]] = {}
    hashes_by_split: dict[str, str] = {}
    commit = hub.resolve(task.facts.hub_dataset[0], revision, "dataset") if benchmarks is None else None
    for split in filter(None, (task.split, task.few_shot_split)):
        check_row = task.check_evaluation_row if split == task.split else task.check
        rows_by_split[split], hashes_by_split[split] = _check_rows(
            task, _located_rows(task, split, benchmarks, commit), check_row
        )
    few_shot_pool = rows_by_split[task.few_shot_split] if task.few_shot_split else []
    if task.few_shot_split and len(few_shot_pool) < task.shots:
        raise UserError(
            f"{len(few_shot_pool)} rows, and {task.shots} examples are drawn from it",
            where=f"{task.name} split {task.few_shot_split}",
        )
    return BenchmarkRows(rows_by_split[task.split], few_shot_pool, hashes_by_split, commit)


def load_again(result: Result, task: Task, benchmarks: Path | None) -> BenchmarkRows:
    """The rows that a result was made with, as far as they are to be had: those of the hub at the commit that it names."""
    return load(task, benchmarks, result.data_commits.get(task.name))


def _located_rows(
    task: Task, split: str, benchmarks: Path | None, commit: hub.Commit | None
) -> Iterable[tuple[str, Row]]:
    """(where, row) of a split: from the hub at a commit, or from a folder."""
    if commit is not None:
        return _from_hub(task, split, commit)
    if benchmarks is None:
        raise ValueError("neither a folder nor a commit of the hub")
    return _from_directory(task, split, benchmarks)


def _from_directory(task: Task, split: str, benchmarks: Path) -> Iterable[tuple[str, Row]]:
    for file in files_of_split(benchmarks, task, split):
        yield from row_files.read(file)


def _from_hub(task: Task, split: str, commit: hub.Commit) -> Iterable[tuple[str, Row]]:
    repository_name, configuration = task.facts.hub_dataset
    for index, row in enumerate(hub.load_rows(commit, configuration, split)):
        yield f"{repository_name} {split} row {index}", row


def _check_rows(
    task: Task, located_rows: Iterable[tuple[str, Row]], check_row: Callable[[Row], None]
) -> tuple[list[Row], str]:
    """The rows, each checked, and their hash; raises UserError, with the place, for a row that is not one of the task."""
    checked_rows, digest = [], hashlib.sha256()
    for where, row in located_rows:
        for column, expected_type in task.columns.items():
            if column not in row:
                hint = nearest(column, row) or f"columns here: {', '.join(row)}"
                raise UserError(f"no column '{column}', which {task.name} needs", where=where, hint=hint)
            if not isinstance(row[column], expected_type):
                raise UserError(f"column '{column}' is a {type(row[column]).__name__}", where=where)
        try:
            check_row(row)
            row_json = identity(task, row)
        except UnicodeEncodeError:
            raise UserError("a text with a lone surrogate, which no encoding can hold", where=where) from None
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"not a row of {task.name} ({type(error).__name__}: {error})", where=where) from None
        digest.update(row_json + b"\n")
        checked_rows.append(row)
    return checked_rows, digest.hexdigest()


def identity(task: Task, row: Row) -> bytes:
    """What a task reads of a row, as canonical JSON; the SHA-256 of these lines in order is the hash of a split.

    Columns that the task does not read do not count, nor do line ends (copies of one data set differ in them) and whether a
    whole number is written as 1 or 1.0.
    """
    column_values = {column: _normalize_value(row[column]) for column in task.columns}
    return json.dumps(column_values, sort_keys=True, ensure_ascii=False, default=str).encode()


def _normalize_value(column_value: Any) -> Any:
    if isinstance(column_value, str):
        return column_value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(column_value, dict):
        return {field_name: _normalize_value(inner_value) for field_name, inner_value in column_value.items()}
    if isinstance(column_value, (list, tuple)):
        return [_normalize_value(inner_value) for inner_value in column_value]
    return int(column_value) if isinstance(column_value, float) and column_value.is_integer() else column_value
