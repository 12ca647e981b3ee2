"""Chosen stages in, each run as soon as those that it needs are done, several at a time; out, which of them are done.

What the commands print is in logs/NAME.log. A stage that fails holds up only the stages that need it. At the deadline, and
before an error leaves this module, all commands are stopped as by Ctrl-C, which keeps their work, and those that go on some
seconds later are ended. Its own module because one stage after the other has the terminal to itself, as run_stages.py runs
them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TextIO

from stage_execution import exit_code_of, program_environment, run_if_not_done, run_program_of
from stage_list import CommandLine, Stage, StageList
from stage_state import Examination

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, make_writable_folder

_LOG_FOLDER = Path("logs")
_REPORTED_LOG_LINES = 12  # of a stage that failed
_STOP_S = 15.0  # the time that a command has to keep its work
_INTERRUPTED = 130


class ConcurrentStages:
    """Runs stages, at most `max_running` at a time, for at most `deadline_s` seconds (None: without end)."""

    def __init__(
        self,
        stage_list: StageList,
        examinations: dict[str, Examination],
        max_running: int,
        deadline_s: float | None = None,
    ) -> None:
        self._stage_list, self._examinations = stage_list, examinations
        self._max_running, self._deadline_s = max_running, deadline_s
        self._start_s = time.monotonic()
        self._processes = _Processes()
        self._failed_names: set[str] = set()

    def run(self, chosen: list[Stage]) -> int:
        """Run what is not done; returns 0 where all chosen stages are done at the end, 130 after a stop, else 1.

        Raises UserError where no log can be written. No command runs any more when this returns or raises.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        make_writable_folder(_LOG_FOLDER)
        was_stopped = True
        with ThreadPoolExecutor(self._max_running) as threads:  # waits for its threads, and so for their commands
            try:
                was_stopped = not self._run_all(chosen, threads)
            except KeyboardInterrupt:
                pass
            finally:
                if was_stopped:
                    self._stop_commands()
        missing_names = [stage.name for stage in chosen if not self._examinations[stage.name].is_done]
        self._report(f"{len(chosen) - len(missing_names)} of {len(chosen)} stages are done")
        if missing_names:
            print(f"not done: {', '.join(missing_names)}; the same call goes on", file=sys.stderr)
        return 0 if not missing_names else _INTERRUPTED if was_stopped else 1

    def _run_all(self, chosen: list[Stage], threads: ThreadPoolExecutor) -> bool:
        """Start every stage when its time has come; returns whether all have ended before the deadline."""
        waiting = [stage for stage in chosen if not self._examinations[stage.name].is_done]
        running: dict[Future[int], Stage] = {}
        while waiting or running:
            open_names = {stage.name for stage in [*waiting, *running.values()]}
            for stage in list(waiting):
                giver_names = self._stage_list.giver_names(stage)
                if failed_names := giver_names & self._failed_names:
                    waiting.remove(stage)
                    self._failed_names.add(stage.name)
                    self._report(f"{stage.name}: not run, it needs {', '.join(sorted(failed_names))}")
                elif len(running) < self._max_running and not giver_names & open_names:
                    waiting.remove(stage)
                    running[threads.submit(self._run_stage, stage)] = stage
            if not running:
                continue  # the stages that need a failed one are taken off the list
            ended, _ = wait(running, timeout=self._rest_s(), return_when=FIRST_COMPLETED)
            if not ended:
                return False
            for future in ended:
                self._report_end(running.pop(future), future)
        return True

    def _run_stage(self, stage: Stage) -> int:
        """Run a stage in this thread, with a log of its own; returns the exit code of the command that failed, or 0."""
        with contextlib.ExitStack() as stack:
            with catch_write_errors(_log_path(stage)):
                log = stack.enter_context(_log_path(stage).open("a", encoding="utf-8"))

            def report(text: str) -> None:
                print(text, file=log, flush=True)

            self._report(f"{stage.name}: begins")
            return run_if_not_done(
                stage,
                self._stage_list,
                self._examinations,
                lambda command: self._processes.run(command, log),
                report,
            )

    def _report_end(self, stage: Stage, future: Future[int]) -> None:
        """Report how a stage ended, with the end of its log where it failed."""
        try:
            exit_code = future.result()
            problem = f"exit code {exit_code}" if exit_code else ""
        except (UserError, OSError) as error:
            problem = str(error)
        if not problem:
            self._report(f"{stage.name}: done")
            return
        self._failed_names.add(stage.name)
        try:
            log_lines = _log_path(stage).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:  # a stage may fail before its log is there
            self._report(f"{stage.name}: failed ({problem}); no log: {error.strerror}")
            return
        heading = f"{stage.name}: failed ({problem}); the end of {_log_path(stage)}:"
        self._report("\n  ".join([heading, *log_lines[-_REPORTED_LOG_LINES:]]))

    def _stop_commands(self) -> None:
        try:
            self._report("stopping all commands")
        finally:  # the reader of the report may be gone
            self._processes.stop()

    def _rest_s(self) -> float | None:
        """The seconds that are left; None without a deadline."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._start_s + self._deadline_s - time.monotonic())

    def _report(self, text: str) -> None:
        print(f"{time.monotonic() - self._start_s:6.1f} s  {text}", flush=True)


def _log_path(stage: Stage) -> Path:
    return _LOG_FOLDER / f"{stage.name}.log"


class _Processes:
    """The commands that run, each in a process group of its own; after `stop` none starts any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False

    def run(self, command: CommandLine, log: TextIO) -> int:
        """Run a command to its end in this thread, what it prints in `log` or the command's own file; returns its exit code."""
        return run_program_of(command, lambda words, output: self._run_program(words, output or log, log))

    def _run_program(self, words: list[str], output: TextIO, log: TextIO) -> int:
        with self._lock:
            if self._is_stopped:
                return _INTERRUPTED
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=log, env=program_environment(), process_group=0
            )
            self._running.add(process)
        try:
            return exit_code_of(process.wait())
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """Stop all commands as Ctrl-C does; those that go on for too long are ended with all that they started.

        An interruption of the waiting, such as a second Ctrl-C, ends them at once.
        """
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        end_s = time.monotonic() + _STOP_S
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end_s - time.monotonic()))
        finally:
            for process in running:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
