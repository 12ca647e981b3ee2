"""A YAML file in, the rules of the gate out.

Its own module because the gate judges by its rules wherever they come from.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

from orca_bench import yaml_files
from orca_bench.errors import UserError, spelling_hint
from orca_bench.suite import TASK_BY_NAME, task_facts

_MAX_ALLOWED_CHANGE = 1000  # nats, of `max_log_probability_change`


@dataclass(frozen=True)
class GateRules:
    """What the gate demands of a result.

    `level` is the family-wise error rate of all tasks together: how often a model that is no worse may fail. `smallest_loss` is
    in points; a smaller loss passes even if it is significant. `floors` are points by task (or its metric's unit) that must be
    reached, and not exceeded where lower is better, whatever the baseline has, also by tasks that are not compared. `tasks`
    are those that are compared; None means all of the baseline.
    `max_overlap` is the most questions of a task that may overlap with the training records; None only warns of them.
    `max_log_probability_change` is by how many nats an answer's log-probability may differ from the one baseline's, in any
    question of the tasks that are compared; None does not look.
    """

    level: float = 0.05
    smallest_loss: float = 0.0
    floors: dict[str, float] = field(default_factory=dict)
    tasks: tuple[str, ...] | None = None
    max_overlap: int | None = None
    max_log_probability_change: float | None = None


#: The keys of a file of rules.
_KEYS = tuple(rule.name for rule in fields(GateRules))


def read_rules(path: Path | None, result_task_names: Collection[str] = ()) -> GateRules:
    """The rules in a YAML file, or the default ones without a path. Raises UserError, with the key, for a wrong rule.

    `result_task_names` are the tasks that the results have: a rule may be about those outside the suite too.
    """
    open_names = frozenset(result_task_names) - frozenset(TASK_BY_NAME)
    if path is None:
        return GateRules()
    rules, _ = yaml_files.read_yaml_file(
        path, "rules", missing_file_hint="rules are a YAML file; see orca-bench check --help"
    )
    if not rules or not isinstance(rules, dict):
        problem = "no rule in this file" if not rules else "rules are a mapping"
        raise UserError(
            problem,
            where=path,
            hint=f"keys are {', '.join(_KEYS[:-1])} and {_KEYS[-1]}; each may be left out",
        )
    for key in rules:
        if key not in _KEYS:
            raise UserError(
                f"unknown key '{key}'",
                where=path,
                hint=spelling_hint(str(key), _KEYS) or f"known: {', '.join(_KEYS)}",
            )
    level = _read_number(f"{path}: level", rules.get("level", 0.05), 0, 1)
    if level in (0, 1):
        raise UserError(
            f"at a level of {level:g} no loss fails, or every one", where=f"{path}: level", hint="level: 0.05"
        )
    smallest_loss = _read_number(f"{path}: smallest_loss", rules.get("smallest_loss", 0.0), 0, 100)
    floors = rules.get("floors", {})
    if not isinstance(floors, dict):
        raise UserError("floors are points by task", where=f"{path}: floors", hint="floors: {hellaswag: 60}")
    floors = {
        _task_name(str(name), f"{path}: floors", open_names): _read_number(
            f"{path}: floors.{name}", floor, 0, 1e9 if name in open_names else 100
        )
        for name, floor in floors.items()
    }
    max_overlap = rules.get("max_overlap")
    if max_overlap is not None and (
        not isinstance(max_overlap, int) or isinstance(max_overlap, bool) or max_overlap < 0
    ):
        raise UserError(
            f"{max_overlap!r} is no number of questions", where=f"{path}: max_overlap", hint="max_overlap: 0"
        )
    max_change = rules.get("max_log_probability_change")
    if max_change is not None:
        max_change = allowed_change(max_change, f"{path}: max_log_probability_change")
    tasks = rules.get("tasks", "all")
    if tasks == "all":
        return GateRules(level, smallest_loss, floors, None, max_overlap, max_change)
    if not isinstance(tasks, list) or not tasks:
        raise UserError("tasks are `all` or a list of some", where=f"{path}: tasks", hint="tasks: [hellaswag, gsm8k]")
    task_names = tuple(_task_name(str(name), f"{path}: tasks", open_names) for name in tasks)
    return GateRules(level, smallest_loss, floors, task_names, max_overlap, max_change)


def _task_name(name: str, where: str, open_names: Collection[str]) -> str:
    """The name of a task that a rule names: as the results have it, or as `task_facts`, which raises for an unknown one."""
    if name in open_names:
        return name
    if open_names and (hint := spelling_hint(name, sorted(open_names))):
        raise UserError(f"unknown task '{name}'", where=where, hint=hint)
    return task_facts(name, where).name


def allowed_change(value: object, where: str) -> float:
    """The nats of `max_log_probability_change`, as rules or the command line give them; raises UserError for another value."""
    return _read_number(where, value, 0, _MAX_ALLOWED_CHANGE)


def _read_number(where: str, value: object, lower: float, upper: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not lower <= value <= upper:
        raise UserError(f"{value!r} is no number from {lower} to {upper}", where=where)
    return float(value)
