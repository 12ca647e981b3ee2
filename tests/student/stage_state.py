"""A stage and its files in, whether it has to run out, and why; and what is written down when it has run.

A stage is done where its outputs are there and were made by its commands from today's inputs. Outputs that record what they
were made from say so themselves (recorded_inputs.py). For all others, and against damage, `stages/NAME.json` in the work folder
has the hashes of inputs and outputs. Its own module because listing the stages and running them ask the same questions.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from content_hashes import FileHashes, differing_files, hash_files, is_run
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError
from recorded_inputs import is_recorded, recorded_difference, records_input, unfinished_reason
from stage_list import Stage, StageList, is_within, parse_command

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, make_writable_folder, read_json, write_json

_STATE_FOLDER = Path("stages")
_REPLACED_FOLDER = Path("replaced")


class Standing(Enum):
    """Where a stage stands; the value is the word that a person reads."""

    DONE = "done"
    NEW = "to do"
    UNFINISHED = "goes on"
    STALE = "again"
    WAITING = "after others"


@dataclass(frozen=True)
class Examination:
    """Where a stage stands and why; `paths_to_move` are the outputs that stand in its way and are moved before it runs."""

    standing: Standing
    reason: str = ""
    paths_to_move: tuple[Path, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to run."""
        return self.standing is Standing.DONE


class StageState(BaseModel):
    """What is written down of a stage: its commands and the hashes of its inputs when it began, of its outputs when it ended."""

    commands: list[str]
    needs: dict[str, FileHashes]
    gives: dict[str, FileHashes] | None = None
    seconds: float | None = None
    finished: str | None = None


def read_state(stage: Stage) -> StageState | None:
    """What is written down of a stage; None where there is nothing, or nothing that can be read."""
    path = _state_path(stage)
    if not path.is_file():
        return None
    try:
        return StageState.model_validate(read_json(path))
    except (UserError, ValidationError):
        return None


def write_start(stage: Stage) -> None:
    """Write down that a stage begins, with which inputs."""
    _write_state(stage, StageState(commands=stage.commands, needs=_hash_all(stage.needs)))


def write_end(stage: Stage, seconds: float) -> None:
    """Write down that a stage that began has ended, after how many seconds, and with which outputs."""
    start = read_state(stage)
    needs = _hash_all(stage.needs) if start is None else start.needs  # an input may have changed meanwhile
    _write_finished_state(stage, needs, seconds)


