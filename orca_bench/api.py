"""The public Python interface: train a recipe, evaluate a model, read a result, compare two, and tabulate some.

    from orca_bench import api

    run = api.train("mini")
    results = api.evaluate(run.model, benchmarks="mini:")
    for line in api.table(results.values()).lines:
        print(line.title, line.reported, line.scores[0].value)

Every function does what the command of that name does, and the commands call these functions. Nothing is printed, unless a
display is given. Heavy libraries are imported when a function needs them, so that importing this module is instant. Each
function raises `orca_bench.errors.UserError`, one line, for wrong input. The line names an argument by the command's option:
`--system`, and `--max-time` for `max_seconds`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.question_limit import Limit

if TYPE_CHECKING:
    from orca_bench import hub
    from orca_bench.evaluate.display import Display
    from orca_bench.evaluate.engine_config import EngineConfig
    from orca_bench.recipe import Recipe
    from orca_bench.report.comparison import Comparison
    from orca_bench.report.score_table import ScoreTable
    from orca_bench.results.data_report import DataReport
    from orca_bench.results.reading import ResultFile
    from orca_bench.train.run_folder import Run
    from orca_bench.train.train_recipe import TrainingDisplay

#: Where runs and results go unless said otherwise.
DEFAULT_RUNS_FOLDER = Path("runs")


def load_recipe(
    path: str | Path, overrides: str | Sequence[str] = (), runs: str | Path = DEFAULT_RUNS_FOLDER
) -> Recipe:
    """Read a recipe file, or a shipped recipe by its name; `overrides` are `section.key=value`, several or one text.

    Files of the embedded default that it names (`mini:…`) are written below `runs`. Raises UserError with file and line.
    """
    from orca_bench import mini, recipe_file

    return mini.resolve_recipe(recipe_file.read_recipe_file(path, _text_list(overrides)), Path(runs), where=path)


def train(
    recipe: str | Path | Recipe,
    overrides: str | Sequence[str] = (),
    runs: str | Path = DEFAULT_RUNS_FOLDER,
    *,
    fresh: bool = False,
    launcher: str = "torchrun",
    display: TrainingDisplay | None = None,
) -> Run:
    """Train a recipe in `runs`/NAME and return the run; its model folder is `.model`. A finished run is returned as it is.

    An interrupted run continues. `fresh` starts over and renames the earlier run. `launcher` is torchrun or deepspeed. Where the
    recipe names benchmarks, its records are compared with them first, as by `orca-bench data check`. Raises
    Interrupted where the user stops the training and RuntimeError where it failed or diverged.
    """
    from orca_bench.train import train_recipe

    loaded_recipe = load_recipe(recipe, overrides, runs) if isinstance(recipe, str | Path) else recipe
    display = display or train_recipe.SilentTrainingDisplay()
    return train_recipe.train_recipe(
        loaded_recipe,
        Path(runs),
        fresh=fresh,
        launcher=launcher,
        display=display,
        make_data_report=functools.partial(compare_records_with_benchmarks, loaded_recipe, display),
    )


def compare_records_with_benchmarks(recipe: Recipe, display: TrainingDisplay) -> DataReport:
    """The report of `orca-bench data check` on a recipe's records, with the benchmarks that it names."""
    from orca_bench.data.record_check import check_records
    from orca_bench.evaluate.benchmark_questions import load_benchmark_questions

    questions = load_benchmark_questions(Path(str(recipe.data.benchmarks)), show_message=display.message)
    with display.record_check_progress() as report_progress:
        return check_records([Path(name) for name in recipe.data.records], questions, report_progress=report_progress)


def evaluate(
    model: str | Path | None = None,
    runs: str | Path = DEFAULT_RUNS_FOLDER,
    *,
    tasks: str | Sequence[str] = "all",
    protocol: str = "orca",
    system: str | int | None = None,
    few_shot: str | None = None,
    benchmarks: str | Path | None = None,
    benchmarks_revisions: str | Sequence[str] = (),
    limit: Limit = None,
    max_new_tokens: str | Sequence[str] = (),
    engine: EngineConfig | None = None,
    dtype: str = "auto",
    revision: str | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    max_seconds: float | None = None,
    data_report: str | Path | None = None,
    log_samples: str | Path | None = None,
    display: Display | None = None,
) -> dict[str, ResultFile]:
    """Evaluate a model folder, GGUF file, hub id or run (by default the newest finished run); returns the results by protocol.

    `tasks` is `all`, a comma-separated list or a sequence of names; `protocol` is orca, leaderboard, chat, plain, or both
    (leaderboard and orca). `system` is a system message, as an id of the Orca paper or a text; None is the protocol's own choice:
    message 5 under orca, none under chat. `few_shot`, under chat, is turns or one-turn. `benchmarks` is a folder of rows, `mini:`
    for the embedded suite, None for the hub, with `benchmarks_revisions` (`REV` or `TASK=REV`). `limit` is the most questions
    of each task (of each MMLU subject), a number or numbers by task; `max_new_tokens` (`TASK=N`) is the most tokens of a task's
    answers. `engine` is `evaluate.config_building.engine_config(…)`, by default this program's own. Each result is written to a
    file, `out` or one below `runs`, task by task, and answers are stored, so that the same call continues after a stop.
    `data_report`, a file of `orca-bench data check` or `none`, marks the questions that are in the training records; by default
    it is that of the model's folder. `log_samples` is a folder for lm-eval's own files of results and samples; empty means one
    beside the result.
    Raises Interrupted where the user or `max_seconds` stops it. In the other processes of a launcher the
    returned mapping is empty.
    """
    from orca_bench import mini
    from orca_bench.evaluate import config_building, evaluation
    from orca_bench.evaluate.display import SilentDisplay

    display, runs, tasks = display or SilentDisplay(), Path(runs), ",".join(_text_list(tasks))
    config = config_building.evaluation_config(
        select_model(model, runs, display.message),
        runs,
        tasks=tasks,
        protocol=protocol,
        system=system,
        few_shot=few_shot,
        benchmarks=mini.resolve_benchmarks(None if benchmarks is None else Path(benchmarks), runs),
        benchmarks_revisions=_text_list(benchmarks_revisions),
        limit=limit,
        max_new_tokens=_text_list(max_new_tokens),
        engine=engine,
        dtype=dtype,
        revision=revision,
        name=name,
        out=None if out is None else Path(out),
        fresh=fresh,
        max_seconds=max_seconds,
        data_report=data_report,
        log_samples=log_samples,
        show_message=display.message,
    )
    protocols = evaluation.evaluate(config, display)
    return {protocol: load_result(config.result_paths_by_protocol[protocol]) for protocol in protocols}


