"""A run's folder: the files in it, whether it may be continued, and which run is newest.

runs/NAME/recipe.yaml      the resolved recipe, every default written out
runs/NAME/manifest.json    status, versions, seeds, data hashes, git revision, sizes, times
runs/NAME/data_report.json what is in the records, where the recipe has a report (data_reports.py)
runs/NAME/tokens/          the encoded records, hard links to the user's cache where the disk can
runs/NAME/metrics.jsonl    one line per step
runs/NAME/curves.png       the curves of the metrics, drawn at checkpoints and at the end
runs/NAME/checkpoints/     DeepSpeed's, the newest ones (checkpoint_files.py)
runs/NAME/exports/         step-N/, model folders on the way, where the recipe has export_every; best/, where it has keep_best
runs/NAME/model/           the trained model, a plain Hugging Face folder
runs/NAME/train.log        the libraries' own messages
runs/NAME/.lock            held by the command that trains; names that begin with a dot are temporary
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orca_bench import __version__, child_processes, recipe_file
from orca_bench.errors import UserError
from orca_bench.files import (
    catch_write_errors,
    make_writable_folder,
    read_json,
    remove_temporary_files,
    write_json,
    write_text,
)
from orca_bench.recipe import Recipe, first_difference, split_differences
from orca_bench.results.data_report import DATA_REPORT_FILE_NAME
from orca_bench.train import checkpoint_files, divergence
from orca_bench.train.checkpoint_files import list_checkpoints, newest_checkpoint, newest_checkpoint_step

_CHILD_EXIT_TIMEOUT_S = 10.0  # what the training processes of a command that was killed take to end
_MAX_WHOLE_NUMBER = 2**63
#: What to do where a folder holds another run than the one that is wanted.
START_OVER_HINT = "give the run another name (-o name=…) or start over with --fresh"

_RECORDED_LIBRARIES = ("torch", "transformers", "deepspeed", "tokenizers", "sentencepiece", "numpy")


class Run:
    """The folder of one training run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe_file = folder / "recipe.yaml"
        self.manifest_file = folder / "manifest.json"
        self.tokens_folder = folder / "tokens"
        #: Where runs of earlier versions have the encoded records.
        self.earlier_tokens_file = folder / "tokens.npz"
        #: Where records are encoded if the user's cache cannot be written: beside the folder, which may be moved aside meanwhile.
        self.encoding_folder = folder.with_name(f".{folder.name}.encoded")
        self.data_report_file = folder / DATA_REPORT_FILE_NAME
        self.metrics_file = folder / "metrics.jsonl"
        self.curves_file = folder / "curves.png"
        self.checkpoints_folder = folder / "checkpoints"
        self.exports_folder = folder / "exports"
        self.best_model = self.exports_folder / "best"
        self.model = folder / "model"
        self.log_file = folder / "train.log"
        #: Written by the command to ask the training processes to stop after the step they are at.
        self.stop_file = folder / ".stop"
        #: Written by the training processes: how they ended.
        self.outcome_file = folder / ".outcome.json"
        #: The files of the training processes, each with its process id while it trains.
        self.rank_file_pattern = ".rank-*"
        #: The process that trains this run, for the message to another one that wants to.
        self._writer_file = folder / ".writer.json"
        self._lock: FileLock | None = None

    def rank_file(self, rank: int) -> Path:
        """The file with the process id of the training process of this rank."""
        return self.folder / self.rank_file_pattern.replace("*", str(rank))

    @property
    def process_purpose(self) -> str:
        """The mark in the environment of this run's training processes, by which they are recognised."""
        return f"train {self.folder.resolve()}"

    def lock(self) -> None:
        """Make this process the only one that writes to the run, until it ends; may be repeated.

        The operating system holds the lock and gives it up when the process ends, however it ends. Raises UserError where
        another command trains the run, or training processes of one that was killed still do. Evaluations may write
        results meanwhile.
        """
        if self._lock is not None:
            return
        run_lock = FileLock(self.folder / ".lock", timeout=0)
        with catch_write_errors(self.folder):
            try:
                run_lock.acquire()
            except Timeout:
                raise UserError(
                    f"another process{self._writer_text()} trains this run",
                    where=self.folder,
                    hint="wait until it ends, or give this run another name (-o name=…)",
                ) from None
        self._lock = run_lock
        deadline_s = time.monotonic() + _CHILD_EXIT_TIMEOUT_S
        while process_ids := child_processes.running_process_ids(self.process_purpose):
            if time.monotonic() > deadline_s:
                raise UserError(
                    f"training processes of an earlier command still run ({', '.join(map(str, process_ids))})",
                    where=self.folder,
                    hint="end them first",
                )
            time.sleep(0.2)
        write_json(self._writer_file, {"pid": os.getpid(), "host": socket.gethostname()})

    def unlock(self) -> None:
        """Give the lock up, where this process has it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _writer_text(self) -> str:
        try:
            writer_entry = read_json(self._writer_file)
            return f" ({writer_entry['pid']} on {writer_entry['host']})"
        except (UserError, KeyError, TypeError):
            return ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in the folder yet, or no folder."""
        return not self.folder.is_dir() or all(entry.name.startswith(".") for entry in self.folder.iterdir())

    def check_is_run(self) -> None:
        """Raise UserError where the folder holds something else than a run."""
        if not self.is_empty and not (
            _is_recipe(self.recipe_file) or {"orca_bench", "status"} <= set(self.readable_manifest)
        ):
            raise UserError(
                "is not a run (neither its recipe.yaml nor its manifest.json is one of orca-bench's): left as it is",
                where=self.folder,
                hint="move it out of the way, or give the run another name (-o name=…)",
            )

    def move_aside(self) -> Path | None:
        """Rename the folder, with everything in it, to the first free NAME.old-N; returns that, or None for an empty one.

        Raises UserError where it is no run, or another process trains it.
        """
        self.check_is_run()
        if self.is_empty:
            return None
        self.lock()
        suffix_number = 1
        while (new_folder := self.folder.with_name(f"{self.folder.name}.old-{suffix_number}")).exists():
            suffix_number += 1
        with catch_write_errors(self.folder):
            self.folder.rename(new_folder)
        self._lock = None  # it went with the folder
        return new_folder

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, or an empty one where there is none yet; raises UserError for a file that is no JSON object."""
        if not self.manifest_file.is_file():
            return {}
        manifest = read_json(self.manifest_file)
        if not isinstance(manifest, dict):
            raise UserError("not a JSON object", where=self.manifest_file)
        return manifest

    @property
    def readable_manifest(self) -> dict[str, Any]:
        """The manifest, or an empty one where there is none that can be read."""
        try:
            return self.manifest
        except UserError:
            return {}

    @property
    def status(self) -> str:
        """`new`, `prepared`, `interrupted`, `failed`, `diverged` or `finished`."""
        return self.manifest.get("status", "new")

    def update_manifest(self, **manifest_entries: Any) -> None:
        """Write entries into the manifest."""
        write_json(self.manifest_file, self.manifest | manifest_entries)

    @property
    def has_trained(self) -> bool:
        """Whether the folder holds anything that training computed: the metrics of a step, a checkpoint or a model."""
        has_metrics = self.metrics_file.is_file() and self.metrics_file.stat().st_size > 0
        return has_metrics or self.model.exists() or bool(list_checkpoints(self.checkpoints_folder))

    def read_recipe(self) -> Recipe:
        """The run's recipe. One written before the key `train.packing` existed says `none`, which it was trained with."""
        recipe = recipe_file.read_recipe_file(self.recipe_file)
        return recipe if "packing" in recipe.train.model_fields_set else _with_packing(recipe, "none")

    def recipe_to_continue(self, recipe: Recipe) -> Recipe:
        """This recipe, with the packing of the run in the folder where the recipe itself names none."""
        if "packing" in recipe.train.model_fields_set or not self.recipe_file.is_file() or not self.has_trained:
            return recipe
        return _with_packing(recipe, self.read_recipe().train.packing)

    def has_recipe(self, recipe: Recipe) -> bool:
        """Whether the folder holds a run of this recipe, or of one that computes the same numbers."""
        return first_difference(self.read_recipe(), self.recipe_to_continue(recipe)) is None

    def check_same_recipe(self, recipe: Recipe) -> None:
        """Raise UserError where the folder holds a run of another recipe, or one that diverged and would do so again.

        So nothing computed is overwritten unasked, and no run is half of one recipe and half of another. A run that was refused
        before its first step has computed nothing.
        """
        if not self.recipe_file.is_file() or not self.has_trained:
            return
        if changed_key := first_difference(self.read_recipe(), self.recipe_to_continue(recipe)):
            raise UserError(
                f"holds a run of another recipe ({changed_key})",
                where=self.folder,
                hint="give this one another name (-o name=…) or start over with --fresh",
            )
        if self.status == "diverged":
            divergence.refuse_repeated_divergence(self.manifest, recipe, self.folder)

    def open_for_training(self, recipe: Recipe, show_message: Callable[[str], None] = lambda line: None) -> bool:
        """Lock the folder and clear it of what is half-written; True where there is something to continue.

        Checkpoints that are damaged are set aside, with a message; nothing is replaced yet (`write_recipe`). Raises UserError as
        `lock`, `check_same_recipe` and `checkpoint_files.set_damaged_aside` do.
        """
        make_writable_folder(self.folder)
        self.lock()
        self.check_same_recipe(recipe)
        self.remove_unfinished_files()
        checkpoint_files.set_damaged_aside(self.checkpoints_folder, show_message)
        return newest_checkpoint(self.checkpoints_folder) is not None

    def write_recipe(
        self, recipe: Recipe, is_continued: bool, show_message: Callable[[str], None] = lambda line: None
    ) -> None:
        """Make this the run's recipe, once everything has been checked. What it splits otherwise is reported and recorded."""
        earlier_recipe = (
            recipe_file.read_recipe_file(self.recipe_file) if is_continued and self.recipe_file.is_file() else recipe
        )
        if differences := split_differences(earlier_recipe, recipe):
            show_message(f"the work is split otherwise from here on ({'; '.join(differences)}): the same to rounding")
            split_entry = {"step": newest_checkpoint_step(self.checkpoints_folder), "changes": differences}
            split_entries = self.manifest.get("splits", [])
            if split_entries[-1:] != [split_entry]:  # it is there where a command was killed before it wrote the recipe
                self.update_manifest(splits=[*split_entries, split_entry])
        write_text(self.recipe_file, recipe.to_yaml())

    def remove_unfinished_files(self) -> None:
        """Remove what training processes, all of which have ended, left half-written."""
        for folder in (self.folder, self.exports_folder, self.checkpoints_folder):
            remove_temporary_files(folder)
        checkpoint_files.remove_incomplete_checkpoints(self.checkpoints_folder)


