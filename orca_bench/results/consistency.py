"""A result and its questions in, findings out: does the result agree with itself?

From the scores of the questions come values, errors and averages again; from the files come the hashes. Neither rows nor
protocols are needed; verification with them is in evaluate/verification.py. Each check adds to `covered_paths` the places of the
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
from orca_bench.results.coverage import FieldPath, uncovered_fields
from orca_bench.results.hashing import requests_digest, seal
from orca_bench.results.models import Question, Result
from orca_bench.suite import BY_NAME, TaskFacts

#: How many differences of one kind are named.
MAX_NAMED_DIFFERENCES = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was recomputed: what, whether it matches (None: could not be checked), and the detail."""

    check_name: str
    matches: bool | None
    detail: str


def check_seal(result: Result) -> Finding:
    """The hash of the whole result."""
    check_name = "hash of the whole result"
    if result.version < 3:
        # A result of a later version that calls itself an earlier one does not lose its hash by that.
        return Finding(check_name, False if result.result_sha256 is not None else None, _NOT_RECORDED_DETAIL)
    return _compare_hashes(check_name, seal(result), str(result.result_sha256))


def check_questions_hash(result: Result, questions_path: Path) -> Finding:
    """The hash of the file of questions."""
    check_name = "hash of the questions"
    if result.questions_sha256 is None:
        return Finding(check_name, None, _NOT_RECORDED_DETAIL)
    return _compare_hashes(check_name, sha256(questions_path), result.questions_sha256)


def check_requests_hash(result: Result) -> Finding:
    """The hash of all requests, which is one over those of the tasks."""
    return _compare_hashes("hash of all requests", requests_digest(result), str(result.requests_sha256))


def check_value(
    result: Result, task: TaskFacts, questions: Sequence[Question], covered_paths: set[FieldPath]
) -> Finding:
    """The value of a task, its error, interval and counts, from its questions' scores."""
    check_name = f"{task.title}: value"
    if not questions:
        return Finding(check_name, False, "no questions are kept")
    recorded_json = result.tasks[task.name].to_json()
    recomputed_entry = summary.summarize(task, questions)
    covered_paths |= {("tasks", task.name, key) for key in recomputed_entry.to_json()}
    differences = {
        key: f"{key} {recorded_json.get(key)!r:.60} in the result, {recomputed_value!r:.60} by the scores"
        for key, recomputed_value in recomputed_entry.to_json().items()
        if not same_json(recomputed_value, recorded_json.get(key))
    }
    if result.version == 1:  # whose standard errors knew no clusters
        differences = {
            key: difference
            for key, difference in differences.items()
            if key in recorded_json and key not in ("stderr", "subjects", "whole")
        }
    detail = f"{task.metric} {100 * recomputed_entry.value:.2f}, {recomputed_entry.n:,} questions"
    return Finding(check_name, not differences, "; ".join(differences.values()) or detail)


def check_averages(result: Result, covered_paths: set[FieldPath]) -> Finding:
    """The averages, from the tasks' values."""
    differences = []
    for average_name, average in summary.averages(result.tasks).items():
        recorded_json = result.averages[average_name].to_json() if average_name in result.averages else {}
        for key, recomputed_value in average.to_json().items():
            covered_paths.add(("averages", average_name, key))
            if not same_json(recomputed_value, recorded_json.get(key)) and not (result.version == 1 and key != "value"):
                differences.append(
                    f"{average_name}, {key}: {recorded_json.get(key)!r} in the result, {recomputed_value!r} by the tasks"
                )
    return Finding("averages", not differences, "; ".join(differences) or "the means of the values")


def check_harness(
    result: Result, task: TaskFacts, questions: Sequence[Question], covered_paths: set[FieldPath]
) -> Finding:
    """lm-eval's own account of the same scores: by part its mean, how many there are, the shots and the protocol's version."""
    scores: dict[str, list[float]] = {}
    for question in questions:
        scores.setdefault(question.task, []).append(question.score)
    expected_values: dict[FieldPath, Any] = {
        ("n-samples",): {
            task_part: {"original": len(part_scores), "effective": len(part_scores)}
            for task_part, part_scores in scores.items()
        },
        ("n-shot",): {task_part: task.shots for task_part in scores},
        ("versions",): {task_part: result.protocol.version for task_part in scores},
    }
    for task_part, part_scores in scores.items():
        expected_values["results", task_part, f"{task.metric},none"] = sum(part_scores) / len(part_scores)
        expected_values["results", task_part, "sample_len"] = len(part_scores)
    differences = []
    for field_path, expected_value in expected_values.items():
        recorded_value = _value_at(result.lm_eval[task.name], field_path)
        if not same_json(expected_value, recorded_value):
            differences.append(
                f"{'.'.join(field_path)} {recorded_value!r:.60} in the result, {expected_value!r:.60} by the scores"
            )
        covered_paths.add(("lm_eval", task.name, *field_path))
    return Finding(
        f"{task.title}: lm-eval", not differences, "; ".join(differences[:MAX_NAMED_DIFFERENCES]) or "the same scores"
    )


def check_heading(result: Result, questions: Sequence[Question], covered_paths: set[FieldPath]) -> Iterator[Finding]:
    """Which tasks are finished, and the limit."""
    if result.order is not None:
        is_complete = set(result.order) <= set(result.tasks)
        expected_order = [task_name for task_name in BY_NAME if task_name in {*result.order, *result.tasks}]
        matches = result.complete == is_complete and result.order == expected_order
        yield Finding("complete", matches, f"{len(result.tasks)} tasks, {len(result.order)} ordered")
        covered_paths |= {("complete",), ("order",)}
    most_questions = max(Counter(question.task for question in questions).values(), default=None)
    if most_questions is None:
        return
    if result.limit is not None:
        yield Finding(
            "limit", most_questions <= result.limit, f"{result.limit}; at most {most_questions} questions are kept"
        )
    # Whether there were more questions only the rows can tell, so a limit that cut nothing is not covered.
    if result.limit is None or most_questions == result.limit:
        covered_paths.add(("limit",))


def check_coverage(result: Result, covered_paths: set[FieldPath]) -> list[Finding]:
    """A finding that names the fields which no check has computed again; none where there are no such fields."""
    field_names = uncovered_fields(result, covered_paths)
    if not field_names:
        return []
    coverage_text = "held by the hash of the whole only" if result.version >= 3 else "held by nothing"
    return [Finding("not computed again", None, f"{', '.join(field_names)}: {coverage_text}")]


def same_json(first: Any, second: Any) -> bool:
    """Whether two JSON values are the same; numbers that are not both whole, to twelve digits."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            same_json(first[object_key], second[object_key]) for object_key in first
        )
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same_json, first, second))
    if isinstance(first, int) and isinstance(second, int):
        return first == second
    if isinstance(first, int | float) and isinstance(second, int | float):
        return abs(second) < 1e300 and math.isclose(first, second, rel_tol=1e-12, abs_tol=1e-15)
    return bool(first == second)


_NOT_RECORDED_DETAIL = "not recorded by the version that wrote this result"


def _compare_hashes(check_name: str, computed_hash: str, recorded_hash: str) -> Finding:
    if computed_hash == recorded_hash:
        return Finding(check_name, True, computed_hash[:16])
    return Finding(check_name, False, f"{computed_hash[:16]}, {recorded_hash[:16]} in the result")


def _value_at(content: Mapping[str, Any], field_path: FieldPath) -> Any:
    """The value at a place in a tree of JSON, or None."""
    json_value: Any = content
    for path_key in field_path:
        json_value = json_value.get(path_key) if isinstance(json_value, Mapping) else None
    return json_value
