"""A result and its questions in, findings out: does the result agree with itself?

From the scores of the questions come values, errors and averages again; from the files come the hashes. Neither rows nor
protocols are needed; verification with them is in evaluate/verification.py. Each check adds to `covered` the places of the
result (coverage.py) that it has computed again. Its own module because whoever has two files can make these checks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.files import sha256
from orca_bench.results import summary
from orca_bench.results.coverage import Place, uncovered
from orca_bench.results.hashing import requests_digest, seal
from orca_bench.results.models import Question, Result
from orca_bench.suite import BY_NAME, TaskFacts

#: How many differences of one kind are named.
MOST_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was recomputed: what, whether it matches (None: could not be checked), and the detail."""

    what: str
    matches: bool | None
    detail: str


def check_seal(result: Result) -> Finding:
    """The hash of the whole result."""
    what = "hash of the whole result"
    if result.version < 3:
        # A result of a later version that calls itself an earlier one does not lose its hash by that.
        return Finding(what, False if result.result_sha256 is not None else None, _UNRECORDED)
    return _compare_hashes(what, seal(result), str(result.result_sha256))


def check_questions_hash(result: Result, file: Path) -> Finding:
    """The hash of the file of questions."""
    what = "hash of the questions"
    if result.questions_sha256 is None:
        return Finding(what, None, _UNRECORDED)
    return _compare_hashes(what, sha256(file), result.questions_sha256)


def check_requests_hash(result: Result) -> Finding:
    """The hash of all requests, which is one over those of the tasks."""
    return _compare_hashes("hash of all requests", requests_digest(result), str(result.requests_sha256))


def check_value(result: Result, task: TaskFacts, questions: Sequence[Question], covered: set[Place]) -> Finding:
    """The value of a task, its error, interval and counts, from its questions' scores."""
    what = f"{task.title}: value"
    if not questions:
        return Finding(what, False, "no questions are kept")
    entry = result.tasks[task.name].to_json()
    recomputed = summary.summarize(task, questions)
    covered |= {("tasks", task.name, name) for name in recomputed.to_json()}
    differing = {
        name: f"{name} {entry.get(name)!r:.60} in the result, {value!r:.60} by the scores"
        for name, value in recomputed.to_json().items()
        if not same_json(value, entry.get(name))
    }
    if result.version == 1:  # whose standard errors knew no clusters
        differing = {
            name: text
            for name, text in differing.items()
            if name in entry and name not in ("stderr", "subjects", "whole")
        }
    detail = f"{task.metric} {100 * recomputed.value:.2f}, {recomputed.n:,} questions"
    return Finding(what, not differing, "; ".join(differing.values()) or detail)


def check_averages(result: Result, covered: set[Place]) -> Finding:
    """The averages, from the tasks' values."""
    differing = []
    for name, average in summary.averages(result.tasks).items():
        recorded = result.averages[name].to_json() if name in result.averages else {}
        for key, value in average.to_json().items():
            covered.add(("averages", name, key))
            if not same_json(value, recorded.get(key)) and not (result.version == 1 and key != "value"):
                differing.append(f"{name}, {key}: {recorded.get(key)!r} in the result, {value!r} by the tasks")
    return Finding("averages", not differing, "; ".join(differing) or "the means of the values")


def check_harness(result: Result, task: TaskFacts, questions: Sequence[Question], covered: set[Place]) -> Finding:
    """lm-eval's own account of the same scores: by part its mean, how many there are, the shots and the protocol's version."""
    scores: dict[str, list[float]] = {}
    for question in questions:
        scores.setdefault(question.task, []).append(question.score)
    expected: dict[Place, Any] = {
        ("n-samples",): {
            part: {"original": len(part_scores), "effective": len(part_scores)} for part, part_scores in scores.items()
        },
        ("n-shot",): {part: task.shots for part in scores},
        ("versions",): {part: result.protocol.version for part in scores},
    }
    for part, part_scores in scores.items():
        expected["results", part, f"{task.metric},none"] = sum(part_scores) / len(part_scores)
        expected["results", part, "sample_len"] = len(part_scores)
    differing = []
    for field_path, value in expected.items():
        recorded = _value_at(result.lm_eval[task.name], field_path)
        if not same_json(value, recorded):
            differing.append(f"{'.'.join(field_path)} {recorded!r:.60} in the result, {value!r:.60} by the scores")
        covered.add(("lm_eval", task.name, *field_path))
    return Finding(f"{task.title}: lm-eval", not differing, "; ".join(differing[:MOST_NAMED]) or "the same scores")


def check_heading(result: Result, questions: Sequence[Question], covered: set[Place]) -> Iterator[Finding]:
    """Which tasks are finished, and the limit."""
    if result.order is not None:
        finished = set(result.order) <= set(result.tasks)
        known = [name for name in BY_NAME if name in {*result.order, *result.tasks}]
        matches = result.complete == finished and result.order == known
        yield Finding("complete", matches, f"{len(result.tasks)} tasks, {len(result.order)} ordered")
        covered |= {("complete",), ("order",)}
    most = max(Counter(question.task for question in questions).values(), default=None)
    if most is None:
        return
    if result.limit is not None:
        yield Finding("limit", most <= result.limit, f"{result.limit}; at most {most} questions are kept")
    # Whether there were more questions only the rows can tell, so a limit that cut nothing is not covered.
    if result.limit is None or most == result.limit:
        covered.add(("limit",))


def check_coverage(result: Result, covered: set[Place]) -> list[Finding]:
    """A finding that names the fields which no check has computed again; none where there are no such fields."""
    names = uncovered(result, covered)
    if not names:
        return []
    coverage_text = "held by the hash of the whole only" if result.version >= 3 else "held by nothing"
    return [Finding("not computed again", None, f"{', '.join(names)}: {coverage_text}")]


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; numbers that are not both whole, to twelve digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(other) < 1e300 and math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)
    return bool(one == other)


_UNRECORDED = "not recorded by the version that wrote this result"


def _compare_hashes(what: str, computed: str, recorded: str) -> Finding:
    if computed == recorded:
        return Finding(what, True, computed[:16])
    return Finding(what, False, f"{computed[:16]}, {recorded[:16]} in the result")


def _value_at(content: Mapping[str, Any], place: Place) -> Any:
    """The value at a place in a tree of JSON, or None."""
    value: Any = content
    for key in place:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
