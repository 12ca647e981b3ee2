"""A result and its baselines in; out, whether too many questions are in the training records, and warnings of such questions.

A gain on questions that a model was trained on is none, and a loss against a baseline that was trained on them may be none
either. Its own module because the rule is about one result, while the gate compares several.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.report.gate_rules import GateRules
from orca_bench.report.overlap_text import overlap_text
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_facts import tasks_of
from orca_bench.suite import TaskFacts


def too_much_overlap(task_name: str, result: ResultFile, rules: GateRules) -> str:
    """Why a task of the result fails by `max_overlap`; empty where it does not.

    With the rule, a task whose questions were not compared with the training records fails too.
    """
    if rules.max_overlap is None:
        return ""
    entry = result.result.tasks[task_name]
    if entry.overlap is None:
        return "not compared with the training records (eval --data-report)"
    if entry.overlap.questions <= rules.max_overlap:
        return ""
    return f"{overlap_text(entry)} (at most {rules.max_overlap:,} allowed)"


def overlap_warnings(
    result: ResultFile, baselines: Sequence[ResultFile], examined_tasks: Sequence[TaskFacts]
) -> list[str]:
    """A line for each task of the result, and each examined one of a baseline, whose questions are in the training records."""
    return [
        f"{task.title}{place}: {text}"
        for file, place, tasks in (
            (result, "", tasks_of([result.result])),
            *((baseline, f" in {baseline.path}", examined_tasks) for baseline in baselines),
        )
        for task in tasks
        if task.name in file.result.tasks and (text := overlap_text(file.result.tasks[task.name]))
    ]
