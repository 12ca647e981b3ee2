"""lm-evaluation-harness's own evaluator, called for some of its tasks and one of its models.

Tasks and a model come in, lm-eval's result goes out. Its own module because what lm_eval 0.4.13 does besides, and we do not
want, is switched off here in one place.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from unittest import mock

import lm_eval.api.task
import lm_eval.evaluator
from lm_eval.api.group import Group
from lm_eval.api.model import LM
from lm_eval.api.task import Task as HarnessTask

from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.harness.sample_log import KEYS_BY_TASK, SampleLog
from orca_bench.results.models import Question

#: What the code of a task raises over rows or answers that it did not expect, or for want of a library.
_ERRORS_OF_TASKS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class TaskOutcome:
    """One task under one protocol: its scored questions in order, a hash of all requests, and lm-eval's own result."""

    questions: list[Question]
    requests_sha256: str
    lm_eval: dict[str, Any]


def evaluate_tasks(
    harness_model: LM,
    harness_tasks: Sequence[HarnessTask],
    document_limit: int | None = None,
    should_log_samples: bool = False,
    groups: Mapping[str, Group] = MappingProxyType({}),
) -> dict[str, Any]:
    """lm-eval's result of some tasks with a model; `should_log_samples` adds every document with the model's responses.
    `groups` are lm-eval's groups of these tasks, by name, which it then gives values too. A model with a `sample_log` has the
    documents and its responses written there.

    `evaluate` is called and not `simple_evaluate`, which asks git for the current folder's revision, lists the machine's
    packages, and gives nothing back where LOCAL_RANK is not 0. Standard errors are ours, by the right unit.
    """
    hide_harness_log()
    tasks_by_name = {task.task_name: task for task in harness_tasks}
    sample_log: SampleLog | None = getattr(harness_model, "sample_log", None)  # of our own model class alone
    with _without_progress_bars(), explained_metrics():
        harness_result: dict[str, Any] = lm_eval.evaluator.evaluate(
            lm=harness_model,
            task_dict={
                "tasks": tasks_by_name,
                "groups": dict(groups),
                "group_map": {name: group.child_names for name, group in groups.items()},
            },
            limit=document_limit,
            bootstrap_iters=0,
            log_samples=should_log_samples or sample_log is not None,
        )
    if sample_log is not None:
        sample_log.add(harness_result)
    return harness_result


@contextlib.contextmanager
def explained_metrics() -> Iterator[None]:
    """Raise UserError where `evaluate.load` in the block has no network to fetch the script of a metric."""
    try:
        yield
    except FileNotFoundError as error:
        if (script := re.search(r"module script at \S*?([^/\s]+)\.py", str(error))) is None:
            raise
        raise UserError(
            f"the metric {script[1]} is a script on the hub, and cannot be had",
            where="lm-eval",
            hint="with a network once, `evaluate.load` has it in its cache; answers that are computed and stored stay",
        ) from error


@contextlib.contextmanager
def explain_task_errors(task_name: str) -> Iterator[None]:
    """Inside the block, what the code of a task raises is a UserError that names the task."""
    try:
        yield
    except _ERRORS_OF_TASKS as error:
        hint = "are the rows of the task's own schema? --debug shows where it fails"
        if "larger than population" in str(error):
            hint = "the split of its few-shot examples has fewer rows than it takes examples"
        raise UserError(
            f"the code of lm-eval's task fails ({type(error).__name__}: {one_line(error, 200)})",
            where=task_name,
            hint=hint,
        ) from error


def hide_harness_log() -> None:
    """Keep lm-eval's notes for the authors of tasks off the terminal; its errors are shown."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def without_samples(harness_result: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's result without samples, which stand in the file of questions, and without the machine."""
    return {key: harness_result[key] for key in KEYS_BY_TASK if key in harness_result}


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep lm_eval 0.4.13 from drawing a bar for every task that it builds requests of, through the bars of our own display.

    It has no switch for that. tests/evaluate/harness/test_lm_eval_run.py fails when the name moves or the bar goes.
    """
    with mock.patch.object(lm_eval.api.task, "tqdm", lambda documents, **options: documents):
        yield
