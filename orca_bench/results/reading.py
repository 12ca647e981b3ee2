"""Result files in, checked; with them, where a report needs it, the score of every question.

Results are exchanged between people, so nothing of them is believed: every key that a report reads is held to its type here,
and what a file lacks is said in one line. Its own module because evaluation writes, and all reports read, results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orca_bench.errors import UserError
from orca_bench.files import read_json, read_json_lines, sha256
from orca_bench.stats import estimates
from orca_bench.suite import BY_NAME, task_of

_FORMAT = "orca-bench result "
#: Those that are read. 1 has no intervals and no clusters; 1 and 2 hash rows otherwise, and have no hash of the whole.
_VERSIONS = ("1", "2", "3")

#: Whether rows are the leaderboard's own (`row_check` of a task's entry, by split).
TRUE, NOT_VERIFIED, OTHER = "true", "not verified", "other"


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

    def estimate(self, stratified: bool) -> estimates.Estimate:
        """The task's value with its standard error and interval."""
        values = [question.score for question in self.questions.values()]
        return estimates.mean(
            values, clusters(list(self.questions.values())), [p for p, _ in self.questions] if stratified else None
        )


@dataclass(frozen=True)
class Result:
    """A result file, its heading, and the questions beside it by task."""

    path: Path
    label: str
    data: dict
    tasks: dict[str, Scores] = field(default_factory=dict)


# --- what a result may hold -----------------------------------------------------------------------------------------

Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Positive = Annotated[int, Field(ge=1, le=10**12)]


class _Part(BaseModel):
    """A mapping whose known keys have these types; other keys are let through."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Number(_Part):
    value: Share
    stderr: Annotated[float, Field(ge=0)] | None = None
    interval: Interval | None = None


class _Subject(_Number):
    n: Positive


class _Average(_Number):
    value: Share | None


class _Entry(_Number):
    title: str
    metric: str
    n: Positive
    shots: Count | None = None
    full_size: Positive | None = None
    rows: Count | None = None
    row_check: dict[str, str] | None = None
    requests_sha256: str | None = None
    tokens_sha256: str | None = None
    shortened: Count | None = None
    narrowed: Count | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    warnings: list[str] = []
    subjects: dict[str, _Subject] | None = None
    whole: dict[str, Any] | None = None


class _Suite(_Part):
    name: str
    comparable: bool
    note: str | None = None


class _Protocol(_Part):
    name: Literal["leaderboard", "orca", "plain"]
    version: int | None = None
    system: str | None = None
    max_length: int | None = None


class _Engine(_Part):
    differences: list[str] = []


class _Model(_Part):
    name: Annotated[str, Field(min_length=1)]
    path: str | None = None
    fingerprint: str | None = None
    tokenizer_sha256: str | None = None
    run: str | None = None
    step: Count | None = None
    engine: _Engine | None = None
    revision: str | None = None
    commit: str | None = None
    identity: dict[str, str] | None = None
    warnings: list[str] = []


class _Answers(_Part):
    notes: list[str] = []


class _Result(_Part):
    tasks: dict[str, _Entry]
    averages: dict[str, _Average]
    suite: _Suite
    protocol: _Protocol
    model: _Model
    limit: Positive | None = None
    complete: bool = False
    order: list[str] | None = None
    requests_sha256: str | None = None
    questions_sha256: str | None = None
    result_sha256: str | None = None
    data_hashes: dict[str, dict[str, str]] = {}
    data_commits: dict[str, str] = {}
    versions: dict[str, Any] = {}
    lm_eval: dict[str, dict] = {}
    answers: _Answers | None = None


def read_result(path: Path) -> dict:
    """Read a result file; raises UserError where it is not one, or a key of it is missing or of another type."""
    result = read_json(path)
    if not isinstance(result, dict) or not str(result.get("format", "")).startswith(_FORMAT):
        raise UserError("not an orca-bench result", where=path, hint="results are written by orca-bench eval")
    version = str(result["format"]).removeprefix(_FORMAT)
    if version not in _VERSIONS:
        raise UserError(
            f"a result of version {version}; this orca-bench reads {', '.join(_VERSIONS)}",
            where=path,
            hint="use the orca-bench that wrote it, or a newer one",
        )
    try:
        _Result.model_validate(result)
    except ValidationError as error:
        raise _as_user_error(error, path) from None
    for name in result["tasks"]:
        if name not in BY_NAME:
            raise UserError(f"unknown task '{name}'", where=path, hint=f"tasks are {', '.join(BY_NAME)}")
    return result


def _as_user_error(error: ValidationError, path: Path) -> UserError:
    """The first thing that is wrong, by its place in the file."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return UserError(f"a result without '{place}'", where=path, hint="evaluate again")
    return UserError(f"'{place}': {first['msg']} ({str(first['input'])!r:.60})", where=path, hint="evaluate again")


def version_of(result: dict) -> int:
    """The version of a result's format."""
    return int(result["format"].removeprefix(_FORMAT))


def seal(result: dict) -> str:
    """The SHA-256 over all of a result but this hash itself, as canonical JSON."""
    content = json.loads(json.dumps({k: v for k, v in result.items() if k != "result_sha256"}, default=str))
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_sealed(result: dict) -> bool:
    """Whether a result is as it was written; results of versions before 3, which have no hash of the whole, are taken to be."""
    return version_of(result) < 3 or result.get("result_sha256") == seal(result)


def rows_are(entry: dict, split: str) -> str:
    """TRUE, OTHER or NOT_VERIFIED of a split of a task's entry. Results of versions before 3 know how many rows were asked."""
    if "row_check" in entry:
        return (entry["row_check"] or {}).get(split, NOT_VERIFIED)
    rows, full = entry.get("rows"), entry.get("full_size")
    return OTHER if rows is not None and full is not None and rows != full else NOT_VERIFIED


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
    """Read a result with its questions; raises UserError where they are absent or not its own, or a score is none."""
    data = read_result(path)
    file = questions_file(path)
    if not file.is_file():
        raise UserError("the questions of this result are not beside it", where=file, hint="copy both files")
    tasks: dict[str, Scores] = {}
    for number, line in read_json_lines(file):
        where = f"{file}:{number}"
        part, row, score, cluster = line.get("task"), line.get("row"), line.get("score"), line.get("cluster")
        if not isinstance(part, str) or not _is_whole(row):
            raise UserError("a question has 'task' and 'row'", where=where, hint="evaluate again")
        if not _is_share(score):
            raise UserError(f"score {score!r:.60} is no number between 0 and 1", where=where, hint="evaluate again")
        if not isinstance(cluster, (str, type(None))) or not _is_whole(line.get("index", 0)):
            raise UserError("'cluster' is a text and 'index' a whole number", where=where, hint="evaluate again")
        questions = tasks.setdefault(task_of(part), Scores({})).questions
        if (part, row) in questions:
            raise UserError(f"row {row} of {part} stands here a second time", where=where)
        questions[part, row] = Scored(float(score), cluster, line)
    counts = {name: len(scores.questions) for name, scores in tasks.items()}
    recorded = data.get("questions_sha256")
    if counts != {name: entry["n"] for name, entry in data["tasks"].items()} or recorded not in (None, sha256(file)):
        raise UserError(f"these are not the questions of {path.name}", where=file, hint="copy both files")
    return Result(path, label or data["model"]["name"], data, tasks)


def clusters(questions: list[Scored]) -> list[str] | None:
    """The cluster of each question, or None where the questions stand alone."""
    if any(question.cluster is None for question in questions):
        return None
    return [question.cluster for question in questions]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1  # NaN is not
