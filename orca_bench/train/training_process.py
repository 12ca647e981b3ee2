"""One training process: a prepared run in, checkpoints and a model out, and in the run's outcome file how it ended.

A launcher starts it as `python -m orca_bench.train.training_process [--quiet] RUN`; with --quiet no steps are shown.
Where a launcher started the command itself, the command calls `train_in_this_process`.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orca_bench import child_processes, launcher_environment, library_settings, recipe_file, tokenizers
from orca_bench.disk_space import full_disk_message
from orca_bench.errors import UserError
from orca_bench.files import write_json
from orca_bench.train import memory_errors, rank_processes
from orca_bench.train.checkpoint_files import newest_checkpoint, newest_checkpoint_step
from orca_bench.train.divergence import Diverged, divergence_message
from orca_bench.train.peer_watch import Failure, PeerWatch
from orca_bench.train.run_folder import Run

if TYPE_CHECKING:
    from orca_bench.train.step_metrics import StepMetrics

_CAUSE_TIMEOUT_S = 3.0  # after an error of a collective, in which a lost process that caused it is known


def main() -> None:
    """Entry point of a launched process; exit code 0, 1 or 2."""
    child_processes.end_with_command()
    run = Run(Path(sys.argv[-1]))  # deepspeed's launcher puts --local_rank before it
    failure = train_in_this_process(run, "--quiet" not in sys.argv)
    child_processes.end_at_once(0 if failure is None else failure.exit_code)


def train_in_this_process(run: Run, shows_steps: bool = True, watch: PeerWatch | None = None) -> Failure | None:
    """Train the prepared run in this process; returns why it failed, or None. `shows_steps` prints each step's metrics.

    `watch` is over the other processes of a launcher that may be on other machines; it is closed.
    """
    with rank_processes.registered(run, launcher_environment.rank()):
        failure = _train_and_write_outcome(run, shows_steps, watch)
    if watch is not None:
        watch.close(failure)
    return failure


def _train_and_write_outcome(run: Run, shows_steps: bool, watch: PeerWatch | None) -> Failure | None:
    try:
        _write_outcome(run, _train_run(run, shows_steps))
        return None
    except UserError as error:
        return _write_failure(run, str(error), 2)
    except Diverged as error:  # on every process at once
        if watch is not None:  # so no process need tell the others
            watch.close()
        checkpoint = newest_checkpoint(run.checkpoints_folder)
        message = divergence_message(
            error.report, run.manifest["records"], None if checkpoint is None else str(checkpoint)
        )
        _write_outcome(run, "diverged", message, 1, diverged=error.report.entry())
        return Failure(message)
    except Exception as error:
        if memory_errors.is_memory_error(error):
            traceback.print_exc()
            recipe = recipe_file.read_recipe_file(run.recipe_file)
            return _write_failure(
                run, memory_errors.memory_error_message(error, recipe, launcher_environment.rank()), 2
            )
        if watch is not None and (others_failure := watch.wait_for_failure(_CAUSE_TIMEOUT_S)):
            return _write_failure(run, others_failure.message, others_failure.exit_code)
        traceback.print_exc()
        if disk_message := full_disk_message(run.folder):
            return _write_failure(run, disk_message, 2)
        return _write_failure(run, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", 1)


def _write_failure(run: Run, message: str, exit_code: int) -> Failure:
    _write_outcome(run, "failed", message, exit_code)
    return Failure(message, exit_code)


def _train_run(run: Run, shows_steps: bool) -> Literal["finished", "interrupted"]:
    from orca_bench.train import checkpoint_conversion, resolved_sources, student_model
    from orca_bench.train import deepspeed_engine as engines
    from orca_bench.train.batch_plan import BatchPlan
    from orca_bench.train.data_reports import report_for_models
    from orca_bench.train.held_out_loss import plan_held_out_loss
    from orca_bench.train.progress_display import training_progress
    from orca_bench.train.token_files import load_run_examples
    from orca_bench.train.trackers import Trackers, open_trackers
    from orca_bench.train.training_loop import Training, train_to_end

    library_settings.prepare_libraries()
    recipe, _ = resolved_sources.resolve_recipe_sources(
        recipe_file.read_recipe_file(run.recipe_file), run.manifest.get("commits", {})
    )
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer_source)
    if tokenizer.fingerprint != run.manifest.get("tokenizer_sha256", tokenizer.fingerprint):
        raise UserError(
            f"{socket.gethostname()} has another tokenizer there than the launcher's first process",
            where=tokenizer.source,
            hint="all machines need the same files",
        )
    run_examples = load_run_examples(run.tokens_folder, run.earlier_tokens_file)
    examples, model_config = run_examples.training, student_model.student_config(recipe, tokenizer)
    plan = BatchPlan.of_recipe(recipe, examples, model_config)
    held_out = plan_held_out_loss(recipe, run_examples.held_out, model_config)
    data_report = report_for_models(run)  # read now: at the end nothing may be wrong with it
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, library_settings.core_count() // launcher_environment.local_world_size()))
    is_first_rank = launcher_environment.rank() == 0
    # Before the engine starts, so that a server that cannot be reached is reported at once.
    with open_trackers(run, recipe) if is_first_rank else contextlib.nullcontext(Trackers()) as trackers:
        with contextlib.redirect_stdout(sys.stderr):  # deepspeed 0.19.8 prints what it compiles
            engine = engines.start_engine(recipe, tokenizer, checkpoint_conversion.is_converted(run.checkpoints_folder))
        progress_display: AbstractContextManager[Callable[[StepMetrics], None]] = (
            training_progress(recipe.name, plan.step_count, newest_checkpoint_step(run.checkpoints_folder))
            if shows_steps and is_first_rank
            else contextlib.nullcontext(lambda metrics: None)
        )
        with progress_display as report_metrics:
            training_status = train_to_end(
                Training(
                    run, recipe, engine, examples, plan, held_out, tokenizer, report_metrics, trackers, data_report
                )
            )
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return training_status


def _write_outcome(run: Run, status: str, message: str = "", exit_code: int = 0, **further_entries: Any) -> None:
    """Write how the training ended: the first failure counts; process 0 writes what all processes have in common."""
    if status == "failed":
        if run.outcome_file.exists():
            return
    elif launcher_environment.rank() != 0:
        return
    with contextlib.suppress(UserError):  # a full disk cannot take even this; the parent reads the exit code
        write_json(run.outcome_file, {"status": status, "message": message, "code": exit_code} | further_entries)


if __name__ == "__main__":
    main()
