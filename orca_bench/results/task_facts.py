"""The tasks of results in, the facts of each out: those of the suite where it has the task, else what the result says of it.

A result describes each task that the suite does not have (`HarnessTaskResult`), so that every report can show it: reports ask
here, and not `suite.TASK_BY_NAME`. Its own module because the suite knows no results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from orca_bench.results.models import Result
from orca_bench.results.task_results import HarnessTaskResult, PartResult, TaskResult
from orca_bench.suite import ALL_TASKS, TASK_BY_NAME, TaskFacts

#: The split of a task whose result does not name it.
UNKNOWN_SPLIT = "unknown"

_T = TypeVar("_T")


def facts_of(result: Result, task_name: str) -> TaskFacts:
    """The facts of a task that the result has, or of one of the suite. Raises KeyError where neither knows the task.

    Of a task outside the suite no number of examples but the result's own is known, no chance level and no full size.
    """
    if task_name in TASK_BY_NAME:
        return TASK_BY_NAME[task_name]
    entry = result.tasks[task_name]
    harness_entry = entry if isinstance(entry, HarnessTaskResult) else None
    split = UNKNOWN_SPLIT if harness_entry is None else harness_entry.harness.split or UNKNOWN_SPLIT
    return TaskFacts(
        name=task_name,
        title=entry.title,
        shots=entry.shots or 0,
        metric=entry.metric,
        hub_dataset=("", None) if harness_entry is None else (harness_entry.harness.dataset_path or "", None),
        evaluation_split=split,
        few_shot_split=None,
        row_count_by_split={},
        unit="" if harness_entry is None else harness_entry.unit,
        higher_is_better=harness_entry is None or harness_entry.higher_is_better,
        has_weighted_parts=harness_entry is not None and harness_entry.weighting == "parts",
    )


def tasks_of(results: Iterable[Result]) -> list[TaskFacts]:
    """The facts of all tasks that some of the results have: the suite's first, in its order, then others as they come.

    A task that is neither of the suite nor described by its result is left out.
    """
    facts_by_name: dict[str, TaskFacts] = {}
    for result in results:
        for task_name, entry in result.tasks.items():
            is_known = task_name in TASK_BY_NAME or isinstance(entry, HarnessTaskResult)
            if is_known and task_name not in facts_by_name:
                facts_by_name[task_name] = facts_of(result, task_name)
    return list(in_task_order(facts_by_name).values())


def all_tasks_and_those_of(results: Iterable[Result]) -> list[TaskFacts]:
    """The tasks of the suite, whether or not a result has them, then the others that some result has."""
    return [*ALL_TASKS, *(facts for facts in tasks_of(results) if not is_suite_task(facts.name))]


def in_task_order(values_by_task: Mapping[str, _T]) -> dict[str, _T]:
    """A mapping by task, those of the suite first, in its order, then the others in their own."""
    return {task_name: values_by_task[task_name] for task_name in ordered_names(list(values_by_task))}


def ordered_names(task_names: Sequence[str]) -> list[str]:
    """Names of tasks, each once: those of the suite first, in its order, then the others in their own."""
    names = dict.fromkeys(task_names)
    return [*(name for name in TASK_BY_NAME if name in names), *(name for name in names if name not in TASK_BY_NAME)]


def is_suite_task(task_name: str) -> bool:
    """Whether the suite has the task."""
    return task_name in TASK_BY_NAME


def display_factor(entry: TaskResult | PartResult | TaskFacts) -> float:
    """What a value of the entry is multiplied with where it is shown: fractions of 1 are shown in percent."""
    unit = entry.unit if isinstance(entry, HarnessTaskResult | TaskFacts) else ""
    return 1.0 if unit else 100.0


def report_scale(entry: TaskResult | PartResult | TaskFacts) -> float:
    """What reports multiply a value with: they compute with fractions of 1 and show percent.

    A value with a unit is carried as a hundredth of it, and so shown as it is.
    """
    return display_factor(entry) / 100


def unit_words(entry: TaskResult | TaskFacts) -> str:
    """What stands behind a value that is shown: ` %`, or a unit with a space before it."""
    return f" {entry.unit}" if isinstance(entry, HarnessTaskResult | TaskFacts) and entry.unit else " %"


def suite_title(result: Result) -> str:
    """The suite that the result's tasks are of: its name, or `lm-eval` where protocol `plain` has none of the suite's."""
    names = [*result.tasks, *(result.order or ())]
    is_of_harness = result.protocol.name == "plain" and names and not any(map(is_suite_task, names))
    return "lm-eval" if is_of_harness else result.suite.name


def has_interval(entry: TaskResult) -> bool:
    """Whether the 95 % interval of an entry is known; that of a task of the suite always follows from its counts."""
    return entry.interval is not None or not isinstance(entry, HarnessTaskResult)
