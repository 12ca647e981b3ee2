"""The folder of a run's checkpoints in; which of them are whole, damaged or no longer needed out.

checkpoints/step-00000010/            a whole checkpoint: DeepSpeed's files, and manifest.json with the size and hash of each
checkpoints/.step-00000010.tmp/       one that is being written; what a kill leaves of it is removed
checkpoints/damaged-step-00000010/    one whose files have changed since it was written; training removes none of these
checkpoints/latest                    the name of the newest one, for DeepSpeed's own tools

A checkpoint is written under its temporary name, its manifest last, and then renamed: under its own name it was whole.
Versions before the manifest wrote none: in a folder where no checkpoint has one, those are whole that `latest` names and
those before it. Any other name, as a user's step-00000010.bak, is no checkpoint. Its own module because it needs neither
torch nor DeepSpeed: listing runs uses it, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from orca_bench.errors import UserError, join_names, one_line
from orca_bench.files import catch_write_errors, file_sha256, write_text

LATEST_FILE_NAME = "latest"  # DeepSpeed's name for the file that names the newest checkpoint; its own tools read it
MANIFEST_FILE_NAME = "manifest.json"
DAMAGED_PREFIX = "damaged-"
_HASHING_THREAD_COUNT = 8  # as many files are read at once
_NAME_PATTERN = re.compile(r"step-([0-9]{8,})")


class FileEntry(BaseModel):
    """Size in bytes and hash of one file of a checkpoint."""

    model_config = ConfigDict(strict=True, frozen=True)

    bytes: int
    sha256: str


class CheckpointManifest(BaseModel):
    """What one checkpoint consists of.

    `step` is how many optimizer steps were done, `processes` how many processes wrote it. `parameters` has the shape of each
    parameter of the model by its name, `files` what each file must be by its name.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    step: int
    processes: int
    parameters: dict[str, list[int]]
    files: dict[str, FileEntry]


def checkpoint_name(steps_done: int) -> str:
    """The name of the checkpoint after so many steps."""
    return f"step-{steps_done:08d}"


def checkpoint_step(checkpoint: Path) -> int:
    """How many steps were done at a checkpoint; raises ValueError where the name is none of a checkpoint."""
    step = _named_step(checkpoint.name)
    if step is None:
        raise ValueError(f"{checkpoint} is not named as a checkpoint is")
    return step


def list_checkpoints(checkpoints_folder: Path, name_prefix: str = "") -> list[Path]:
    """All folders whose whole name is that of a checkpoint after `name_prefix`, oldest first, whatever is in them."""
    step_by_path = {
        path: step
        for path in checkpoints_folder.glob(f"{name_prefix}step-*")
        if (step := _named_step(path.name.removeprefix(name_prefix))) is not None and path.is_dir()
    }
    return sorted(step_by_path, key=step_by_path.__getitem__)


def temporary_folder(checkpoints_folder: Path, steps_done: int) -> Path:
    """Where the checkpoint after so many steps is written, until it is whole."""
    return checkpoints_folder / f".{checkpoint_name(steps_done)}.tmp"


def newest_checkpoint(checkpoints_folder: Path, reads_files: bool = False) -> Path | None:
    """The newest checkpoint whose files are all there in their size, or None where there is none.

    `reads_files` compares their hashes too, which reads the whole checkpoint.
    """
    for checkpoint in reversed(list_checkpoints(checkpoints_folder)):
        if _is_complete(checkpoint) and checkpoint_problem(checkpoint, reads_files) is None:
            return checkpoint
    return None


def newest_checkpoint_step(checkpoints_folder: Path) -> int:
    """How many steps are done in the newest whole checkpoint; 0 where there is none."""
    checkpoint = newest_checkpoint(checkpoints_folder)
    return 0 if checkpoint is None else checkpoint_step(checkpoint)


def read_manifest(checkpoint: Path) -> CheckpointManifest | None:
    """The manifest of a checkpoint, or None where an earlier version has written none; raises UserError for a broken one."""
    manifest_file = checkpoint / MANIFEST_FILE_NAME
    if not manifest_file.is_file():
        return None
    try:
        return CheckpointManifest.model_validate_json(manifest_file.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"is not a manifest of a checkpoint ({one_line(error, 200)})", where=manifest_file) from None