def _with_packing(recipe: Recipe, packing: str) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"packing": packing})})


def _is_recipe(path: Path) -> bool:
    try:
        recipe_file.read_recipe_file(path)
    except UserError:
        return False
    return True


def newest_finished_run(runs_folder: Path) -> Run | None:
    """The run under `runs_folder` that finished last, or None; a run whose manifest cannot be read is passed over."""
    finished_runs = [
        run
        for run in map(Run, sorted(runs_folder.glob("*")))
        if run.readable_manifest.get("status") == "finished" and run.model.is_dir()
    ]
    return max(finished_runs, key=lambda run: finite_number(run.readable_manifest.get("finished")) or 0, default=None)


def whole_number(manifest_value: Any) -> int | None:
    """A value of a manifest where it is a whole number of at most 64 bits, else None: a manifest can be edited."""
    is_whole_number = isinstance(manifest_value, int) and not isinstance(manifest_value, bool)
    return manifest_value if is_whole_number and abs(manifest_value) < _MAX_WHOLE_NUMBER else None


def finite_number(manifest_value: Any) -> float | None:
    """A value of a manifest where it is a number and finite, else None."""
    if isinstance(manifest_value, float):
        return manifest_value if math.isfinite(manifest_value) else None
    return whole_number(manifest_value)


def environment_entries(further_libraries: Iterable[str] = ()) -> dict[str, Any]:
    """Versions and machine, for a manifest."""
    return {
        "orca_bench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: importlib.metadata.version(name) for name in (*_RECORDED_LIBRARIES, *further_libraries)},
        "git": checkout_revision(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def checkout_revision() -> str | None:
    """The revision of the checkout that this code runs from, with a final `+` where files differ; None outside one."""
    repository_root = Path(__file__).parents[2]
    if not (repository_root / "pyproject.toml").is_file():
        return None  # installed into some environment, perhaps inside another project's checkout
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=repository_root,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return revision.stdout.strip() or None
