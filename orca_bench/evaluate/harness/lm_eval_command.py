"""lm-eval's own command line with our model class in it: arguments in, lm-eval's work and files, or an error in one line.

lm_eval 0.4.13 has no plug-ins for models, so the class is put into its registry before its command line runs. Its task files are
remembered between commands, data sets may come from a folder, and what it raises over its arguments becomes a UserError. Its own
module because here alone lm-eval is the program and not a library.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn
from unittest import mock

import lm_eval.models  # noqa: F401  # first: the registry of models is filled only while it is empty
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import model_registry
from lm_eval.config.evaluate_config import EvaluatorConfig

from orca_bench import launcher_environment, library_settings
from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.harness.named_tasks import explained_rows, task_manager, unknown_task_error
from orca_bench.evaluate.harness.task_index import remember_task_files

MODEL_NAME = "orca-bench"
_MODEL_CLASS = "orca_bench.evaluate.harness.registered_model:OrcaBenchLM"
#: How the message begins with which lm_eval 0.4.13 refuses names of tasks (config/evaluate_config.py).
_UNKNOWN_TASKS = "Tasks not found: "


def register_model() -> None:
    """Let lm-eval find our class under MODEL_NAME."""
    if MODEL_NAME not in model_registry:
        model_registry.register(MODEL_NAME, target=_MODEL_CLASS)


def run_lm_eval(arguments: Sequence[str], benchmarks_folder: Path | None) -> None:
    """Run lm-eval's command line; the model is ours where the arguments name none.

    `benchmarks_folder` is looked into first for rows. Raises UserError for whatever lm-eval refuses.
    """
    if launcher_environment.world_size() > 1:
        raise UserError("lm-eval's command line runs in one process here", where="WORLD_SIZE")
    library_settings.prepare_libraries()
    register_model()
    words = _with_model(list(arguments))
    with (
        mock.patch.object(sys, "argv", ["orca-bench lm-eval", *words]),
        mock.patch.object(argparse.ArgumentParser, "error", _raise_usage_error),
        remember_task_files(),
        explained_rows(benchmarks_folder),
        _explained_errors(),
    ):
        cli_evaluate()


def _with_model(words: list[str]) -> list[str]:
    """The words with `--model orca-bench` where they evaluate and name no model."""
    if not words or words[0] in ("ls", "validate", "-h", "--help") or words == ["run"]:
        return words
    if any(word in ("--model", "-M") or word.startswith(("--model=", "-M=")) for word in words):
        return words
    config_file = next(
        (
            word.partition("=")[2] or (words[index + 1] if index + 1 < len(words) else "")
            for index, word in enumerate(words)
            if word in ("--config", "-C") or word.startswith("--config=")
        ),
        None,
    )
    if config_file is not None and _names_model(config_file):
        return words
    own_words = ["--model", MODEL_NAME]
    return ["run", *own_words, *words[1:]] if words[0] == "run" else [*own_words, *words]


def _names_model(config_file: str) -> bool:
    with _explained_errors():
        return "model" in EvaluatorConfig.load_yaml_config(config_file)


def _raise_usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise UserError(message, where=parser.prog, hint=f"{parser.prog} --help")


@contextlib.contextmanager
def _explained_errors() -> Iterator[None]:
    """Make of what lm-eval raises over its arguments, its tasks and their libraries a UserError in one line."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        message = str(error)
        if message.startswith(_UNKNOWN_TASKS):
            raise unknown_task_error(message.removeprefix(_UNKNOWN_TASKS).split(", ")[0], task_manager()) from error
        raise UserError(one_line(message), where="lm-eval") from error
    except (LookupError, AssertionError, NotImplementedError, ImportError, FileNotFoundError, TypeError) as error:
        reason = one_line(error.args[0] if isinstance(error, KeyError) and error.args else error)
        raise UserError(reason or type(error).__name__, where="lm-eval") from error