def checkpoint_problem(checkpoint: Path, reads_files: bool) -> str | None:
    """What is wrong with the files of a checkpoint, or None. `reads_files` compares their hashes too, not only their sizes."""
    try:
        manifest = read_manifest(checkpoint)
    except UserError:
        return f"its {MANIFEST_FILE_NAME} cannot be read"
    if manifest is None:
        return f"it has no {MANIFEST_FILE_NAME}" if _has_manifests(checkpoint.parent) else None
    for file_name, entry in manifest.files.items():
        path = checkpoint / file_name
        if not path.is_file():
            return f"{file_name} is not there"
        if path.stat().st_size != entry.bytes:
            return f"{file_name} has {path.stat().st_size:,} bytes, and {MANIFEST_FILE_NAME} says {entry.bytes:,}"
    if not reads_files:
        return None
    with ThreadPoolExecutor(_HASHING_THREAD_COUNT) as executor:
        hashes = executor.map(file_sha256, [checkpoint / file_name for file_name in manifest.files])
        for (file_name, entry), file_hash in zip(manifest.files.items(), hashes, strict=True):
            if file_hash != entry.sha256:
                return f"the content of {file_name} has changed"
    return None


def set_damaged_aside(checkpoints_folder: Path, show_message: Callable[[str], None]) -> None:
    """Rename checkpoints that are newer than the newest undamaged one, and name each in a message; reads all files.

    All are renamed where nothing says which of them are whole: none has a manifest, and `latest` names none. Raises UserError,
    and renames nothing, where all are damaged: training would start over.
    """
    if _are_unknown(checkpoints_folder):
        for checkpoint in reversed(list_checkpoints(checkpoints_folder)):
            new_path = _set_aside(checkpoint)
            show_message(
                f"{checkpoint} may be half-written (it has no {MANIFEST_FILE_NAME}, and the file {LATEST_FILE_NAME} names no "
                f"checkpoint): it is now {new_path.name}, and training starts over"
            )
        return
    undamaged_checkpoint: Path | None = None
    problem_by_checkpoint: dict[Path, str] = {}
    for checkpoint in filter(_is_complete, reversed(list_checkpoints(checkpoints_folder))):
        problem = checkpoint_problem(checkpoint, reads_files=True)
        if problem is None:
            undamaged_checkpoint = checkpoint
            break
        problem_by_checkpoint[checkpoint] = problem
    for checkpoint, problem in problem_by_checkpoint.items():
        if undamaged_checkpoint is None:
            raise UserError(
                f"the checkpoint is damaged ({problem}), and no other one is whole",
                where=checkpoint,
                hint=f"put its files back, {_earlier_version_hint(checkpoints_folder)}or start over with --fresh",
            )
        new_path = _set_aside(checkpoint)
        show_message(
            f"{checkpoint} is damaged ({problem}): it is now {new_path.name}, and training goes on from "
            f"{undamaged_checkpoint.name}"
        )


def _set_aside(checkpoint: Path) -> Path:
    new_path = checkpoint.with_name(DAMAGED_PREFIX + checkpoint.name)
    with catch_write_errors(checkpoint):
        shutil.rmtree(new_path, ignore_errors=True)  # of the same step, damaged before
        checkpoint.rename(new_path)
    return new_path


def _earlier_version_hint(checkpoints_folder: Path) -> str:
    """What to delete so that training goes on from a checkpoint without a manifest; empty where all have one."""
    all_checkpoints = list_checkpoints(checkpoints_folder)
    with_manifest = [checkpoint.name for checkpoint in all_checkpoints if _has_manifest(checkpoint)]
    without_manifest = [checkpoint.name for checkpoint in all_checkpoints if not _has_manifest(checkpoint)]
    if not without_manifest:
        return ""
    return (
        f"delete {join_names(with_manifest, len(with_manifest))} to go on from {without_manifest[-1]} (which has no "
        f"{MANIFEST_FILE_NAME}, as those of earlier versions), "
    )


