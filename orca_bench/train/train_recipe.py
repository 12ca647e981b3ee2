"""A recipe in, a finished run out: whether there is anything to train, preparing it, and training it.

One call for what the command line and the Python interface do. Its own module because run_setup.py has the steps, and the
order of the steps, the launcher's other processes and the messages are a matter apart.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from orca_bench import child_processes, hub, launcher_environment, tokenizers
from orca_bench.cards import run_card
from orca_bench.counts import ReportProgress
from orca_bench.errors import Interrupted, UserError, check_choice
from orca_bench.files import catch_write_errors, read_json
from orca_bench.models.model_folder import METADATA_FILE_NAME
from orca_bench.recipe import Recipe
from orca_bench.train import (
    continuation_checks,
    data_reports,
    launcher_ranks,
    record_files,
    run_setup,
    step_metrics,
    student_model,
)
from orca_bench.train.checkpoint_files import newest_checkpoint_step
from orca_bench.train.data_reports import MakeDataReport
from orca_bench.train.launcher_ranks import LaunchedRanks
from orca_bench.train.run_folder import Run, whole_number
from orca_bench.train.run_setup import PreparedRun

#: The programs that start the processes of a training.
LAUNCHERS = ("torchrun", "deepspeed")


class TrainingDisplay(Protocol):
    """What a training reports while it runs. With `shows_steps` its first process prints each step's metrics."""

    shows_steps: bool

    def message(self, line: str) -> None:
        """A line for the person."""

    def encoding_progress(self) -> AbstractContextManager[ReportProgress]:
        """Records are encoded inside the block, and their progress is reported to what the block gets."""

    def record_check_progress(self) -> AbstractContextManager[ReportProgress]:
        """Records are compared with benchmarks inside the block, likewise."""

    def show_prepared_run(self, prepared: PreparedRun) -> None:
        """Everything is encoded; training begins next."""


class SilentTrainingDisplay:
    """A display without output."""

    shows_steps = False

    def message(self, line: str) -> None:
        """Ignore the event."""

    def encoding_progress(self) -> AbstractContextManager[ReportProgress]:
        """A block whose progress is not shown."""
        return nullcontext(lambda done_count, total: None)

    def record_check_progress(self) -> AbstractContextManager[ReportProgress]:
        """Another such block."""
        return self.encoding_progress()

    def show_prepared_run(self, prepared: PreparedRun) -> None:
        """Ignore the event."""


def train_recipe(
    recipe: Recipe,
    runs: Path,
    *,
    fresh: bool = False,
    launcher: str = "torchrun",
    display: TrainingDisplay = SilentTrainingDisplay(),
    make_data_report: MakeDataReport | None = None,
) -> Run:
    """Train a recipe in `runs`/NAME, or continue it; returns the finished run, also where it was finished before.

    `fresh` starts over and renames an earlier run; `launcher`, torchrun or deepspeed, starts the recipe's processes;
    `make_data_report` makes the report on the records where the recipe names benchmarks. Inside a launcher this process is one of
    them. Raises UserError for wrong input, Interrupted where the user stops the training (a
    checkpoint is written), and RuntimeError where it failed or diverged.
    """
    check_choice(launcher, LAUNCHERS, "--launcher")
    run = Run(runs / recipe.name)
    try:
        return _train_in_run(run, recipe, fresh, launcher, display, make_data_report)
    finally:
        run.unlock()  # who called from Python may train it again, whatever still refers to this Run


def _train_in_run(
    run: Run,
    recipe: Recipe,
    fresh: bool,
    launcher: str,
    display: TrainingDisplay,
    make_data_report: MakeDataReport | None,
) -> Run:
    if not launcher_environment.has_other_processes():
        return _prepare_and_train(run, recipe, fresh, launcher, display, make_data_report, None)
    child_processes.end_with_parent()
    with launcher_ranks.join_ranks(run, recipe, display.message) as ranks:
        return _prepare_and_train(run, recipe, fresh, launcher, display, make_data_report, ranks)


def _prepare_and_train(
    run: Run,
    recipe: Recipe,
    fresh: bool,
    launcher: str,
    display: TrainingDisplay,
    make_data_report: MakeDataReport | None,
    ranks: LaunchedRanks | None,
) -> Run:
    """Prepare the run in the first process, and train it in this one, which is one of `ranks`, or in those that it starts."""
    if launcher_environment.rank() == 0:
        _prepare_or_keep(recipe, run, fresh, display, make_data_report)
        if ranks is not None:
            ranks.announce_prepared_run(run)
    elif ranks is not None:
        ranks.wait_for_prepared_run(run)
    if run.status == "finished":
        return run
    start_s, watch = time.monotonic(), None if ranks is None else ranks.watch
    try:
        run_setup.launch_training(run, recipe, launcher, display.message, display.shows_steps, watch)
    except Interrupted as interruption:
        raise Interrupted(
            f"{interruption} (leave out --fresh, which starts over)" if fresh else str(interruption)
        ) from None
    if launcher_environment.rank() == 0:
        export_metadata = read_json(run.model / METADATA_FILE_NAME)
        if "example" in export_metadata:
            display.message(
                f"plain transformers still reads the exported tokenizer otherwise: {export_metadata['example']}"
            )
        display.message(f"trained: {run.model} ({_time_text(time.monotonic() - start_s, run.manifest['seconds'])})")
        _report_best_model(run, recipe, display)
        _write_card(run, display)
    return run


