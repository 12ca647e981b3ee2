"""Names of lm-eval's tasks and groups in, lm-eval's own task objects over rows from a folder, a cache or the hub out.

    loaded = load_named_tasks(["arc_easy", "mmlu_stem"], Path("benchmarks"))
    loaded.tasks_by_name         {name of a leaf task: lm-eval's Task, with its rows and shots, ready for `evaluate`}
    loaded.groups_by_name        {name of a group: lm-eval's Group}; a tag is no group: its tasks stand alone
    loaded.child_names_by_group  {name of a group: the names of its direct children, tasks and groups}
    lm_eval.evaluator.evaluate(lm=model, task_dict=loaded.as_task_dict(), …)

The rows: see `local_data_sets`. The shots and the seed of the few-shot examples are set as lm-eval's `simple_evaluate` does, so
requests and scores are those of lm-eval's command line. Its own module because protocol `plain` and the command `lm-eval` load
tasks alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask
from lm_eval.api.task import Task as HarnessTask
from lm_eval.tasks import TaskManager

from orca_bench.errors import UserError, spelling_hint
from orca_bench.evaluate.harness.lm_eval_run import explained_metrics
from orca_bench.evaluate.harness.local_data_sets import LocalDataSet, MissingRows, rows_from_folder
from orca_bench.evaluate.harness.task_building import explained_building
from orca_bench.evaluate.harness.task_index import remember_task_files

#: The attribute of a task that says which of its splits are not there.
_UNUSED_SPLITS = "orca_bench_unused_splits"

#: lm_eval 0.4.13's default for the generator of few-shot examples (lm_eval/defaults.py), which `simple_evaluate` sets.
FEW_SHOT_SEED = 1234


@dataclass(frozen=True)
class NamedTasks:
    """What some names mean: leaf tasks by name, groups by name, and the names of each group's direct children."""

    tasks_by_name: dict[str, HarnessTask]
    groups_by_name: dict[str, Group]
    child_names_by_group: dict[str, list[str]]

    def as_task_dict(self) -> dict[str, Any]:
        """The argument `task_dict` of lm-eval's `evaluate`."""
        return {
            "tasks": self.tasks_by_name,
            "groups": self.groups_by_name,
            "group_map": self.child_names_by_group,
        }


def task_manager(
    include_path: str | Sequence[str] | None = None, metadata: Mapping[str, Any] | None = None
) -> TaskManager:
    """lm-eval's task manager; `include_path` names folders with further task files, `metadata` is for tasks that read it."""
    with remember_task_files():
        return TaskManager(include_path=include_path, metadata=dict(metadata or {}))


def load_named_tasks(
    names: Sequence[str],
    benchmarks_folder: Path | None,
    manager: TaskManager | None = None,
    few_shot_count: int | None = None,
    few_shot_seed: int | None = FEW_SHOT_SEED,
) -> NamedTasks:
    """lm-eval's tasks of some names (of tasks, groups or tags, with `*` too) over their rows.

    `benchmarks_folder` is looked into first; None: the rows come from the cache of datasets or the hub. `few_shot_count` replaces
    the number of examples that a task file says, unless that is 0, as in lm-eval. Raises UserError for a name that lm-eval does
    not have, for rows that cannot be had, and for a task that lm-eval cannot build.
    """
    manager = task_manager() if manager is None else manager
    exact_names = [exact_name for name in names for exact_name in _matching_names(name, manager)]
    with explained_rows(benchmarks_folder):
        named_tasks = _load(manager, list(dict.fromkeys(exact_names)))
        for task in named_tasks.tasks_by_name.values():
            if few_shot_count is not None and task.get_config("num_fewshot") != 0:
                task.set_config(key="num_fewshot", value=few_shot_count)
            elif task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=few_shot_seed)
    return named_tasks


@contextlib.contextmanager
def explained_rows(benchmarks_folder: Path | None) -> Iterator[None]:
    """Inside the block tasks get their rows as `rows_from_folder` says; an error names the task and the splits that it reads.

    lm_eval 0.4.13 reads a task's split of examples, whether examples are wanted or not. Where a folder has none, a task without
    examples does without.
    """
    original_download, original_set_config = ConfigurableTask.download, ConfigurableTask.set_config

    def download(task: ConfigurableTask, *arguments: Any, **options: Any) -> None:
        try:
            original_download(task, *arguments, **options)
        except MissingRows as error:
            split_names = _enumeration(_split_names(task))
            raise MissingRows(
                f"{error.problem}; the task reads {split_names}", where=error.where or task.config.task, hint=error.hint
            ) from None
        if isinstance(task.dataset, LocalDataSet) and not task.config.num_fewshot:
            _add_unused_splits(task, task.dataset)

    def set_config(task: ConfigurableTask, key: str, value: Any, update: bool = False) -> None:
        if key == "num_fewshot" and value and (splits := getattr(task, _UNUSED_SPLITS, None)):
            raise MissingRows(
                f"{value} examples are wanted, and {benchmarks_folder} has no rows of {_enumeration(splits)}",
                where=task.config.task,
            )
        original_set_config(task, key, value, update)

    with (
        rows_from_folder(benchmarks_folder),
        explained_building(),
        mock.patch.object(ConfigurableTask, "download", download),
        mock.patch.object(ConfigurableTask, "set_config", set_config),
        explained_metrics(),
    ):
        yield


def _add_unused_splits(task: ConfigurableTask, data_set: LocalDataSet) -> None:
    """Let the splits of examples that are not there have the rows that are evaluated; the task notes which these are."""
    evaluated_split = task.config.test_split or task.config.validation_split
    missing_splits = [split for split in _split_names(task) if split not in data_set]
    if evaluated_split in data_set and missing_splits:
        for split in missing_splits:
            data_set.add_stand_in(split, evaluated_split)
        setattr(task, _UNUSED_SPLITS, missing_splits)


def _split_names(task: ConfigurableTask) -> list[str]:
    config = task.config
    names = (config.training_split, config.validation_split, config.test_split, config.fewshot_split)
    return list(dict.fromkeys(name for name in names if name))


def _enumeration(names: Sequence[str]) -> str:
    """Some names as in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def unknown_task_error(name: str, manager: TaskManager) -> UserError:
    """What is said of a name that lm-eval does not have."""
    return UserError(
        f"lm-eval has no task, group or tag '{name}'",
        where="--tasks",
        hint=spelling_hint(name, manager.all_tasks, n=3) or "orca-bench lm-eval ls tasks lists them",
    )


def _matching_names(name: str, manager: TaskManager) -> list[str]:
    matching_names: list[str] = manager.match_tasks([name])
    if not matching_names:
        raise unknown_task_error(name, manager)
    return matching_names


def _load(manager: TaskManager, names: list[str]) -> NamedTasks:
    content = manager.load(names)
    return NamedTasks(content["tasks"], content.get("groups", {}), content.get("group_map", {}))