def load_result(
    path_or_name: str | Path, label: str | None = None, runs: str | Path = DEFAULT_RUNS_FOLDER
) -> ResultFile:
    """Read a result file, with its questions where their file is beside it; `label` heads it in tables.

    A run below `runs` (`mini`), one of its results (`mini/orca`) or a folder with one result may be named instead of a file;
    a Path is never a run's name. The default label is the model's name. Raises UserError where nothing or several results are
    named, where the file is no result, and where the questions are not its own.
    """
    from orca_bench.results import reading
    from orca_bench.results.result_lookup import look_up_results, single_result

    path = single_result(look_up_results(path_or_name, Path(runs)), Path(runs))
    if reading.has_questions(path):
        return reading.read_with_questions(path, label)
    result = reading.read_result(path)
    return reading.ResultFile(path, label or result.model.name, result)


def compare(
    base: ResultFile, *other_results: ResultFile, reported: str | None = None, clean: bool = False
) -> list[Comparison]:
    """Each of the others against the base, task by task: paired differences, intervals, tests and a verdict.

    The tests of one call are corrected together (Holm). A result without its questions is compared by its scores, which is
    unpaired and weaker. With `reported`, a name such as orca_mini_13b or a JSON file, the base
    is compared with reported scores too; that comparison is unpaired and weaker. With `clean`, questions that overlap with the
    training records of either result are left out. Raises UserError where there is nothing to compare the base with, where two
    results have no task in common, and where `clean` is wanted and no result says which questions overlap.
    """
    if not other_results and reported is None:
        raise UserError("nothing to compare with", where="OTHERS", hint="give another result, or `reported`")

    from orca_bench.report import comparison
    from orca_bench.report.reported_comparison import compare_results, compare_with_reported
    from orca_bench.report.reported_scores import read_reported_scores

    comparisons = compare_results(base, other_results, clean)
    if reported is None:
        return comparisons
    with_reported = compare_with_reported(base, read_reported_scores(reported), clean, not other_results)
    return comparison.correct_together([*comparisons, with_reported])


def table(results: Iterable[ResultFile], reported: str = "orca_mini_13b") -> ScoreTable:
    """Results, each headed by its label, beside reported scores: a line for each task and mean, in percent.

    Its `conclusion` says what the results show. `reported` is a name, a JSON file, or `none`.
    `orca_bench.report.score_table_formats` writes the table as Markdown, CSV or JSON.
    """
    from orca_bench.report.conclusions import scores_sentence
    from orca_bench.report.reported_scores import find_reported_scores
    from orca_bench.report.score_table import build_score_table

    files, reported_scores = list(results), find_reported_scores(reported)
    sentence = scores_sentence(files, reported_scores)
    return build_score_table([(file.label, file.result) for file in files], reported_scores, sentence)


def newest_model(runs: str | Path = DEFAULT_RUNS_FOLDER) -> Path:
    """The model folder of the run below `runs` that finished last; raises UserError where there is none."""
    from orca_bench.train.run_folder import newest_finished_run

    run = newest_finished_run(Path(runs))
    if run is None:
        raise UserError(f"no finished run in {runs}", where="--model", hint="train one, or name a model folder")
    return run.model


def newest_result(runs: str | Path = DEFAULT_RUNS_FOLDER) -> Path:
    """The result file below `runs` that was written last; raises UserError where there is none."""
    from orca_bench.results import result_lookup

    return result_lookup.newest_result(Path(runs))


def select_model(model: str | Path | None, runs: str | Path, show_message: hub.ShowMessage) -> str:
    """The folder, GGUF file or hub id of the model that is named, or of the newest; `show_message` gets a line that says which.

    Of a launcher's processes, the first one says it for all. Raises UserError where there is none.
    """
    from orca_bench import launcher_environment
    from orca_bench.models.model_lookup import look_up_model

    if model is None:
        folder_or_id = str(newest_model(runs))
        line: str | None = f"model: {folder_or_id} (the newest finished run)"
    else:
        named_model = look_up_model(model, Path(runs))
        folder_or_id = named_model.folder_or_id
        line = None if named_model.note is None else f"note: {named_model.note}"
    if line is not None and launcher_environment.rank() == 0:
        show_message(line)
    return folder_or_id


def _text_list(text_or_texts: str | Sequence[str]) -> list[str]:
    """Several texts, or one as a list of itself."""
    return [text_or_texts] if isinstance(text_or_texts, str) else list(text_or_texts)
