"""The folder of runs in, what stands in each run out: status, step, sizes, and the checkpoints that can be removed.

Nothing is changed by looking: a lock is only tried. Its own module because run_folder.py is what a training needs of its one
run, and this is what a user wants to know of all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.disk_space import disk_bytes
from orca_bench.files import catch_write_errors
from orca_bench.train.checkpoint_files import DAMAGED_PREFIX, checkpoint_step, list_checkpoints, newest_checkpoint
from orca_bench.train.run_folder import Run, finite_number, whole_number

_METRICS_TAIL_BYTES = 4096
#: The last day of the year 9999 in seconds since 1970: the standard library knows no later date.
_MAX_DATE = 253_402_214_400.0
#: The parts of a run whose sizes are of interest: the names of files and folders in it.
_PARTS = ("model", "exports", "checkpoints", "results", "published", "tokens", "tokens.npz")


@dataclass(frozen=True)
class RunSummary:
    """One folder below the folder of runs.

    `status` is `training`, what the manifest says (`finished`, `interrupted`, `failed`, `diverged`, `prepared`), or without
    a manifest `model` or `results`, whichever there is. `step` and `step_count` are None where nothing was trained. `date` is
    when training ended, or the last change, in seconds since 1970. `bytes_by_part` are sizes by the name in the folder.
    """

    folder: Path
    status: str
    step: int | None
    step_count: int | None
    date: float
    bytes_by_part: dict[str, int]
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def byte_count(self) -> int:
        """The size of the whole folder in bytes."""
        return sum(self.bytes_by_part.values())

    @property
    def model_folder(self) -> Path | None:
        """The folder of the run's model, or None where there is none."""
        folder = self.folder / "model"
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint of a run, whether it can be removed, and why."""

    path: Path
    is_removable: bool
    reason: str


def survey_runs(runs_folder: Path) -> list[RunSummary]:
    """Every run below a folder, the newest first: folders that have a manifest, a model or results."""
    folders = [folder for folder in runs_folder.glob("*") if folder.is_dir() and not folder.name.startswith(".")]
    summaries = [summary for folder in folders if (summary := survey_run(folder)) is not None]
    return sorted(summaries, key=lambda summary: (-summary.date, summary.name))


def survey_run(folder: Path) -> RunSummary | None:
    """What stands in a run's folder; None for a folder that has neither a manifest nor a model nor results."""
    run = Run(folder)
    if not (run.manifest_file.is_file() or run.model.is_dir() or (folder / "results").is_dir()):
        return None
    manifest = run.readable_manifest
    last_step, step_count = _last_step(run.metrics_file)
    manifest_status, manifest_steps = manifest.get("status"), whole_number(manifest.get("steps"))
    has_status = isinstance(manifest_status, str) and manifest_status
    status = str(manifest_status) if has_status else "model" if run.model.is_dir() else "results"
    if status == "finished":
        last_step = step_count = manifest_steps or step_count
    elif manifest and is_being_trained(folder):
        status = "training"
    bytes_by_part = {part: disk_bytes(folder / part) for part in _PARTS if (folder / part).exists()}
    bytes_by_part["other"] = sum(disk_bytes(entry) for entry in folder.iterdir() if entry.name not in _PARTS)
    date = finite_number(manifest.get("finished"))
    if date is None or not 0 <= date <= _MAX_DATE:
        date = max(path.stat().st_mtime for path in (folder, folder / "results", run.metrics_file) if path.exists())
    return RunSummary(folder, status, last_step, step_count or manifest_steps, date, bytes_by_part, manifest)


def is_being_trained(folder: Path) -> bool:
    """Whether another process holds the lock of a run; the lock is tried without changing anything."""
    try:
        with open(folder / ".lock", "rb") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(lock_file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or one that may not be read
        return False
    return False


def survey_checkpoints(folder: Path) -> list[CheckpointSummary]:
    """The checkpoints of a run, oldest first, each with what it is still good for.

    A finished run with its model needs none, any other the newest undamaged one, from which training continues; its files are
    read. Where there is none, nothing is removable.
    """
    run = Run(folder)
    paths, damaged_paths = (list_checkpoints(run.checkpoints_folder, prefix) for prefix in ("", DAMAGED_PREFIX))
    damaged_summaries = [CheckpointSummary(path, True, "it is damaged") for path in damaged_paths]
    if run.readable_manifest.get("status") == "finished" and run.model.is_dir():
        return damaged_summaries + [CheckpointSummary(path, True, "the run is finished") for path in paths]
    newest_whole = newest_checkpoint(run.checkpoints_folder, reads_files=True)
    return (damaged_summaries if newest_whole else []) + [_survey_checkpoint(path, newest_whole) for path in paths]


def removable_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run that nothing needs any more, oldest first."""
    return [checkpoint.path for checkpoint in survey_checkpoints(folder) if checkpoint.is_removable]


def remove_checkpoints(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Remove these checkpoints of `removable_checkpoints`, and the folder where none is left; returns those that it removed.

    One that the training would continue from by now stays. Raises UserError where another process trains the run, or a file
    cannot be removed.
    """
    run = Run(folder)
    with _locked(run):
        newest_whole = newest_checkpoint(run.checkpoints_folder)
        if newest_whole is None or newest_whole in paths:  # the run is finished, or files or status have changed
            still_removable = removable_checkpoints(folder)
            paths = [path for path in paths if path in still_removable]
        removed_paths = [path for path in paths if path.is_dir()]
        for path in removed_paths:
            with catch_write_errors(path):
                shutil.rmtree(path)
        if removed_paths and not any(_visible_folders(run.checkpoints_folder)):
            shutil.rmtree(run.checkpoints_folder, ignore_errors=True)
    return removed_paths


def _visible_folders(folder: Path) -> Iterator[Path]:
    """The folders in a folder, without temporary ones."""
    return (path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))


def _survey_checkpoint(path: Path, newest_whole: Path | None) -> CheckpointSummary:
    """A checkpoint of a run that has no model; `newest_whole` is the checkpoint from which training continues, if any."""
    if newest_whole is None:
        return CheckpointSummary(path, False, "no checkpoint is known to be whole")
    if path == newest_whole:
        return CheckpointSummary(path, False, "the training continues from it")
    is_newer = checkpoint_step(path) > checkpoint_step(newest_whole)
    return CheckpointSummary(path, True, "it is not whole" if is_newer else "a newer checkpoint is there")


@contextlib.contextmanager
def _locked(run: Run) -> Iterator[None]:
    run.lock()
    try:
        yield
    finally:
        run.unlock()


def _last_step(metrics_file: Path) -> tuple[int | None, int | None]:
    """(last step, number of steps) of metrics.jsonl; None for what it does not say."""
    try:
        with open(metrics_file, "rb") as handle:
            handle.seek(max(0, metrics_file.stat().st_size - _METRICS_TAIL_BYTES))
            last_lines = handle.read().splitlines()
    except OSError:
        return None, None
    for line in reversed(last_lines):  # the last one may be half-written
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            step_metrics = json.loads(line)
            return whole_number(step_metrics["step"]), whole_number(step_metrics["steps"])
    return None, None
