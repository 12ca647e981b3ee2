"""The stages of a long job, each run where it has not been: `make student`.

    python tests/student/run_stages.py --list
    python tests/student/run_stages.py
    python tests/student/run_stages.py --stages records,check
    python tests/student/run_stages.py --file results/smollm2-orca/one-gpu/stages.yaml --at-once 8 --deadline-seconds 300

The list is results/smollm2-orca/stages.yaml. The commands run in the work folder, $ORCA_BENCH_RUNS or orca-bench/student in the
user's cache folder. A stage is skipped where its outputs are there and were made by its commands from the inputs of today.
Ctrl-C stops the command that runs, which keeps its work; the same call goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TextIO

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(Path(__file__).resolve().parent)]

from concurrent_stages import ConcurrentStages
from stage_execution import exit_code_of, program_environment, run_if_not_done, run_program_of, time_text
from stage_list import CommandLine, Link, Stage, StageList, read_stage_list
from stage_schedule import scheduled_minutes
from stage_state import Examination, examine, read_state

from orca_bench.errors import UserError
from orca_bench.files import cache_folder, make_writable_folder

_DEFAULT_LIST = CHECKOUT / "results" / "smollm2-orca" / "stages.yaml"
_WORK_VARIABLE = "ORCA_BENCH_RUNS"
_CHECKOUT_LINK = "checkout"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="show all stages, and run none")
    parser.add_argument(
        "--stages", default="", metavar="NAME,…", help="run these only; eval-* is all whose names begin so"
    )
    parser.add_argument("--file", type=Path, default=_DEFAULT_LIST, help="the list of stages")
    parser.add_argument(
        "--at-once", type=int, default=1, metavar="N", help="run N stages at a time, what they print into logs/NAME.log"
    )
    parser.add_argument(
        "--deadline-seconds", type=float, metavar="S", help="stop every stage after this time; the same call goes on"
    )
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="a text of the list, such as questions='--limit 2'",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs with it ignored
    try:
        stage_list = read_stage_list(options.file.absolute(), texts_by_name(options.text))
        if options.at_once < 1:
            raise UserError(f"{options.at_once} stages at a time", where="--at-once", hint="1 or more")
        if options.deadline_seconds is not None and not 0 < options.deadline_seconds < threading.TIMEOUT_MAX:
            raise UserError(
                f"{options.deadline_seconds} is no time", where="--deadline-seconds", hint="seconds above 0"
            )
        return run_or_list(stage_list, options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `… --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def texts_by_name(options: list[str]) -> dict[str, str]:
    """The texts of options NAME=TEXT; raises UserError for one without a name."""
    for option in options:
        if "=" not in option:
            raise UserError(f"'{option}' has no '='", where="--text", hint="write NAME=TEXT")
    return dict((name, text) for name, _, text in (option.partition("=") for option in options))


def run_or_list(stage_list: StageList, options: argparse.Namespace) -> int:
    """Show where all stages stand, and run the chosen ones unless only the list is wanted; returns the exit code."""
    chosen = stage_list.select([name.strip() for name in options.stages.split(",") if name.strip()])
    enter_work_folder(stage_list)
    examinations = examine_all(stage_list)
    to_run = [stage for stage in chosen if not examinations[stage.name].is_done]
    summary = f"{len(chosen) - len(to_run)} of {len(chosen)} stages are done; " + rest_text(
        to_run, stage_list, options.at_once
    )
    if options.list:
        print_list(chosen, examinations)
        print(summary)
        return 0
    print(f"work folder: {Path.cwd()}")
    check_stages_before(to_run, stage_list, examinations)
    print(summary)
    print_standings(chosen, examinations)
    if options.at_once > 1 or options.deadline_seconds is not None:
        stages = ConcurrentStages(stage_list, examinations, options.at_once, options.deadline_seconds)
        return stages.run(chosen)
    for stage in chosen:
        if exit_code := run_if_not_done(stage, stage_list, examinations, run_command):
            text = f"stage {stage.name} ended with exit code {exit_code}; the same call goes on from here"
            print(text, file=sys.stderr)
            return exit_code
    return 0


def enter_work_folder(stage_list: StageList) -> None:
    """Make the work folder and its links, and make it the working directory.

    Raises UserError for a work folder in the checkout, and where the files that a link should lead to are not there.
    """
    folder = Path(os.environ.get(_WORK_VARIABLE) or cache_folder("student")).expanduser().absolute()
    if folder.resolve() == CHECKOUT or CHECKOUT in folder.resolve().parents:
        raise UserError("is in the checkout", where=f"{_WORK_VARIABLE}={folder}", hint="name a folder outside of it")
    os.chdir(make_writable_folder(folder))
    make_link(Path(_CHECKOUT_LINK), CHECKOUT)
    for name, link in stage_list.links.items():
        is_named = bool(os.environ.get(link.variable))
        if is_named or not Path(name).exists():
            check_link_target(link)
            make_link(Path(name), link.target(CHECKOUT))


def check_link_target(link: Link) -> None:
    """Raise UserError where what a link should lead to is not there."""
    target = link.target(CHECKOUT)
    if not target.exists():
        raise UserError(f"no such file or folder ({link.holds})", where=target, hint=f"name it with {link.variable}=…")


def make_link(path: Path, target: Path) -> None:
    """Make a link, or lead one that is there elsewhere; raises UserError where something else has its name."""
    if path.is_symlink():
        if path.exists() and path.samefile(target):
            return
        path.unlink()
    elif path.exists():
        raise UserError("stands where a link belongs", where=path.absolute(), hint="rename it")
    path.symlink_to(target.resolve())


def examine_all(stage_list: StageList) -> dict[str, Examination]:
    """Where each stage stands, by name."""
    examinations: dict[str, Examination] = {}
    for stage in stage_list.stages:
        examinations[stage.name] = examine(stage, stage_list, examinations)
    return examinations


def check_stages_before(to_run: list[Stage], stage_list: StageList, examinations: dict[str, Examination]) -> None:
    """Raise UserError where a chosen stage needs one that is neither done nor chosen."""
    names = [stage.name for stage in to_run]
    for stage in to_run:
        for needed in stage.needs:
            giver = stage_list.giver_of(needed)
            if giver is not None and giver.name not in names and not examinations[giver.name].is_done:
                hint = f"add {giver.name}"
                raise UserError(
                    f"stage {stage.name} needs {needed} of stage {giver.name}, which is not done", hint=hint
                )


def print_list(stages: list[Stage], examinations: dict[str, Examination]) -> None:
    """Print each stage with its commands, what it needs and gives, how long it takes, and where it stands."""
    for stage in stages:
        examination = examinations[stage.name]
        reason = f": {examination.reason}" if examination.reason else ""
        print(f"{stage.name} — {examination.standing.value}{reason}")
        print(f"  {stage.does} ({time_text(stage.minutes)}{measured_text(stage)})")
        for command in stage.commands:
            print(f"  $ {command}")
        print(f"  needs {', '.join(stage.needs) or 'nothing'}")
        print(f"  gives {', '.join(stage.gives)}\n")


def measured_text(stage: Stage) -> str:
    """How long a stage took here, where that is known."""
    state = read_state(stage)
    return "" if state is None or state.seconds is None else f"; it took {time_text(state.seconds / 60)} here"


def print_standings(stages: list[Stage], examinations: dict[str, Examination]) -> None:
    """Print which stages are done, and why the others are not."""
    for stage in stages:
        examination = examinations[stage.name]
        reason = f": {examination.reason}" if examination.reason else ""
        print(f"  {stage.name:<24} {examination.standing.value}{reason}")
    sys.stdout.flush()


def rest_text(to_run: list[Stage], stage_list: StageList, max_running: int) -> str:
    """How long the stages that are not done take, so many at a time, on the machine that the list names."""
    if not to_run:
        return "nothing to do"
    minutes_text = time_text(scheduled_minutes(to_run, stage_list, max_running))
    way_text = f", {max_running} at a time," if max_running > 1 else ""
    machine_text = f" on {stage_list.machine}" if stage_list.machine else ""
    return f"the other {len(to_run)} take {minutes_text}{way_text}{machine_text}"


def run_command(command: CommandLine) -> int:
    """Run one command to its end; returns its exit code.

    It has a process group of its own, and Ctrl-C or SIGTERM is passed on to it once each time: orca-bench's commands keep their
    work at the first one, and end at once at the second.
    """
    return run_program_of(command, wait_for)


def wait_for(words: list[str], output: TextIO | None) -> int:
    """Run a program to its end, with its standard output in a file; returns its exit code."""
    process = subprocess.Popen(words, stdout=output, env=program_environment(), process_group=0)
    handlers = {number: signal.signal(number, lambda number, _: pass_on(process, number)) for number in _SIGNALS}
    try:
        return exit_code_of(process.wait())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def pass_on(process: subprocess.Popen[bytes], signal_number: int) -> None:
    """Send a signal to a process that runs."""
    if process.poll() is None:
        process.send_signal(signal_number)


if __name__ == "__main__":
    sys.exit(main())
