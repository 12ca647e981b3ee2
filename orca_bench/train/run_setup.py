"""A recipe in, a trained run out: everything is checked and encoded first, then the training processes start.

Errors in the input are raised here, before any process or GPU is started. The tokens are encoded once, and every process
reads them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import child_processes, hub, launcher_environment, library_settings
from orca_bench.child_processes import find_free_port
from orca_bench.counts import ReportProgress
from orca_bench.disk_space import full_disk_message
from orca_bench.errors import Interrupted, UserError
from orca_bench.files import read_json
from orca_bench.models import architecture
from orca_bench.models.model_folder import ModelFolder
from orca_bench.recipe import Recipe
from orca_bench.train import (
    checkpoint_conversion,
    continuation_checks,
    curves,
    example_encoding,
    example_preparation,
    lora,
    lora_targets,
    memory_errors,
    record_files,
    resolved_sources,
    student_model,
    trackers,
)
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.checkpoint_files import newest_checkpoint
from orca_bench.train.example_encoding import EncodedExamples, EncodingReport
from orca_bench.train.example_preparation import PreparedExamples
from orca_bench.train.memory_estimate import MemoryEstimate, estimate_memory, longest_row
from orca_bench.train.model_shape import ModelShape
from orca_bench.train.peer_watch import PeerWatch
from orca_bench.train.rank_processes import LostRank, RankProcesses
from orca_bench.train.run_folder import Run, environment_entries
from orca_bench.train.training_process import train_in_this_process

if TYPE_CHECKING:
    from transformers import PretrainedConfig


_POLL_INTERVAL_S = 0.05
_LOST_RANK_TIMEOUT_S = 10.0  # after which the training is ended where one of its processes was killed


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """What is known of a run before it trains.

    `recipe` is as it was read; `tokenizer_folder` is where its tokenizer lies on this machine, and `commit_by_key` are the
    commits of what came from the hub. `sources` are the records' files; `examples` are those that are trained on, and
    `prepared_examples` all of them with those held out; `shape` is that of the student; `memory_estimate` is an estimate per
    process; `has_quantized_base` says that LoRA would be refused.
    """

    recipe: Recipe
    tokenizer_folder: ModelFolder
    commit_by_key: dict[str, str]
    sources: list[record_files.RecordSource]
    examples: EncodedExamples
    prepared_examples: PreparedExamples
    plan: BatchPlan
    shape: ModelShape
    memory_estimate: MemoryEstimate
    has_quantized_base: bool = False

    @property
    def parameter_count(self) -> int:
        """The size of the student."""
        return self.shape.parameter_count

    @property
    def trained_parameter_count(self) -> int:
        """How many weights are trained: all of the student, or those of LoRA, which are none of the student's."""
        return self.shape.trained_parameter_count(self.recipe.train)

    @property
    def encoding_report(self) -> EncodingReport:
        """What the cut at `data.max_length` did."""
        return self.prepared_examples.stored.report


