"""A result and its questions in, findings out: does the result agree with itself?

From the scores of the questions come values, errors and averages again; from the files come the hashes. Neither rows nor
protocols are needed; verification with them is in evaluate/verification.py. Each check adds to `recomputed_paths` the places of
the result (coverage.py) that it has computed again. Its own module because whoever has two files can make these checks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.counts import counted
from orca_bench.files import content_sha256
from orca_bench.results import summary
from orca_bench.results.coverage import FieldPath, fields_not_recomputed
from orca_bench.results.harness_summary import follows_from_questions, questions_of_metric, summarize_harness_metric
from orca_bench.results.hashing import compute_result_sha256, sha256_of_all_requests
from orca_bench.results.models import Question, Result
from orca_bench.results.task_facts import display_factor, ordered_names
from orca_bench.results.task_results import HarnessTaskResult, MetricResult
from orca_bench.suite import TaskFacts

#: How many differences of one kind are named.
MAX_DIFFERENCES_PER_FINDING = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was recomputed: what, whether it matches (None: could not be checked), and the detail."""

    check_name: str
    matches: bool | None
    detail: str


def check_result_hash(result: Result) -> Finding:
    """The hash of the whole result."""
    check_name = "hash of the whole result"
    if result.format_version < 3:
        # A result of a later version that calls itself an earlier one does not lose its hash by that.
        return Finding(check_name, False if result.result_sha256 is not None else None, _NOT_RECORDED_DETAIL)
    return compare_hashes(check_name, compute_result_sha256(result), str(result.result_sha256))


def check_questions_hash(result: Result, questions_path: Path) -> Finding:
    """The hash of the file of questions."""
    check_name = "hash of the questions"
    if result.questions_sha256 is None:
        return Finding(check_name, None, _NOT_RECORDED_DETAIL)
    return compare_hashes(check_name, content_sha256(questions_path), result.questions_sha256)


def check_requests_hash(result: Result) -> Finding:
    """The hash of all requests, which is one over those of the tasks."""
    return compare_hashes("hash of all requests", sha256_of_all_requests(result), str(result.requests_sha256))


def check_task_value(
    result: Result, task: TaskFacts, questions: Sequence[Question], recomputed_paths: set[FieldPath]
) -> Finding:
    """The value of a task, its error, interval and counts, from its questions' scores."""
    check_name = f"{task.title}: value"
    if not questions:
        return Finding(check_name, False, "no questions are kept")
    recorded_entry_json = result.tasks[task.name].to_json()
    recomputed_entry = summary.summarize_task(task, questions)
    recomputed_paths |= {("tasks", task.name, key) for key in recomputed_entry.to_json()}
    difference_by_key = {
        key: f"{key} {recorded_entry_json.get(key)!r:.60} in the result, {recomputed_value!r:.60} by the scores"
        for key, recomputed_value in recomputed_entry.to_json().items()
        if not is_equal_json(recomputed_value, recorded_entry_json.get(key))
    }
    if result.format_version == 1:  # whose standard errors knew no clusters
        difference_by_key = {
            key: difference
            for key, difference in difference_by_key.items()
            if key in recorded_entry_json and key not in ("stderr", "subjects", "whole")
        }
    value_text = f"{task.metric} {100 * recomputed_entry.value:.2f}, {recomputed_entry.n:,} questions"
    return Finding(check_name, not difference_by_key, "; ".join(difference_by_key.values()) or value_text)


def check_harness_task_value(
    result: Result, task_name: str, questions: Sequence[Question], recomputed_paths: set[FieldPath]
) -> Finding:
    """The value, error and counts of a task outside the suite, and of its metrics, where they follow from its questions."""
    entry, check_name = result.tasks[task_name], f"{task_name}: value"
    if not isinstance(entry, HarnessTaskResult) or not questions:
        return Finding(check_name, False, "no questions are kept")
    differences = []

    def compare_values(path: FieldPath, recorded: MetricResult | HarnessTaskResult, scored: Sequence[Question]) -> None:
        aggregation = recorded.aggregation if isinstance(recorded, MetricResult) else recorded.harness.aggregation
        recomputed = summarize_harness_metric(scored, aggregation, recorded.unit, entry.weighting)
        recorded_json = recorded.to_json()
        for key, value in recomputed.items():
            recomputed_paths.add((*path, key))
            if not is_equal_json(value, recorded_json.get(key)):
                place = ".".join((*path[2:], key))
                differences.append(f"{place} {recorded_json.get(key)!r:.60} in the result, {value!r:.60} by the scores")

    recomputed_paths.add(("tasks", task_name, "n"))
    if entry.n != len(questions):
        differences.append(f"n {entry.n} in the result, {len(questions)} questions")
    if not follows_from_questions(entry.harness.aggregation):
        return Finding(check_name, False if differences else None, f"{entry.metric} only lm-eval can compute")
    compare_values(("tasks", task_name), entry, questions)
    for metric_name, metric in entry.metrics.items():
        scored = questions_of_metric(questions, metric_name)
        if scored and follows_from_questions(metric.aggregation):
            compare_values(("tasks", task_name, "metrics", metric_name), metric, scored)
    detail = f"{entry.metric} {display_factor(entry) * entry.value:.2f}, {entry.n:,} questions"
    return Finding(check_name, not differences, "; ".join(differences[:MAX_DIFFERENCES_PER_FINDING]) or detail)


