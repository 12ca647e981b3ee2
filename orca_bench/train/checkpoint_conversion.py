"""The newest checkpoint in; the same state for another number of processes out, in DeepSpeed's universal format.

DeepSpeed splits weights and optimizer states over the processes and loads them in as many only. Its own converter puts the
parts together again, in a process that ends with the command (checkpoint_converter.py). Its own module because the command does
it once, before the training processes start, and they only look whether there is something converted.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from orca_bench import child_processes
from orca_bench.disk_space import full_disk_message
from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors
from orca_bench.train import checkpoint_converter
from orca_bench.train.checkpoint_files import newest_checkpoint, read_manifest

_UNFINISHED_SUFFIX = ".converting.tmp"
_MAX_CONVERTER_PROCESSES = 4  # each holds one process's part of the optimizer states in memory


def written_process_count(checkpoint: Path) -> int:
    """How many processes wrote a checkpoint; 0 where that is not known."""
    manifest = read_manifest(checkpoint)
    if manifest is not None:
        return manifest.processes
    return len(list(checkpoint.glob("*_optim_states.pt")))  # one for each process


def converted_folder(checkpoint: Path) -> Path:
    """Where a checkpoint is converted to; a temporary name, which `Run.remove_unfinished_files` removes."""
    return checkpoint.with_name(f".{checkpoint.name}.universal.tmp")


def is_converted(checkpoints_folder: Path) -> bool:
    """Whether the newest checkpoint has been converted, and is to be loaded from there."""
    checkpoint = newest_checkpoint(checkpoints_folder)
    return checkpoint is not None and converted_folder(checkpoint).is_dir()


def convert_newest(
    checkpoints_folder: Path,
    process_count: int,
    log_file: Path,
    process_purpose: str,
    environment: Mapping[str, str],
    show_message: Callable[[str], None] = lambda line: None,
) -> None:
    """Convert the newest checkpoint where another number of processes wrote it, and its parts are split over them.

    What the converter prints goes to `log_file`. `process_purpose` marks its processes as those of the run, none of which
    outlives this one; `environment` is all of theirs. Raises UserError where the converter fails or the disk is full.
    """
    checkpoint = newest_checkpoint(checkpoints_folder)
    if checkpoint is None:
        return
    written_count = written_process_count(checkpoint)
    is_split = any(checkpoint.glob("*zero_pp_rank_*_optim_states.pt"))
    if written_count == process_count or not is_split:
        return
    written_text, new_text = _processes_text(written_count), _processes_text(process_count)
    show_message(f"converting {checkpoint.name}, which {written_text} wrote, for {new_text}")
    with catch_write_errors(checkpoints_folder):
        unfinished_folder = Path(
            tempfile.mkdtemp(prefix=f".{checkpoint.name}.", suffix=_UNFINISHED_SUFFIX, dir=checkpoints_folder)
        )
    try:
        exit_code = _run_converter(checkpoint, unfinished_folder, written_count, log_file, process_purpose, environment)
        (checkpoints_folder / "latest_universal").unlink(missing_ok=True)  # names the folder before it is renamed
        if exit_code:
            if disk_message := full_disk_message(checkpoints_folder):  # before the parts that may fill it are removed
                raise UserError(disk_message)
            raise UserError(
                f"the checkpoint of {written_text} cannot be converted for {new_text}",
                where=checkpoint,
                hint=f"set train.processes to {written_count} to go on; DeepSpeed's messages are in {log_file}",
            )
        with catch_write_errors(checkpoint):
            unfinished_folder.rename(converted_folder(checkpoint))
    finally:
        shutil.rmtree(unfinished_folder, ignore_errors=True)  # where it has not been renamed


def _run_converter(
    checkpoint: Path,
    output_folder: Path,
    written_count: int,
    log_file: Path,
    process_purpose: str,
    environment: Mapping[str, str],
) -> int:
    """Convert a checkpoint that `written_count` processes wrote into `output_folder`; returns the converter's exit code."""
    worker_count = str(min(_MAX_CONVERTER_PROCESSES, written_count))
    with (
        catch_write_errors(log_file),
        open(log_file, "ab") as log,
        child_processes.Lifeline(process_purpose) as lifeline,
    ):
        return subprocess.run(
            [
                *(sys.executable, "-m", checkpoint_converter.__name__, "--inject_missing_state"),
                *("--input_folder", str(checkpoint), "--output_folder", str(output_folder)),
                *("--num_extract_workers", worker_count, "--num_merge_workers", worker_count),
            ],
            stdout=log,
            stderr=log,
            env={**environment, **lifeline.environment},
        ).returncode


def _processes_text(process_count: int) -> str:
    return "1 process" if process_count == 1 else f"{process_count:,} processes"