def compute_prepared_run(
    recipe: Recipe,
    report_encoded_records: ReportProgress = lambda record_count, total: None,
    run_tokens_folder: Path | None = None,
    known_commit_by_key: Mapping[str, str] | None = None,
    show_message: hub.ShowMessage = lambda line: None,
    with_weights: bool = True,
    substitute_folder: Path | None = None,
) -> PreparedRun:
    """Read and encode everything that the recipe names, and compute what training would take.

    Writes nothing but tokens to the user's cache, or to `substitute_folder` if that cannot be written (without one to a temporary
    folder). `report_encoded_records(record_count, total)` counts records. `known_commit_by_key` are those of the hub that a run
    has already (`resolved_sources.resolve_recipe_sources`). Without weights a base of the hub is not fetched as a whole. Tokens
    of the same texts, tokenizer and cut are read from the cache, or from `run_tokens_folder`.

    Raises UserError for all that is wrong with the recipe's input.
    """
    records = record_files.RecordReader(recipe.data.records, recipe.data.strict, known_commit_by_key)
    digest = example_encoding.records_digest(records)
    resolved_recipe, commit_by_key = resolved_sources.resolve_recipe_sources(
        recipe, known_commit_by_key or {}, show_message, with_weights
    )
    model = resolved_recipe.model
    if recipe.train.lora is not None:
        lora_targets.check_base(recipe, ModelFolder(str(model.base)), show_message)
    if model.base is not None and (with_weights or "model.base" not in commit_by_key):
        ModelFolder(model.base).check_model()
    tokenizer_folder = ModelFolder(model.tokenizer_source)
    tokenizer = tokenizer_folder.tokenizer
    model_config = student_model.student_config(resolved_recipe, tokenizer)
    architecture.check_vocabulary(
        tokenizer, model_config.vocab_size, model.tokenizer_source, "use the model's own tokenizer"
    )
    _check_examples_fit_window(recipe, model_config)
    shape = ModelShape.of_config(model_config)
    if recipe.train.lora is not None:
        lora_targets.check_targets(recipe.train.lora, shape.linear_layers)
    prepared_examples = example_preparation.prepare_examples(
        recipe, records, digest, tokenizer, report_encoded_records, show_message, run_tokens_folder, substitute_folder
    )
    examples = prepared_examples.training
    row_length = longest_row(recipe.train, int(examples.lengths.max()), recipe.data.max_length)
    commit_by_key |= {source.name: source.commit for source in records.sources if source.commit is not None}
    plan = BatchPlan.of_recipe(recipe, examples, model_config)
    return PreparedRun(
        recipe,
        tokenizer_folder,
        commit_by_key,
        records.sources,
        examples,
        prepared_examples,
        plan,
        shape,
        estimate_memory(shape, recipe.train, row_length),
        has_quantized_base=model.base is not None and lora_targets.is_quantized(ModelFolder(model.base)),
    )


def _check_examples_fit_window(recipe: Recipe, model_config: PretrainedConfig) -> None:
    """Raise UserError where examples may be longer than the model's context window."""
    context_window_tokens, max_length = architecture.configured_window_tokens(model_config), recipe.data.max_length
    if context_window_tokens is not None and max_length > context_window_tokens:
        raise UserError(
            f"examples of up to {max_length} tokens do not fit the model's context window of {context_window_tokens} tokens",
            where="data.max_length",
            hint=f"set data.max_length to {context_window_tokens} or less",
        )


def prepare_run_folder(prepared: PreparedRun, run: Run, show_message: hub.ShowMessage = lambda line: None) -> bool:
    """Lay out the run's folder and lock it; True where it continues an interrupted run.

    The checkpoint that it continues from is converted where another number of processes wrote it. Raises UserError where the
    folder cannot be written, another process trains this run, the folder holds a run of another recipe, other records or another
    tokenizer, or the checkpoint cannot be converted. Recipe, tokens and manifest of the run are then as they were.
    """
    recipe = prepared.recipe
    is_continued = run.open_for_training(recipe, show_message)
    tokenizer = prepared.tokenizer_folder.tokenizer
    if is_continued:
        continuation_checks.check_same_input(run, tokenizer, prepared.sources, prepared.prepared_examples)
        checkpoint_conversion.convert_newest(
            run.checkpoints_folder,
            recipe.train.processes,
            run.log_file,
            run.process_purpose,
            _launch_environment(),
            show_message,
        )
    prepared.prepared_examples.link_to(run.tokens_folder)
    run.write_recipe(recipe, is_continued, show_message)
    shutil.rmtree(run.encoding_folder, ignore_errors=True)
    run.earlier_tokens_file.unlink(missing_ok=True)
    run.update_manifest(
        status="prepared",
        name=recipe.name,
        **environment_entries(() if recipe.train.lora is None else (lora.PACKAGE_NAME,)),
        tokenizer_sha256=tokenizer.fingerprint,
        commits=prepared.commit_by_key,
        records=[dataclasses.asdict(source) for source in prepared.sources],
        examples=len(prepared.examples),
        cut=prepared.encoding_report.truncated_count,
        dropped=len(prepared.encoding_report.dropped_record_indices),
        held_out=len(prepared.prepared_examples.split.held_out),
        held_out_duplicates=prepared.prepared_examples.split.duplicate_count,
        tokens=int(prepared.examples.lengths.sum()),
        trained_tokens=int(prepared.examples.trained_token_counts.sum()),
        steps=prepared.plan.step_count,
        parameters=prepared.parameter_count,
        trained_parameters=prepared.trained_parameter_count,
    )
    return is_continued