def check_task_overlap(
    result: Result, task: TaskFacts, questions: Sequence[Question], recomputed_paths: set[FieldPath]
) -> list[Finding]:
    """What a task's entry says of questions in the training records, from the marks of the questions; nothing without both.

    Whether the marks are those of the report, only the report can tell.
    """
    recorded_overlap = result.tasks[task.name].overlap
    marked_count = sum(question.overlap is not None or question.relative is not None for question in questions)
    check_name = f"{task.title}: overlap"
    if recorded_overlap is None:
        if not marked_count:
            return []
        detail = f"{counted(marked_count, 'question')} marked, and no word of it in the task's entry"
        return [Finding(check_name, False, detail)]
    recomputed_json = summary.summarize_overlap(task, questions, "").to_json()
    recorded_json = recorded_overlap.to_json()
    difference_texts = [
        f"{key} {recorded_json.get(key)!r:.60} in the result, {recomputed_json[key]!r:.60} by the questions"
        for key in ("questions", "without", "relatives")
        if not is_equal_json(recomputed_json[key], recorded_json.get(key))
        and not (key == "relatives" and key not in recorded_json)
    ]
    if recorded_overlap.subjects is not None and recorded_overlap.subjects != recomputed_json.get("subjects"):
        difference_texts.append(f"subjects {recorded_overlap.subjects} in the result, not so by the questions")
    recomputed_paths |= {
        ("tasks", task.name, "overlap", key) for key in ("questions", "without", "relatives", "subjects")
    }
    detail = f"{recorded_overlap.questions:,} of {len(questions):,} questions"
    return [Finding(check_name, not difference_texts, "; ".join(difference_texts) or detail)]


def check_averages(result: Result, recomputed_paths: set[FieldPath]) -> Finding:
    """The averages, from the tasks' values."""
    difference_texts = []
    for average_name, recomputed_average in summary.compute_averages(result.tasks).items():
        recorded_average_json = result.averages[average_name].to_json() if average_name in result.averages else {}
        for key, recomputed_value in recomputed_average.to_json().items():
            recomputed_paths.add(("averages", average_name, key))
            if not is_equal_json(recomputed_value, recorded_average_json.get(key)) and not (
                result.format_version == 1 and key != "value"
            ):
                difference_texts.append(
                    f"{average_name}, {key}: {recorded_average_json.get(key)!r} in the result, {recomputed_value!r} by the tasks"
                )
    return Finding("averages", not difference_texts, "; ".join(difference_texts) or "the means of the values")


def check_harness_account(
    result: Result, task: TaskFacts, questions: Sequence[Question], recomputed_paths: set[FieldPath]
) -> Finding:
    """lm-eval's own account of the same scores: by part its mean, how many there are, the shots and the protocol's version."""
    scores_by_part: dict[str, list[float]] = {}
    for question in questions:
        scores_by_part.setdefault(question.task, []).append(question.score)
    expected_value_by_path: dict[FieldPath, Any] = {
        ("n-samples",): {
            part_name: {"original": len(part_scores), "effective": len(part_scores)}
            for part_name, part_scores in scores_by_part.items()
        },
        ("n-shot",): {part_name: task.shots for part_name in scores_by_part},
        ("versions",): {part_name: result.protocol.version for part_name in scores_by_part},
    }
    for part_name, part_scores in scores_by_part.items():
        expected_value_by_path["results", part_name, f"{task.metric},none"] = sum(part_scores) / len(part_scores)
        expected_value_by_path["results", part_name, "sample_len"] = len(part_scores)
    difference_texts = []
    for field_path, expected_value in expected_value_by_path.items():
        recorded_value = _value_at(result.lm_eval[task.name], field_path)
        if not is_equal_json(expected_value, recorded_value):
            difference_texts.append(
                f"{'.'.join(field_path)} {recorded_value!r:.60} in the result, {expected_value!r:.60} by the scores"
            )
        recomputed_paths.add(("lm_eval", task.name, *field_path))
    return Finding(
        f"{task.title}: lm-eval",
        not difference_texts,
        "; ".join(difference_texts[:MAX_DIFFERENCES_PER_FINDING]) or "the same scores",
    )


