"""A finished output and the command that should have written it in; out, what its own records say against that.

A run's manifest has the hashes of its records, a result the identity of its model, its protocol, limit and rows, a report of
`data check` the hashes of the files, an imported folder that of its file. So work that was done by hand counts. Its own module
because this alone reads what orca-bench's commands write. The first look at a result reads the model's weights: some seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from content_hashes import is_run
from stage_list import CommandLine

from orca_bench import api
from orca_bench.cli.main import cli
from orca_bench.errors import UserError
from orca_bench.files import file_sha256, read_json
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.models import Result
from orca_bench.results.reading import is_result_file, questions_path_for, read_result


def unfinished_reason(path: Path) -> str | None:
    """Why an output that is there is not whole: a run that has not ended, a result without all tasks; None where it is whole."""
    if path.is_dir() and is_run(path):
        from orca_bench.train.run_folder import Run

        run = Run(path)
        status = run.readable_manifest.get("status")
        return None if status == "finished" and run.model.is_dir() else f"{path} is {status or 'not readable'}"
    if path.suffix == ".json" and is_result_file(path):
        result = read_result(path)
        missing = ", ".join(result.missing_task_names)
        return None if result.complete else f"{path} lacks {missing}"
    return None


def is_recorded(command: CommandLine, path: Path) -> bool:
    """Whether an output of this command says itself what it was made from, so that `recorded_difference` can tell."""
    return _reader_of(command) is not None and (path.is_dir() or path.suffix == ".json" or _is_questions_file(path))


def records_input(command: CommandLine, needed: Path) -> bool:
    """Whether the outputs of this command record that input too: a run does not record the weights that it began with."""
    is_model = (needed / "config.json").is_file()
    return not (command.words[1] == "train" and is_model)


def recorded_difference(command: CommandLine, path: Path) -> str | None:
    """What an output's own records say against its being the output of this command with today's inputs; None for nothing.

    `path` is one for which `is_recorded` holds. Raises UserError where the command's own files cannot be read.
    """
    reader = _reader_of(command)
    assert reader is not None, "only for outputs that are recorded"
    if _is_questions_file(path):
        path = path.with_name(path.name.removesuffix(".questions.jsonl") + ".json")
    try:
        return reader(command_parameters(command), path)
    except UserError as error:
        return str(error)


def _is_questions_file(path: Path) -> bool:
    return path.name.endswith(".questions.jsonl")


def _reader_of(command: CommandLine) -> Any:
    """The function that reads what the outputs of a command record; None where they record nothing."""
    if command.words[0] != "orca-bench" or len(command.words) < 2:
        return None
    return {
        "import": _imported_difference,
        "train": _run_difference,
        "eval": _result_difference,
    }.get(command.words[1])


def command_parameters(command: CommandLine) -> Mapping[str, Any]:
    """The values of a command's arguments and options, as its command line gives them; raises UserError for wrong ones."""
    subcommand: click.Command | None = cli
    words = list(command.words[1:])
    while isinstance(subcommand, click.Group) and words:
        subcommand = subcommand.get_command(click.Context(subcommand), words.pop(0))
    if subcommand is None:
        raise UserError("no such command", where=str(command))
    try:
        return subcommand.make_context(subcommand.name, words).params
    except click.ClickException as error:
        raise UserError(error.format_message(), where=str(command)) from None


def _imported_difference(parameters: Mapping[str, Any], folder: Path) -> str | None:
    from orca_bench.models.gguf.gguf_import import read_gguf, stored_sha256

    model = read_gguf(parameters["gguf_file"], parameters["dtype"])
    if stored_sha256(folder) != model.describe()["sha256"]:
        return f"{folder} was imported from another file than {parameters['gguf_file']}"
    dtype = read_json(folder / "config.json").get("dtype")
    return None if dtype == model.dtype else f"{folder} has weights of type {dtype}, not {model.dtype}"


def _run_difference(parameters: Mapping[str, Any], folder: Path) -> str | None:
    from orca_bench.train.continuation_checks import check_same_records
    from orca_bench.train.record_files import hash_sources
    from orca_bench.train.run_folder import Run
    from orca_bench.train.train_recipe import is_recipe_trained

    recipe = api.load_recipe(parameters["recipe"], parameters["overrides"], parameters["runs"])
    run = Run(folder)
    if not is_recipe_trained(run, recipe):
        return f"{folder} is a run of another recipe than {parameters['recipe']}"
    check_same_records(run, hash_sources(recipe.data.records))
    return None


def _result_difference(parameters: Mapping[str, Any], path: Path) -> str | None:
    result = read_result(path)
    questions_path = questions_path_for(path)
    if not is_unchanged_since_writing(result):
        return f"{path} was changed after it was written"
    if not questions_path.is_file() or file_sha256(questions_path) != result.questions_sha256:
        return f"{questions_path} is not the file that belongs to {path}"
    if parameters["benchmarks"] is not None and (difference := _row_difference(result, parameters["benchmarks"])):
        return f"{path} {difference}"
    difference = _setting_difference(parameters, result) or _model_difference(parameters, result)
    return None if difference is None else f"{path} is of {difference}"


def _setting_difference(parameters: Mapping[str, Any], result: Result) -> str | None:
    from orca_bench.evaluate.tasks import select
    from orca_bench.question_limit import limit_from_json

    names = ("leaderboard", "orca") if parameters["protocol"] == "both" else (parameters["protocol"],)
    task_names = [task.name for task in select(parameters["tasks"])]
    limit = limit_from_json(parameters["limit"])
    if result.protocol.name not in names:
        return f"protocol {result.protocol.name}, not {parameters['protocol']}"
    if missing_names := [name for name in task_names if name not in result.tasks]:
        return f"fewer tasks: {', '.join(missing_names)} is missing"
    other_limits = [name for name in task_names if limit.of_task(name) != result.question_limit.of_task(name)]
    return f"another number of questions of {', '.join(other_limits)}" if other_limits else None


def _row_difference(result: Result, benchmarks: Path) -> str | None:
    hash_by_split = _row_hashes(benchmarks)
    other_names = [
        name
        for name, hashes in result.data_hashes.items()
        if any(hash_by_split.get((name, split)) != row_hash for split, row_hash in hashes.items())
    ]
    return f"has other rows of {', '.join(other_names)} than {benchmarks}" if other_names else None


@functools.cache
def _row_hashes(benchmarks: Path) -> dict[tuple[str, str], str | None]:
    from orca_bench import mini
    from orca_bench.evaluate.benchmark_rows import survey_splits

    folder = mini.resolve_benchmarks(benchmarks, api.DEFAULT_RUNS_FOLDER)
    assert folder is not None, "only None becomes None"
    return {(split.task_name, split.split): split.sha256 for split in survey_splits(folder)}


def _model_difference(parameters: Mapping[str, Any], result: Result) -> str | None:
    folder_or_id = api.select_model(parameters["model"], parameters["runs"], lambda line: None)
    differing_parts = _folder_identity(folder_or_id).differing_parts(result.model)
    return f"a model with another {', '.join(differing_parts)}" if differing_parts else None


@functools.cache
def _folder_identity(folder_or_id: str) -> Any:
    from orca_bench.evaluate.result_models import FolderIdentity
    from orca_bench.models.model_folder import locate_model

    return FolderIdentity(locate_model(folder_or_id))
