"""Names of lm-eval's tasks, groups and tags in, the entries of a result out: which tasks of lm-eval each is made of.

A task is an entry; a group is one where lm-eval gives it a value, else each of its members is; a tag's tasks stand alone. Its
own module because what an entry is made of is known before anything is computed, and scored only after it (harness_scores.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lm_eval.api.group import Group
from lm_eval.api.task import Task as HarnessTask

from orca_bench.errors import UserError, join_names, spelling_hint
from orca_bench.evaluate.harness.lm_eval_run import hide_harness_log
from orca_bench.evaluate.harness.named_tasks import NamedTasks, load_named_tasks
from orca_bench.results.hashing import sha256_of_json
from orca_bench.suite import TASK_BY_NAME

#: The kinds of requests that lm-eval's tasks have, of those that are answered.
OUTPUT_TYPES = ("loglikelihood", "loglikelihood_rolling", "multiple_choice", "generate_until")

_MOST_NAMED_ENTRIES = 8


@dataclass(frozen=True)
class HarnessEntry:
    """An entry of a result: its name, lm-eval's tasks by name, and the group that they are, None for a task alone."""

    name: str
    tasks_by_name: dict[str, HarnessTask]
    group: Group | None = None

    @property
    def title(self) -> str:
        """What the entry is called in tables."""
        return self.name

    @property
    def generates_text(self) -> bool:
        """Whether all answers are texts."""
        return all(task.OUTPUT_TYPE == "generate_until" for task in self.tasks_by_name.values())

    @property
    def split(self) -> str:
        """The split that the questions are of; `evaluation` where the parts differ in it."""
        splits = {split_of(task) for task in self.tasks_by_name.values()}
        return splits.pop() if len(splits) == 1 else "evaluation"

    @cached_property
    def row_hashes_by_split(self) -> dict[str, str]:
        """The SHA-256 of the rows that the questions are made of, all of them whatever the limit, by split."""
        rows = (
            [name, json.dumps(row, default=str, ensure_ascii=False, sort_keys=True)]
            for name, task in self.tasks_by_name.items()
            for row in task.eval_docs
        )
        return {self.split: sha256_of_json(rows)}

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return sum(len(task.eval_docs) for task in self.tasks_by_name.values())

    @property
    def groups_by_name(self) -> dict[str, Group]:
        """The group and those in it, by name."""
        groups = [] if self.group is None else [self.group, *self.group.get_all_groups()]
        return {group.name: group for group in groups}


def load_entries(names: Sequence[str], benchmarks_folder: Path | None) -> list[HarnessEntry]:
    """The entries that some names mean, each once, in their order.

    Raises UserError as `load_named_tasks`, for a task without rows or whose requests are of a kind that is not answered, and for
    one that runs code of the model.
    """
    hide_harness_log()
    named_tasks = load_named_tasks(names, benchmarks_folder)
    entries = {entry.name: entry for entry in _entries(names, named_tasks)}
    entries = {name: entries[name] for name in (*(name for name in names if name in entries), *entries)}
    for entry in entries.values():
        for task in entry.tasks_by_name.values():
            _check_task(task)
    return list(entries.values())


def check_entry_names(names: Iterable[str], entries: Sequence[HarnessEntry], option: str) -> None:
    """Raise UserError where an option names a task that the suite does not have, and that is none of the entries."""
    entry_names = [entry.name for entry in entries]
    for name in names:
        if name in TASK_BY_NAME or name in entry_names:
            continue
        group_names = [entry.name for entry in entries if name in entry.tasks_by_name]
        if group_names:
            raise UserError(
                f"'{name}' is a part of {group_names[0]}, whose parts share one number",
                where=option,
                hint=f"give {group_names[0]}=N, or name {name} in --tasks",
            )
        spelling = spelling_hint(name, [*entry_names, *TASK_BY_NAME])
        raise UserError(
            f"'{name}' is no task of this evaluation",
            where=option,
            hint=spelling or f"it has {join_names(entry_names, _MOST_NAMED_ENTRIES)}",
        )


def limit_new_tokens(entries: Sequence[HarnessEntry], max_new_tokens_by_task: Mapping[str, int]) -> None:
    """Give the texts of some entries another limit than lm-eval's task files say, tokens, as `--gen_kwargs max_gen_toks=N` does.

    Raises UserError for a name that is none of the entries nor of the suite, and for an entry without texts.
    """
    check_entry_names(max_new_tokens_by_task, entries, "--max-new-tokens")
    for entry in entries:
        if (max_new_tokens := max_new_tokens_by_task.get(entry.name)) is None:
            continue
        tasks = [task for task in entry.tasks_by_name.values() if task.OUTPUT_TYPE == "generate_until"]
        if not tasks:
            raise UserError(f"{entry.name} is no task whose answers are texts", where="--max-new-tokens")
        for task in tasks:
            arguments = dict(task.get_config("generation_kwargs") or {}) | {"max_gen_toks": max_new_tokens}
            task.set_config(key="generation_kwargs", value=arguments)


def _entries(names: Sequence[str], named_tasks: NamedTasks) -> Iterator[HarnessEntry]:
    child_names = {name for children in named_tasks.child_names_by_group.values() for name in children}
    for name, group in named_tasks.groups_by_name.items():
        if name not in child_names or name in names:
            yield from _entries_of_group(group)
    for name, task in named_tasks.tasks_by_name.items():
        if name not in child_names or name in names:
            yield HarnessEntry(name, {name: task})


def _entries_of_group(group: Group) -> Iterator[HarnessEntry]:
    if group.has_aggregation:
        yield HarnessEntry(group.name, {task.task_name: task for task in group.get_all_tasks()}, group)
        return
    for child in group:
        if isinstance(child, Group):
            yield from _entries_of_group(child)
        else:
            yield HarnessEntry(child.task_name, {child.task_name: child})


def _check_task(task: HarnessTask) -> None:
    if task.OUTPUT_TYPE not in OUTPUT_TYPES and task.OUTPUT_TYPE is not None:
        raise UserError(
            f"its requests are of the kind {task.OUTPUT_TYPE}",
            where=task.task_name,
            hint=f"the kinds that are answered: {', '.join(OUTPUT_TYPES)}",
        )
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(
            "lm-eval marks it as unsafe: it runs code that the model writes",
            where=task.task_name,
            hint="orca-bench lm-eval --confirm_run_unsafe_code runs it",
        )
    if getattr(task, "MULTIMODAL", False):
        raise UserError("its questions have pictures or sounds", where=task.task_name, hint="leave it out of --tasks")
    if not len(task.eval_docs):
        raise UserError("there is no row to ask about", where=task.task_name)


def split_of(task: HarnessTask) -> str:
    """The split that lm-eval makes the questions of a task of."""
    config = getattr(task, "config", None)
    if task.has_test_docs():
        return getattr(config, "test_split", None) or "test"
    return getattr(config, "validation_split", None) or "validation"