def check_tasks_and_limit(
    result: Result, questions: Sequence[Question], recomputed_paths: set[FieldPath]
) -> Iterator[Finding]:
    """Which tasks are finished, and the limit."""
    if result.order is not None:
        has_all_ordered_tasks = set(result.order) <= set(result.tasks)
        expected_task_order = ordered_names([*result.order, *result.tasks])
        matches_order = result.complete == has_all_ordered_tasks and result.order == expected_task_order
        yield Finding("complete", matches_order, f"{len(result.tasks)} tasks, {len(result.order)} ordered")
        recomputed_paths |= {("complete",), ("order",)}
    part_counts = Counter(question.task for question in questions)
    entry_by_part = {question.task: question.suite_task for question in questions}
    if not part_counts:
        return
    limit = result.question_limit
    limited_counts = [
        (task_limit, count, part_name)
        for part_name, count in part_counts.items()
        if (task_limit := limit.of_task(entry_by_part[part_name])) is not None
    ]
    if limited_counts:
        task_limit, count, part_name = min(limited_counts, key=lambda limited: limited[0] - limited[1])
        yield Finding(
            "limit",
            count <= task_limit,
            f"{limit}; {part_name} has {counted(count, 'question')}, at most {task_limit:,}",
        )
    # Whether there were more questions only the rows can tell, so a limit that cut nothing is not covered.
    spare_by_task: dict[str, int] = {}
    for task_limit, count, part_name in limited_counts:
        task_name = entry_by_part[part_name]
        spare_by_task[task_name] = min(task_limit - count, spare_by_task.get(task_name, task_limit))
    if not any(spare_by_task.values()):
        recomputed_paths.add(("limit",))


def check_coverage(result: Result, recomputed_paths: set[FieldPath]) -> list[Finding]:
    """A finding that names the fields which no check has computed again; none where there are no such fields."""
    unchecked_field_names = fields_not_recomputed(result, recomputed_paths)
    if not unchecked_field_names:
        return []
    protection_text = "held by the hash of the whole only" if result.format_version >= 3 else "held by nothing"
    return [Finding("not computed again", None, f"{', '.join(unchecked_field_names)}: {protection_text}")]


def is_equal_json(first_value: Any, second_value: Any) -> bool:
    """Whether two JSON values are the same; numbers that are not both whole, to twelve digits."""
    if isinstance(first_value, dict) and isinstance(second_value, dict):
        return first_value.keys() == second_value.keys() and all(
            is_equal_json(first_value[object_key], second_value[object_key]) for object_key in first_value
        )
    if isinstance(first_value, list | tuple) and isinstance(second_value, list | tuple):
        return len(first_value) == len(second_value) and all(map(is_equal_json, first_value, second_value))
    if isinstance(first_value, int) and isinstance(second_value, int):
        return first_value == second_value
    if isinstance(first_value, int | float) and isinstance(second_value, int | float):
        return abs(second_value) < 1e300 and math.isclose(first_value, second_value, rel_tol=1e-12, abs_tol=1e-15)
    return bool(first_value == second_value)


_NOT_RECORDED_DETAIL = "not recorded by the version that wrote this result"


def compare_hashes(check_name: str, computed_hash: str, recorded_hash: str) -> Finding:
    """Whether a hash that was computed again is the recorded one; the detail has the first 16 digits of both."""
    if computed_hash == recorded_hash:
        return Finding(check_name, True, computed_hash[:16])
    return Finding(check_name, False, f"{computed_hash[:16]}, {recorded_hash[:16]} in the result")


def _value_at(root_json: Mapping[str, Any], field_path: FieldPath) -> Any:
    """The value at a place in a tree of JSON, or None."""
    json_value: Any = root_json
    for path_key in field_path:
        json_value = json_value.get(path_key) if isinstance(json_value, Mapping) else None
    return json_value