def _prepare_or_keep(
    recipe: Recipe, run: Run, fresh: bool, display: TrainingDisplay, make_data_report: MakeDataReport | None
) -> None:
    """Leave a run that is trained as it is, except for a report on its records; prepare any other."""
    if not fresh:
        recipe = run.recipe_to_continue(recipe)
    if fresh or not is_recipe_trained(run, recipe):
        _prepare(recipe, run, fresh, display, make_data_report)
        return
    continuation_checks.check_same_records(run, record_files.hash_sources(recipe.data.records))
    _add_data_report(recipe, run, display, make_data_report)
    display.message(f"already trained: {run.model} (--fresh trains again)")


def _report_best_model(run: Run, recipe: Recipe, display: TrainingDisplay) -> None:
    """Report the lowest held-out loss, and where the model of the lowest one since `keep_best` is."""
    metrics = step_metrics.read_metrics(run.metrics_file)
    lowest = step_metrics.lowest_held_out_loss(metrics)
    if lowest is None:
        return
    message = f"lowest held-out loss {lowest[0]:.4f} at step {lowest[1]:,}"
    base_loss = step_metrics.base_held_out_loss(metrics)
    message += "" if base_loss is None else f" (base {base_loss:.4f})"
    exported = step_metrics.exported_held_out_loss(metrics, run.best_model) if recipe.train.keep_best else None
    if exported is not None:
        is_lowest = exported[0] == lowest[0]
        message += "" if is_lowest else f"; {exported[0]:.4f} at step {exported[1]:,}, the lowest since train.keep_best"
        message += f": {run.best_model}"
    display.message(message)


def _write_card(run: Run, display: TrainingDisplay) -> None:
    """Write the model's first card; that it cannot be written is no reason to call the training failed."""
    try:
        card = run_card.write_first_card(run.folder)
    except UserError as error:
        display.message(f"no card was written: {error}")
        return
    if card is not None:
        display.message(f"card: {card} (without scores; orca-bench publish puts them in)")


def _time_text(seconds: float, seconds_of_all_calls: float) -> str:
    """The time of this call, and where the run was continued, that of all its calls."""
    own_text, all_text = f"{seconds:.0f} s", f"{seconds_of_all_calls:.0f} s"
    is_continued = seconds_of_all_calls > seconds + 1
    return f"{own_text}, {all_text} in all" if is_continued else own_text


def is_recipe_trained(run: Run, recipe: Recipe) -> bool:
    """Whether a run's folder holds a finished model of this recipe, in the number type that the recipe says."""
    is_finished = run.status == "finished" and run.model.is_dir() and run.has_recipe(recipe)
    return is_finished and _other_dtype_name(run, recipe) is None


def _other_dtype_name(run: Run, recipe: Recipe) -> str | None:
    """The type of the weights in the run's model folder where the recipe says another one; else None."""
    config_file = run.model / "config.json"
    config = read_json(config_file) if config_file.is_file() else None
    dtype_name = config.get("dtype") if isinstance(config, dict) else None
    is_other = isinstance(dtype_name, str) and dtype_name != student_model.export_dtype_name(recipe.train)
    return dtype_name if is_other else None


def _check_can_export_again(run: Run, dtype_name: str) -> None:
    """Raise UserError where the model is to be written in another type than `dtype_name`, which would need its training."""
    step_count = whole_number(run.readable_manifest.get("steps"))
    if step_count is None or newest_checkpoint_step(run.checkpoints_folder) < step_count:
        raise UserError(
            f"this model's weights are {dtype_name}, and no checkpoint is left from which they can be written in another type",
            where=run.model,
            hint="set train.export_dtype back, give the run another name (-o name=…), or train again with --fresh",
        )


def _move_model_to_exports(run: Run, dtype_name: str) -> Path:
    """Rename the model folder to exports/`dtype_name`, or to the first free name that begins so; returns that folder."""
    new_folder, suffix_number = run.exports_folder / dtype_name, 1
    while new_folder.exists():
        suffix_number += 1
        new_folder = run.exports_folder / f"{dtype_name}-{suffix_number}"
    with catch_write_errors(new_folder):
        run.exports_folder.mkdir(exist_ok=True)
        run.model.rename(new_folder)
    return new_folder


