"""The tasks of the suite, in its order: one module each, called as the task is in orca_bench/suite.py.

A module of a task has `TASK`, the task itself. Nothing else has to be told of a new task: it is found by the facts' name.
"""

import importlib

from orca_bench import suite
from orca_bench.errors import UserError
from orca_bench.evaluate.tasks.task import GenerationTask, Score, Task

SUITE: tuple[Task, ...] = tuple(importlib.import_module(f"{__name__}.{facts.name}").TASK for facts in suite.ALL_TASKS)

#: Those whose answers are texts that the model writes.
GENERATION_TASKS: tuple[GenerationTask, ...] = tuple(task for task in SUITE if isinstance(task, GenerationTask))

__all__ = ["GENERATION_TASKS", "SUITE", "GenerationTask", "Score", "Task", "select"]


def select(task_names: str) -> list[Task]:
    """The tasks of a comma-separated list, in the suite's order; `all` is all of them. Raises UserError for other names."""
    names_without_spaces = [task_name.strip() for task_name in task_names.split(",") if task_name.strip()]
    if not names_without_spaces:
        raise UserError("no task named", where="--tasks", hint=f"all, or some of {', '.join(suite.TASK_BY_NAME)}")
    selected_names = {
        suite.task_facts(task_name, "--tasks").name for task_name in names_without_spaces if task_name != "all"
    }
    return [task for task in SUITE if "all" in names_without_spaces or task.name in selected_names]