def mark_whole(written_folder: Path, manifest: CheckpointManifest) -> Path:
    """Give a folder, all of whose files are on the disk, its manifest and then the name of a checkpoint; returns that path.

    Raises UserError where the disk does not take it.
    """
    checkpoint = written_folder.with_name(checkpoint_name(manifest.step))
    with catch_write_errors(checkpoint):
        with open(written_folder / MANIFEST_FILE_NAME, "w", encoding="utf-8") as handle:
            handle.write(manifest.model_dump_json(indent=1) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        _flush_names(written_folder)
        if checkpoint.exists():
            _remove_at_once(checkpoint)
        written_folder.rename(checkpoint)
        _flush_names(checkpoint.parent)
    write_text(checkpoint.parent / LATEST_FILE_NAME, checkpoint.name)
    return checkpoint


def remove_old_checkpoints(checkpoints_folder: Path, max_checkpoints: int) -> None:
    """Remove all checkpoints but the newest `max_checkpoints`."""
    for checkpoint in list_checkpoints(checkpoints_folder)[:-max_checkpoints]:
        _remove_at_once(checkpoint)


def remove_incomplete_checkpoints(checkpoints_folder: Path) -> None:
    """Remove what versions before the manifest left under a checkpoint's name when they were killed: what `latest` is before."""
    if _are_unknown(checkpoints_folder):
        return
    for checkpoint in list_checkpoints(checkpoints_folder):
        if not _is_complete(checkpoint):
            shutil.rmtree(checkpoint, ignore_errors=True)


def parameter_difference(checkpoint_shapes: dict[str, list[int]], model_shapes: dict[str, list[int]]) -> str | None:
    """How the parameters of a checkpoint (shapes by name) differ from those of a model, in words; None where they do not."""
    if missing_names := [name for name in model_shapes if name not in checkpoint_shapes]:
        return f"it has no {join_names(missing_names, 2)}"
    if further_names := [name for name in checkpoint_shapes if name not in model_shapes]:
        return f"it has {join_names(further_names, 2)}, which the model has not"
    for name, shape in model_shapes.items():
        if checkpoint_shapes[name] != shape:
            return f"{name} has shape {checkpoint_shapes[name]} there and {shape} in the model"
    return None


def _named_step(checkpoint_name: str) -> int | None:
    """The step of a checkpoint's name; None for any other name."""
    match = _NAME_PATTERN.fullmatch(checkpoint_name)
    return None if match is None else int(match[1])


def _has_manifests(checkpoints_folder: Path) -> bool:
    """Whether any checkpoint has a manifest: then all were marked as whole before they had their names."""
    return any(map(_has_manifest, list_checkpoints(checkpoints_folder)))


def _has_manifest(checkpoint: Path) -> bool:
    return (checkpoint / MANIFEST_FILE_NAME).is_file()


def _latest_step(checkpoints_folder: Path) -> int | None:
    """The step of the checkpoint that `latest` names; None where there is no such file, or it names none."""
    try:
        return _named_step((checkpoints_folder / LATEST_FILE_NAME).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None


def _are_unknown(checkpoints_folder: Path) -> bool:
    """Whether nothing says which checkpoints are whole: neither a manifest nor `latest`."""
    return not _has_manifests(checkpoints_folder) and _latest_step(checkpoints_folder) is None


def _is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: all where one has a manifest, else what `latest` names and those before it."""
    if _has_manifests(checkpoint.parent):
        return True
    latest_step = _latest_step(checkpoint.parent)
    return latest_step is not None and checkpoint_step(checkpoint) <= latest_step


def _remove_at_once(checkpoint: Path) -> None:
    """Remove a checkpoint under a temporary name, so that a kill in between leaves no half of it under its own."""
    removed_folder = checkpoint.with_name(f".{checkpoint.name}.removed.tmp")
    shutil.rmtree(removed_folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # what cannot be removed stays
        checkpoint.rename(removed_folder)
    shutil.rmtree(removed_folder, ignore_errors=True)


def _flush_names(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