def _add_data_report(
    recipe: Recipe, run: Run, display: TrainingDisplay, make_data_report: MakeDataReport | None
) -> None:
    """Put the report that a recipe names now into a run that is finished."""
    if not data_reports.lacks_report(run, recipe):
        return
    report = data_reports.report_of_recipe(recipe, make_data_report)
    if report is not None:
        run.lock()
        data_reports.store_report(run, recipe, report)
        run.unlock()
        display.message(f"{data_reports.overlap_remark(report)} ({run.data_report_file})")


def _prepare(
    recipe: Recipe, run: Run, starts_over: bool, display: TrainingDisplay, make_data_report: MakeDataReport | None
) -> None:
    """Check, encode and lay out; what can be refused is refused before the minutes that encoding may take."""
    run_setup.check_machine(recipe)
    if starts_over:
        run.check_is_run()
    else:
        run.check_same_recipe(recipe)
    other_dtype_name = None if starts_over else _other_dtype_name(run, recipe)
    if other_dtype_name is not None:
        _check_can_export_again(run, other_dtype_name)
    if not run.is_empty:
        run.lock()
    data_report = None
    if starts_over or data_reports.lacks_report(run, recipe):
        data_report = data_reports.report_of_recipe(recipe, make_data_report)
    with display.encoding_progress() as report_encoded_records:
        known_commits = {} if starts_over else run.manifest.get("commits", {})
        prepared = run_setup.compute_prepared_run(
            recipe,
            report_encoded_records,
            None if starts_over else run.tokens_folder,  # of an earlier run, it is moved aside
            known_commits,
            display.message,
            substitute_folder=run.encoding_folder,
        )
    if starts_over and (renamed_folder := run.move_aside()):
        display.message(f"the run that was in {run.folder} is now in {renamed_folder}")
    is_continued = run_setup.prepare_run_folder(prepared, run, display.message)
    if data_report is not None:
        data_reports.store_report(run, recipe, data_report)
        display.message(f"{data_reports.overlap_remark(data_report)} ({run.data_report_file})")
    display.show_prepared_run(prepared)
    _report_tokenizer(prepared, display)
    if other_dtype_name is not None:
        display.message(f"the model in {other_dtype_name} is now in {_move_model_to_exports(run, other_dtype_name)}")
    if is_continued:
        steps_done = newest_checkpoint_step(run.checkpoints_folder)
        display.message(f"continuing from step {steps_done} of {prepared.plan.step_count}")


def _report_tokenizer(prepared: PreparedRun, display: TrainingDisplay) -> None:
    """Report where the tokenizer's folder disagrees with its SentencePiece model; the export is repaired."""
    disagreement = prepared.tokenizer_folder.tokenizer_disagreement
    if disagreement is not None:
        display.message(f"{prepared.recipe.model.tokenizer_source}: {tokenizers.explain_disagreement(disagreement)}")


def describe_training(recipe: Recipe, display: TrainingDisplay = SilentTrainingDisplay()) -> PreparedRun:
    """What training this recipe would take; trains nothing, writes nothing but tokens to the cache, and fetches no weights.

    Raises UserError for wrong input, and UnreachableSource where a part of the recipe is on a hub that cannot be reached.
    """
    if recipe.data.report is not None:
        data_reports.report_of_recipe(recipe, None)
    try:
        with display.encoding_progress() as progress:
            return run_setup.compute_prepared_run(recipe, progress, show_message=display.message, with_weights=False)
    except UserError as error:
        if _needs_hub(recipe):
            raise UnreachableSource(error) from error
        raise


class UnreachableSource(Exception):
    """A recipe names something on the hub, and the hub does not give it; `str()` says why."""


def _needs_hub(recipe: Recipe) -> bool:
    """Whether a recipe names something that is not here and may be on the hub."""
    source_names = [*recipe.data.records, recipe.model.base, recipe.model.tokenizer]
    return any(name and not Path(name).exists() and hub.is_hub_id(name.partition("@")[0]) for name in source_names)


def write_untrained_model(recipe: Recipe, runs: Path) -> Path:
    """Write the model that training starts from into `runs`/NAME-untrained/model; returns that folder.

    Raises UserError where the recipe does not start from random weights.
    """
    if recipe.model.random is None:
        raise UserError("this needs a recipe that starts from random weights", where="model.random")
    folder = runs / f"{recipe.name}-untrained" / "model"
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer_source)
    model = student_model.build_random_model(student_model.student_config(recipe, tokenizer), recipe.train.seed)
    student_model.save_model(model, tokenizer, folder, {"run": recipe.name, "step": 0})
    return folder
