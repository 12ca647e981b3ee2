"""What lm-eval raises while it builds a task becomes an error that names the task, its data set and the columns of its rows.

Tasks are built one after the other by code of their own, so that a `KeyError: 'ctx'` or a module that is not there says nothing
of where it is from. Its own module because it knows neither where rows lie nor what names mean.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from orca_bench.errors import UserError, join_names, one_line


@contextlib.contextmanager
def explained_building() -> Iterator[None]:
    """Inside the block what goes wrong while lm-eval builds tasks is a UserError that names the task.

    A metric that cannot be had is one too: lm_eval 0.4.13 notices it only when all answers are there.
    """
    original_init, original_load = ConfigurableTask.__init__, TaskManager.load

    def build(task: ConfigurableTask, *arguments: Any, **options: Any) -> None:
        try:
            original_init(task, *arguments, **options)
        except UserError:
            raise
        except Exception as error:  # whatever the code of a task raises over rows that are not its own
            raise UserError(
                f"lm-eval cannot build this task ({_reason(error)})", where=_name_of(task), hint=_hint_of_rows(task)
            ) from error
        _check_metrics(task)

    def load(manager: TaskManager, specs: Any) -> Any:
        try:
            return original_load(manager, specs)
        except UserError:
            raise
        except Exception as error:  # a module that a task's file names and that is not here, or two tasks of one name
            for spec in specs if isinstance(specs, list) else [specs]:
                _load_alone(original_load, manager, spec)
            raise UserError(f"lm-eval cannot build these tasks ({_reason(error)})", where="--tasks") from error

    with (
        mock.patch.object(ConfigurableTask, "__init__", build),
        mock.patch.object(TaskManager, "load", load),
    ):
        yield


def _load_alone(original_load: Any, manager: TaskManager, spec: Any) -> None:
    """Load one task or group, so that its error has its name."""
    try:
        original_load(manager, [spec])
    except UserError:
        raise
    except Exception as error:
        name = spec if isinstance(spec, str) else "--tasks"
        raise UserError(f"lm-eval cannot build this task ({_reason(error)})", where=name) from error


def _check_metrics(task: ConfigurableTask) -> None:
    """Raise UserError where a metric of texts is none that lm-eval has, and `evaluate` could not fetch it."""
    if task.OUTPUT_TYPE != "generate_until" or task.config.process_results is not None:
        return
    missing_names = [name for name, function in task._metric_fn_list.items() if function is None]
    if missing_names:
        raise UserError(
            f"the metric {join_names(missing_names, 4)} cannot be had",
            where=_name_of(task),
            hint="lm-eval has it by `evaluate.load`: from the hub, with the libraries that it needs",
        )


def _name_of(task: ConfigurableTask) -> str:
    config = getattr(task, "_config", None)
    return str(getattr(config, "task", None) or type(task).__name__)


def _hint_of_rows(task: ConfigurableTask) -> str | None:
    """The data set and the columns of its first split, where it was read."""
    data_set = getattr(task, "dataset", None)
    if not data_set:
        return None
    split = next(iter(data_set))
    columns = join_names(list(data_set[split].column_names), 12)
    return f"are the rows of {task.DATASET_PATH} of the task's own schema? '{split}' has the columns {columns}"


def _reason(error: Exception) -> str:
    text = re.sub(r" object at 0x[0-9a-f]+", "", one_line(error, 200))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
