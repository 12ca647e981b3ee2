"""A stage and where it stands in; out, its commands run, and what they gave written down. Who runs a command is the caller's.

Its own module because run_stages.py runs stages one after the other in the terminal, and concurrent_stages.py several at a time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from stage_list import CommandLine, Stage, StageList, parse_command
from stage_state import (
    Examination,
    Standing,
    examine,
    move_aside,
    only_runner,
    read_state,
    remove_if_equal,
    write_end,
    write_start,
)

from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder, open_text_replacement

CHECKOUT = Path(__file__).resolve().parents[2]

#: Runs one command to its end, and returns its exit code.
RunCommand = Callable[[CommandLine], int]
#: Runs the words of a program, its standard output in a file unless that is None, to its end, and returns its exit code.
RunProgram = Callable[[list[str], TextIO | None], int]
Report = Callable[[str], None]


def print_at_once(text: str) -> None:
    """Print a line before what a command prints next."""
    print(text, flush=True)


def run_if_not_done(
    stage: Stage,
    stage_list: StageList,
    examinations: dict[str, Examination],
    run_command: RunCommand,
    report: Report = print_at_once,
) -> int:
    """Look at a stage again, run it where it is not done, and write its new standing into `examinations`.

    Returns the exit code of the command that failed, or 0. Raises UserError where an input or an output is missing, and where a
    stage before it is not done.
    """
    was_done = examinations[stage.name].is_done
    with only_runner(stage):
        examination = examine(stage, stage_list, examinations)  # an earlier stage may have changed what it needs
        if examination.is_done:
            if not was_done:  # the earlier stage wrote the same bytes again
                report(f"\n{stage.name}: done, its inputs are what they were")
        elif examination.standing is Standing.WAITING:
            raise UserError(f"stage {stage.name} cannot run: {examination.reason}", where="--stages", hint="add them")
        elif exit_code := _run_stage(stage, examination, run_command, report):
            return exit_code
    examinations[stage.name] = examine(stage, stage_list, examinations)
    return 0


def _run_stage(stage: Stage, examination: Examination, run_command: RunCommand, report: Report) -> int:
    """Run a stage's commands; returns the exit code of the one that failed, or 0.

    Raises UserError where an output is missing afterwards, and KeyboardInterrupt where the user stops it.
    """
    report(f"\n{stage.name}: {stage.does} ({time_text(stage.minutes)})")
    moved_path_by_path = {path: move_aside(path) for path in examination.paths_to_move if path.exists()}
    for path, moved_path in moved_path_by_path.items():
        report(f"{path} is now {moved_path} ({examination.reason})")
    if examination.standing is not Standing.UNFINISHED or read_state(stage) is None:
        write_start(stage)
    for output in stage.gives:
        make_writable_folder(Path(output).parent)
    start_s = time.monotonic()
    for text in stage.commands:
        command = parse_command(text, stage.name)
        report(f"$ {command}")
        if exit_code := run_command(command):
            return exit_code
    for output in stage.gives:
        if not Path(output).exists():
            raise UserError(f"stage {stage.name} has not written it", where=output)
    for path, moved_path in moved_path_by_path.items():
        remove_if_equal(moved_path, path)
    write_end(stage, time.monotonic() - start_s)
    report(f"{stage.name}: done after {time_text((time.monotonic() - start_s) / 60)}")
    return 0


def time_text(minutes: float) -> str:
    """A time of some minutes, in words."""
    if minutes < 1:
        return "less than a minute"
    if minutes < 1.5:
        return "about a minute"
    hours, rest = divmod(round(minutes), 60)
    return f"about {hours} h {rest:02d} min" if hours else f"about {rest} minutes"


def program_words(command: CommandLine) -> list[str]:
    """The words that start a command's program with this Python."""
    program = [sys.executable, "-m", "orca_bench"] if command.words[0] == "orca-bench" else [sys.executable]
    return [*program, *command.words[1:]]


def program_environment() -> dict[str, str]:
    """The environment of a command's program, in which this checkout is imported before anything else."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def run_program_of(command: CommandLine, run_program: RunProgram) -> int:
    """Run the program of a command; returns its exit code. Its file, if it writes one, stays as it was where that is not 0."""
    try:
        with contextlib.ExitStack() as stack:
            output = None
            if command.output_file is not None:
                make_writable_folder(Path(command.output_file).parent)
                output = stack.enter_context(open_text_replacement(Path(command.output_file)))
            if exit_code := run_program(program_words(command), output):
                raise _CommandFailure(exit_code)
    except _CommandFailure as failure:
        return failure.exit_code
    return 0


class _CommandFailure(Exception):
    """A command that ended with another exit code than 0."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"exit code {exit_code}")


def exit_code_of(return_code: int) -> int:
    """The exit code as a shell says it: 128 and the signal's number for a program that a signal has ended."""
    return return_code if return_code >= 0 else 128 - return_code