def check_machine(recipe: Recipe) -> None:
    """Raise UserError for what training would refuse after its start: a tracker's package that is not installed, a precision
    that this machine does not have, more processes than GPUs, LoRA without peft.
    """
    import torch

    train = recipe.train
    trackers.check_packages(train.trackers)
    lora.check_package(train.lora)
    if not torch.cuda.is_available():
        if train.precision == "fp16":
            raise UserError("DeepSpeed has no fp16 on a CPU", where="train.precision", hint="set it to bf16 or fp32")
        return
    if train.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("this GPU has no bf16", where="train.precision", hint="set it to fp16 or fp32")
    gpu_count = torch.cuda.device_count()
    if train.processes > gpu_count and not launcher_environment.is_launched():
        raise UserError(
            f"{train.processes} processes and {gpu_count} GPUs on this machine",
            where="train.processes",
            hint="start the command under torchrun on several machines, or set train.processes and a batch that fits",
        )


def launch_training(
    run: Run,
    recipe: Recipe,
    launcher: str = "torchrun",
    show_message: hub.ShowMessage = lambda line: None,
    shows_steps: bool = False,
    watch: PeerWatch | None = None,
) -> None:
    """Train a prepared run to its end, in as many processes as the recipe says.

    `shows_steps` prints each step's metrics. Inside a launcher (torchrun, deepspeed) this process is one of them, and `watch` is
    over the others; else one is started. Raises Interrupted when the user stopped it (a checkpoint is written first) and
    UserError or RuntimeError when it failed.
    """
    if launcher_environment.rank() != 0:  # one of a launcher's processes: the first one keeps the run's folder
        if failure := train_in_this_process(run, watch=watch):
            raise failure.error()
        return
    run.stop_file.unlink(missing_ok=True)
    run.outcome_file.unlink(missing_ok=True)
    start_s, lost_rank = time.time(), None
    if launcher_environment.is_launched():
        failure = train_in_this_process(run, shows_steps, watch)
        exit_code = 0 if failure is None else failure.exit_code
    else:
        processes = RankProcesses(run, recipe.train.processes)
        exit_code = _start_launcher(run, _launch_command(run, recipe, launcher, shows_steps), processes, show_message)
        processes.remove_files()
        if exit_code > 0:  # a launcher that is killed itself takes all of them with it
            lost_rank = processes.lost_rank
    outcome_entry = read_json(run.outcome_file) if run.outcome_file.is_file() else {}
    # The others report with code 1 that it is gone; an error of the user (2) is no consequence of that.
    if lost_rank is not None and outcome_entry.get("status", "failed") == "failed" and outcome_entry.get("code") != 2:
        outcome_entry = {"status": "failed", "message": _lost_rank_message(lost_rank, run, recipe)}
    if (
        exit_code and not outcome_entry and (disk_message := full_disk_message(run.folder))
    ):  # not even the outcome could be written
        outcome_entry = {"status": "failed", "message": disk_message, "code": 2}
    if not launcher_environment.is_launched():
        run.remove_unfinished_files()  # a half-written checkpoint may be what has filled the disk
    status = outcome_entry.get("status", "failed")
    total_seconds = run.manifest.get("seconds", 0) + time.time() - start_s
    run.update_manifest(
        status=status,
        seconds=round(total_seconds, 1),
        finished=time.time() if status == "finished" else None,
        diverged=outcome_entry.get("diverged"),
    )
    run.outcome_file.unlink(missing_ok=True)
    run.stop_file.unlink(missing_ok=True)
    curves.draw_curves(run.metrics_file, run.curves_file, recipe.name, show_message)
    if status == "interrupted":
        raise Interrupted(f"stopped; the checkpoint is in {run.checkpoints_folder}, the same command continues from it")
    if status == "diverged":
        raise RuntimeError(outcome_entry["message"])
    if status == "failed":
        failure_reason = outcome_entry.get("message") or _exit_message(exit_code)
        if outcome_entry.get("code") == 2:
            raise UserError(failure_reason)
        raise RuntimeError(f"{failure_reason} (see the libraries' own messages in {run.log_file})")


