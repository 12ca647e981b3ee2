"""A stage and its files in, whether it has to run out, and why; and what is written down when it has run.

A stage is done where its outputs are there and were made by its commands from today's inputs. Outputs that record what they
were made from say so themselves (recorded_inputs.py). For all others, and against damage, `stages/NAME.json` in the work folder
has the hashes of inputs and outputs. Its own module because listing the stages and running them ask the same questions.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from content_hashes import FileHashes, differing_files, hash_files, is_run
from pydantic import BaseModel, ValidationError
from recorded_inputs import is_recorded, recorded_difference, records_input, unfinished_reason
from stage_list import CommandLine, Stage, StageList, parse_command

from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder, read_json, write_json

_STATE_FOLDER = Path("stages")


class Standing(Enum):
    """Where a stage stands; the value is the word that a person reads."""

    DONE = "done"
    NEW = "to do"
    UNFINISHED = "goes on"
    STALE = "again"
    WAITING = "after others"


@dataclass(frozen=True)
class Examination:
    """Where a stage stands and why; `paths_to_move` are the outputs that stand in its way and are renamed before it runs."""

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


def write_end(stage: Stage, seconds: float | None = None) -> None:
    """Write down that a stage has ended, after how many seconds; None for outputs that were made by hand."""
    state = StageState(
        commands=stage.commands,
        needs=_hash_all(stage.needs),
        gives=_hash_all(stage.gives),
        seconds=seconds,
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    _write_state(stage, state)


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
    if waiting_for:
        return Examination(Standing.WAITING, f"after {', '.join(waiting_for)}")
    for needed in stage.needs:
        if not Path(needed).exists():
            raise UserError(f"stage {stage.name} needs it, and it is not there", where=Path(needed).absolute())
    return _examine_outputs(stage)


def _examine_outputs(stage: Stage) -> Examination:
    state = read_state(stage)
    needs = _hash_all(stage.needs)
    changes = [] if state is None else _changes_since(state, stage, needs)
    missing = [output for output in stage.gives if not Path(output).exists()]
    try:
        reasons = [unfinished_reason(Path(output)) for output in stage.gives if Path(output).exists()]
    except UserError as error:  # a result that cannot be read
        return _stale(stage, str(error))
    unfinished = [reason for reason in reasons if reason is not None]
    if len(missing) == len(stage.gives):
        return Examination(Standing.NEW)
    if missing or unfinished:
        if changes:
            return _stale(stage, "; ".join(changes))
        return Examination(Standing.UNFINISHED, "; ".join([*unfinished, *(f"{path} is missing" for path in missing)]))
    if state is not None and state.gives is not None:
        damaged = [place for output in stage.gives for place in _changed_places(output, state.gives, "{} is damaged")]
        if not damaged and not changes:
            return Examination(Standing.DONE)
        if damaged and not _has_right_results_only(stage):
            return _stale(
                stage, "; ".join(damaged + changes), [Path(place.split(" is damaged")[0]) for place in damaged]
            )
    return _examine_records(stage, changes)


def _examine_records(stage: Stage, changes: list[str]) -> Examination:
    """By what whole outputs record themselves: done where all say the right inputs."""
    commands = [parse_command(command, stage.name) for command in stage.commands]
    differences: list[str] = []
    changed_needs = [needed for needed in stage.needs if any(change.startswith(needed) for change in changes)]
    for output in map(Path, stage.gives):
        command = _command_that_records(commands, output)
        if command is None or not all(records_input(command, Path(needed)) for needed in changed_needs):
            return _stale(stage, "; ".join(changes) or f"nothing says what {output} was made from")
        if difference := recorded_difference(command, output):
            differences.append(difference)
    if differences:
        return _stale(stage, "; ".join([*changes, *differences]))
    write_end(stage)
    return Examination(Standing.DONE, "by what its output records")


def _has_right_results_only(stage: Stage) -> bool:
    """Whether all outputs are results, which have a hash of themselves: a later one is no damaged one."""
    return all(output.endswith((".json", ".questions.jsonl")) for output in stage.gives) and any(
        command.startswith("orca-bench eval ") for command in stage.commands
    )


def _command_that_records(commands: list[CommandLine], output: Path) -> CommandLine | None:
    """The command whose output says itself what it was made from; None where no command's does."""
    recording = [command for command in commands if is_recorded(command, output)]
    return recording[0] if len(recording) == len(commands) == 1 else None


def _changes_since(state: StageState, stage: Stage, needs: dict[str, FileHashes]) -> list[str]:
    """What is other than when the stage began: its commands, and the files that it needs."""
    changes = [] if state.commands == stage.commands else ["its commands have changed"]
    changes += [f"{needed} is new" for needed in needs if needed not in state.needs]
    return changes + [
        place
        for needed in needs
        if needed in state.needs
        for place in _changed_places(needed, state.needs, "{} has changed")
    ]


def _changed_places(path: str, hashes_by_path: dict[str, FileHashes], text: str) -> list[str]:
    """The first file of a path that is other than written down, put into `text`; empty where all are the same."""
    files = differing_files(hash_files(Path(path)), hashes_by_path.get(path, {}))
    return [text.format(Path(path) / files[0])] if files else []


def _stale(stage: Stage, reason: str, damaged_files: list[Path] | None = None) -> Examination:
    """That a stage runs again; its outputs are renamed first, of a damaged run's model that alone."""
    outputs = [Path(output) for output in stage.gives if Path(output).exists()]
    if damaged_files is not None:
        outputs = [_part_to_move(output, damaged_files) for output in outputs]
    return Examination(Standing.STALE, reason, tuple(outputs))


def _part_to_move(output: Path, damaged_files: list[Path]) -> Path:
    """The model of a run where only that is damaged, which training writes again from its last checkpoint; else the output."""
    is_of_model_only = all(output / "model" in file.parents for file in damaged_files)
    return output / "model" if output.is_dir() and is_run(output) and is_of_model_only else output


def move_aside(path: Path) -> Path:
    """Rename an output to the first free NAME.old-N; returns that. Raises UserError for a run that another process trains."""
    if path.is_dir() and is_run(path):
        from orca_bench.train.run_folder import Run

        moved_folder = Run(path).move_aside()
        assert moved_folder is not None, "a run with a recipe is not empty"
        return moved_folder
    number = 1
    while (new_path := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.rename(new_path)
    return new_path


def remove_if_equal(renamed_path: Path, path: Path) -> None:
    """Remove an output that was renamed, where its stage has written the same bytes again."""
    if hash_files(renamed_path) != hash_files(path):
        return
    if renamed_path.is_dir():
        shutil.rmtree(renamed_path)
    else:
        renamed_path.unlink()


def _state_path(stage: Stage) -> Path:
    return _STATE_FOLDER / f"{stage.name}.json"


def _hash_all(paths: list[str]) -> dict[str, FileHashes]:
    return {path: hash_files(Path(path)) for path in paths}