def _write_finished_state(stage: Stage, needs: dict[str, FileHashes], seconds: float | None) -> None:
    state = StageState(
        commands=stage.commands,
        needs=needs,
        gives=_hash_all(stage.gives),
        seconds=seconds,
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    _write_state(stage, state)


@contextlib.contextmanager
def only_runner(stage: Stage) -> Iterator[None]:
    """A block in which no other process runs the stage; raises UserError where one does."""
    make_writable_folder(_STATE_FOLDER)
    lock = FileLock(_STATE_FOLDER / f".{stage.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        problem = f"another process runs stage {stage.name} here"
        raise UserError(problem, where=Path.cwd(), hint="wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


def _write_state(stage: Stage, state: StageState) -> None:
    make_writable_folder(_STATE_FOLDER)
    write_json(_state_path(stage), state.model_dump())


def examine(stage: Stage, stage_list: StageList, examinations: dict[str, Examination]) -> Examination:
    """Where a stage stands, in the work folder that is the working directory.

    `examinations` has those of earlier stages. Outputs that were made by hand and record the right inputs are written down as
    the stage's. Raises UserError where an input is missing that no stage gives.
    """
    givers = {giver.name for needed in stage.needs if (giver := stage_list.giver_of(needed)) is not None}
    waiting_for = [name for name in examinations if name in givers and not examinations[name].is_done]
    is_made_here = read_state(stage) is not None and all(Path(needed).exists() for needed in stage.needs)
    if stage.is_committed and not is_made_here and all(Path(output).exists() for output in stage.gives):
        return Examination(Standing.DONE, "committed; nothing here says what it was made from")
    if waiting_for:
        return Examination(Standing.WAITING, f"after {', '.join(waiting_for)}")
    for needed in stage.needs:
        if not Path(needed).exists():
            raise UserError(f"stage {stage.name} needs it, and it is not there", where=Path(needed).absolute())
    return _examine_outputs(stage)


@dataclass(frozen=True)
class _Changes:
    """What is other than when a stage began: its commands, or of the paths that it needs these files (of each the first)."""

    has_other_commands: bool
    files: tuple[Path, ...]

    def __bool__(self) -> bool:
        return self.has_other_commands or bool(self.files)

    def __str__(self) -> str:
        texts = ["its commands have changed"] if self.has_other_commands else []
        return "; ".join([*texts, *(f"{file} has changed" for file in self.files)])


def _examine_outputs(stage: Stage) -> Examination:
    state = read_state(stage)
    changes = _Changes(False, ()) if state is None else _changes_since(state, stage)
    outputs = list(map(Path, stage.gives))
    missing = [output for output in outputs if not output.exists()]
    try:
        unfinished = [reason for output in outputs if output.exists() and (reason := unfinished_reason(output))]
    except UserError as error:  # a result that cannot be read
        return _stale(stage, str(error))
    if len(missing) == len(outputs):
        return Examination(Standing.NEW)
    if missing or unfinished:
        if changes:
            return _stale(stage, str(changes))
        return Examination(Standing.UNFINISHED, "; ".join([*unfinished, *(f"{path} is missing" for path in missing)]))
    if state is not None and state.gives is not None:
        damaged_files = _changed_files(stage.gives, state.gives)
        if not damaged_files and not changes:
            return Examination(Standing.DONE)
        if damaged_files and not _gives_results_alone(stage):
            names = ", ".join(map(str, damaged_files))
            return _stale(stage, f"{names} is damaged: not as the stage wrote it", damaged_files)
    return _examine_records(stage, changes)


def _examine_records(stage: Stage, changes: _Changes) -> Examination:
    """By what whole outputs record themselves: done where all say the right inputs."""
    commands = [parse_command(command, stage.name) for command in stage.commands]
    changed_needs = [
        Path(needed) for needed in stage.needs if any(is_within(str(file), needed) for file in changes.files)
    ]
    differences: list[str] = []
    for output in map(Path, stage.gives):
        records_all = all(
            is_recorded(command, output) and all(records_input(command, needed) for needed in changed_needs)
            for command in commands
        )
        if not records_all:
            return _stale(stage, str(changes) or f"nothing says what {output} was made from")
        differences_by_command = [recorded_difference(command, output) for command in commands]
        if all(differences_by_command):  # it is no command's output
            differences += filter(None, differences_by_command[:1])
    if differences:
        return _stale(stage, "; ".join([*filter(None, [str(changes)]), *differences]))
    _write_finished_state(stage, _hash_all(stage.needs), None)
    return Examination(Standing.DONE, "by what its output records")


def _gives_results_alone(stage: Stage) -> bool:
    """Whether all outputs are those of evaluations, which have a hash of themselves: a later one is no damaged one."""
    return all(command.startswith("orca-bench eval ") for command in stage.commands)


def _changes_since(state: StageState, stage: Stage) -> _Changes:
    return _Changes(state.commands != stage.commands, tuple(_changed_files(stage.needs, state.needs)))


def _changed_files(paths: list[str], hashes_by_path: dict[str, FileHashes]) -> list[Path]:
    """Of each path the first file that is other than written down."""
    files_by_path = {path: differing_files(hash_files(Path(path)), hashes_by_path.get(path, {})) for path in paths}
    return [Path(path) / files[0] for path, files in files_by_path.items() if files]


def _stale(stage: Stage, reason: str, damaged_files: list[Path] | None = None) -> Examination:
    """That a stage runs again; its outputs are moved aside first, of a damaged run's model that alone."""
    outputs = [Path(output) for output in stage.gives if Path(output).exists()]
    if damaged_files is not None:
        outputs = [_part_to_move(output, damaged_files) for output in outputs]
    return Examination(Standing.STALE, reason, tuple(outputs))


def _part_to_move(output: Path, damaged_files: list[Path]) -> Path:
    """The model of a run where only that is damaged, which training writes again from its last checkpoint; else the output."""
    is_of_model_only = all(output / "model" in file.parents for file in damaged_files)
    return output / "model" if output.is_dir() and is_run(output) and is_of_model_only else output


def move_aside(path: Path) -> Path:
    """Move an output to replaced/PATH.old-N, and a run to NAME.old-N, as `train --fresh` does; returns the new path.

    Raises UserError for a run that another process trains.
    """
    if path.is_dir() and is_run(path):
        from orca_bench.train.run_folder import Run

        renamed_folder = Run(path).move_aside()
        assert renamed_folder is not None, "a run with a recipe is not empty"
        return renamed_folder
    number = 1
    while (new_path := _REPLACED_FOLDER / f"{path}.old-{number}").exists():
        number += 1
    make_writable_folder(new_path.parent)
    with catch_write_errors(new_path):
        shutil.move(path, new_path)
    return new_path


def remove_if_equal(moved_path: Path, path: Path) -> None:
    """Remove an output that was moved aside, where its stage has written the same bytes again."""
    if hash_files(moved_path) != hash_files(path):
        return
    if moved_path.is_dir():
        shutil.rmtree(moved_path)
    else:
        moved_path.unlink()


def _state_path(stage: Stage) -> Path:
    return _STATE_FOLDER / f"{stage.name}.json"


def _hash_all(paths: list[str]) -> dict[str, FileHashes]:
    return {path: hash_files(Path(path)) for path in paths}
