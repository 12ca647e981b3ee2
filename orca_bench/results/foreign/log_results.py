"""What a log of another program says of a run in, a valid `Result` with its questions out.

Its own module because logs of all programs become results in the same way, and only here it is said what a log cannot say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orca_bench.errors import UserError, one_line
from orca_bench.results.hashing import compute_result_sha256, sha256_of_json
from orca_bench.results.models import RESULT_FORMAT, HarnessQuestion, Question, Result
from orca_bench.results.task_results import HarnessTaskResult


@dataclass(frozen=True)
class ForeignLog:
    """A log as a result: the questions are in the order of the log, and none where the log has none."""

    result: Result
    questions: list[Question]


@dataclass
class LoggedRun:
    """What a log says of a run: the program, the place that reports name it by, and the parts of `Result`.

    `program_key` is the program's name in `Result.versions`; `row_hashes` are `Result.data_hashes`.
    """

    program: str
    place: Path
    program_key: str
    tasks: dict[str, HarnessTaskResult] = field(default_factory=dict)
    questions: list[HarnessQuestion] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    limit: int | dict[str, int] | None = None
    row_hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str | None = None
    notes: list[str] = field(default_factory=list)


def build_log(run: LoggedRun) -> ForeignLog:
    """The result of a run with its hashes. Raises UserError where the log has no value, and
    pydantic.ValidationError where it has one that no result can hold (`catch_shape_errors`)."""
    if not run.tasks:
        raise UserError("a log without any score", where=run.place, hint=f"did the run of {run.program} end?")
    content: dict[str, Any] = {
        "format": RESULT_FORMAT,
        "complete": True,
        "order": list(run.tasks),
        "suite": {"name": run.program, "comparable": False},
        "protocol": run.protocol,
        "limit": run.limit,
        "model": run.model,
        "tasks": {name: entry.to_json() for name, entry in run.tasks.items()},
        "averages": {},
        "data_hashes": run.row_hashes,
        "versions": run.versions,
        "answers": {"path": str(run.place), "notes": [_origin_note(run), *run.notes]},
    }
    if run.created is not None:
        content["created"] = run.created
    if run.questions:
        content["questions_sha256"] = sha256_of_json(question.to_json() for question in run.questions)
    result = Result.from_file_content(content)
    content["result_sha256"] = result.result_sha256 = compute_result_sha256(result)
    return ForeignLog(result, list(run.questions))


@contextlib.contextmanager
def catch_shape_errors(place: Path) -> Iterator[None]:
    """Inside the block, what JSON of another shape than the program writes raises is a UserError; so are values of another type.

    Its readers follow the keys that a program writes and do not check each, for an edited log is rare.
    """
    try:
        yield
    except ValidationError as error:
        first_error = error.errors(include_url=False)[0]
        field_path = ".".join(str(key) for key in first_error["loc"])
        reason = f"a log whose values no result can hold: '{field_path}': {first_error['msg']}"
        raise UserError(reason, where=place) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"a log of another shape than its program writes ({type(error).__name__}: {one_line(error, 120)})",
            where=place,
            hint="was it edited, or written by another version?",
        ) from error


def _origin_note(run: LoggedRun) -> str:
    version = run.versions.get(run.program_key)
    program = f"{run.program} {version}" if version else run.program
    return f"a log of {program}, which does not tell token ids nor hashes of the model"
