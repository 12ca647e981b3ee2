"""Result files in, checked; with them, where a report needs it, the score of every question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench import statistics
from orca_bench.errors import UserError
from orca_bench.files import read_json, read_json_lines
from orca_bench.suite import task_of

_FORMAT = "orca-bench result "
_VERSIONS = ("1", "2")  # of which 1 has no intervals and no clusters


@dataclass(frozen=True)
class Scored:
    """One question of a result: its score in 0…1, the cluster that it belongs to, and its whole line."""

    score: float
    cluster: str | None
    line: dict


@dataclass(frozen=True)
class Scores:
    """The questions of one task by (part, row number); the part is MMLU's subject, or the task."""

    questions: dict[tuple[str, int], Scored]

    def estimate(self, stratified: bool) -> statistics.Estimate:
        """The task's value with its standard error and interval."""
        values = [question.score for question in self.questions.values()]
        return statistics.mean(
            values, clusters(list(self.questions.values())), [p for p, _ in self.questions] if stratified else None
        )


@dataclass(frozen=True)
class Result:
    """A result file, its heading, and the questions beside it by task."""

    path: Path
    label: str
    data: dict
    tasks: dict[str, Scores] = field(default_factory=dict)


def read_result(path: Path) -> dict:
    """Read a result file; raises UserError where it is not one."""
    result = read_json(path)
    if not isinstance(result, dict) or not str(result.get("format", "")).startswith(_FORMAT):
        raise UserError("not an orca-bench result", where=path, hint="results are written by orca-bench eval")
    version = result["format"].removeprefix(_FORMAT)
    if version not in _VERSIONS:
        raise UserError(
            f"a result of version {version}; this orca-bench reads {' and '.join(_VERSIONS)}",
            where=path,
            hint="use the orca-bench that wrote it, or a newer one",
        )
    missing = [
        key for key in ("tasks", "averages", "protocol", "suite", "model") if not isinstance(result.get(key), dict)
    ]
    if missing:
        raise UserError(f"a result without '{missing[0]}'", where=path, hint="evaluate again")
    for name, entry in result["tasks"].items():
        if not isinstance(entry, dict) or not _is_share(entry.get("value")):
            value = entry.get("value") if isinstance(entry, dict) else None
            raise UserError(
                f"task '{name}' has no value between 0 and 1 ({value!r})", where=path, hint="evaluate again"
            )
    return result


def files(named: Sequence[Path]) -> list[Path]:
    """The result files that are named, each once; of a folder all below it. Raises UserError for a folder without one."""
    found: list[Path] = []
    for path in named:
        below = sorted(file for file in path.rglob("*.json") if is_result(file)) if path.is_dir() else [path]
        if not below:
            raise UserError("no result in this folder", where=path, hint="orca-bench eval writes them")
        found += below
    return list(dict.fromkeys(found))


def is_result(path: Path) -> bool:
    """Whether a JSON file says at its beginning that it is a result."""
    try:
        with open(path, "rb") as handle:
            return f'"{_FORMAT}'.encode() in handle.read(200)
    except OSError:
        return False


def questions_file(path: Path) -> Path:
    """Where the questions of a result file stand."""
    return path.with_suffix(".questions.jsonl")


def read(path: Path, label: str | None = None) -> Result:
    """Read a result with its questions; raises UserError where they are absent, or a score is none."""
    data = read_result(path)
    file = questions_file(path)
    if not file.is_file():
        raise UserError("the questions of this result are not beside it", where=file, hint="copy both files")
    tasks: dict[str, Scores] = {}
    for number, line in read_json_lines(file):
        where = f"{file}:{number}"
        part, row, score = line.get("task"), line.get("row"), line.get("score")
        if not isinstance(part, str) or not isinstance(row, int):
            raise UserError("a question has 'task' and 'row'", where=where, hint="evaluate again")
        if not _is_share(score):
            raise UserError(f"score {score!r} is no number between 0 and 1", where=where, hint="evaluate again")
        found = tasks.setdefault(task_of(part), Scores({})).questions
        if (part, row) in found:
            raise UserError(f"row {row} of {part} stands here a second time", where=where)
        found[part, row] = Scored(float(score), line.get("cluster"), line)
    return Result(path, label or data["model"].get("name", path.stem), data, tasks)


def clusters(questions: list[Scored]) -> list[str] | None:
    """The cluster of each question, or None where the questions stand alone."""
    if any(question.cluster is None for question in questions):
        return None
    return [question.cluster for question in questions]


def _is_share(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return False
    return 0 <= value <= 1