def _exit_message(exit_code: int) -> str:
    if exit_code < 0:
        return f"{signal.Signals(-exit_code).name} ended the launcher and with it the training processes"
    return f"a training process ended with exit code {exit_code}"


def _lost_rank_message(lost_rank: LostRank, run: Run, recipe: Recipe) -> str:
    return (
        f"rank {lost_rank.rank} (process {lost_rank.process_id}) was killed; the same command {_continuation_text(run)}; the "
        f"system kills processes where the memory is full: then {memory_errors.less_memory_advice(recipe)}"
    )


def _continuation_text(run: Run) -> str:
    newest_path = newest_checkpoint(run.checkpoints_folder)
    return f"continues from {newest_path}" if newest_path else "starts over: there is no checkpoint yet"


def _start_launcher(
    run: Run, launcher_command: list[str], processes: RankProcesses, show_message: hub.ShowMessage
) -> int:
    """Start the launcher by its command and wait for it; returns its exit code. None of its processes is left afterwards.

    It has a session of its own, so that Ctrl-C reaches this process alone, which then makes it stop after the step.
    Where a training process is killed, the others get some seconds to end. Raises Interrupted where the user presses Ctrl-C
    again.
    """
    with (
        open(run.log_file, "ab") as log_file,
        child_processes.Lifeline(run.process_purpose) as lifeline,
        _sigterm_as_ctrl_c(),
    ):
        environment_variables = _launch_environment() | lifeline.environment
        launcher_process = subprocess.Popen(
            launcher_command, stderr=log_file, start_new_session=True, env=environment_variables
        )
        try:
            return _wait_for_exit(launcher_process, processes)
        except KeyboardInterrupt:
            run.stop_file.touch()
        try:
            show_message("stopping after this step and writing a checkpoint; Ctrl-C again to stop at once")
            return _wait_for_exit(launcher_process, processes)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped at once; the same command {_continuation_text(run)}") from None


def _wait_for_exit(launcher_process: subprocess.Popen[bytes], processes: RankProcesses) -> int:
    """The exit code, when there is one. Popen.wait of Python 3.11 takes two Ctrl-C within a quarter of a second for one."""
    while (exit_code := launcher_process.poll()) is None:
        processes.look()
        lost_rank = processes.lost_rank
        if lost_rank is not None and time.monotonic() - lost_rank.noticed_s > _LOST_RANK_TIMEOUT_S:
            return 1  # torchrun waits half a minute for processes that wait for the lost one
        time.sleep(_POLL_INTERVAL_S)
    processes.look()
    return exit_code


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _launch_command(run: Run, recipe: Recipe, launcher: str, shows_steps: bool) -> list[str]:
    process_count, training_module = str(recipe.train.processes), "orca_bench.train.training_process"
    training_arguments = [str(run.folder)] if shows_steps else ["--quiet", str(run.folder)]
    if launcher == "deepspeed":
        launcher_arguments = [
            "-m",
            "deepspeed.launcher.runner",
            "--num_gpus",
            process_count,
            "--master_port",
            str(find_free_port()),
        ]
        return [
            sys.executable,
            *launcher_arguments,
            "--log_level",
            "error",
            "--module",
            training_module,
            *training_arguments,
        ]
    launcher_arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", process_count, "--module"]
    return [sys.executable, *launcher_arguments, training_module, *training_arguments]


def _launch_environment() -> dict[str, str]:
    checkout_folder = str(Path(__file__).resolve().parents[2])
    python_paths = [checkout_folder, os.environ.get("PYTHONPATH", "")]
    library_settings.prepare_libraries()
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, python_paths)), "PYTHONWARNINGS": "ignore"}
