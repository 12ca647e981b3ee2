"""Processes that do not outlive the command that started them.

In: what the command starts. Out: a `Lifeline`, whose environment variables a started process gets and passes on to all that it
starts in turn. When the command ends, all processes that have them are killed, whichever process has started them (torch gives
each of torchrun's workers a session of its own, so that killing a process group does not reach them). Where the command itself
is killed, the started process must help: `end_with_command` ends it within a second. Its own module because the end of a
command has to be noticed by code that imports nothing heavy.

The lifeline is a named pipe in a temporary folder. Only the command has its writing end, which no other process inherits, and
the system closes it however the command ends: whoever reads the pipe then gets its end of file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

import psutil

_LIFELINE_VARIABLE = "ORCA_BENCH_LIFELINE"
_PURPOSE_VARIABLE = "ORCA_BENCH_PURPOSE"
_POLL_INTERVAL_S = 0.5
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


class Lifeline:
    """A context manager that ends all processes that were started with its `environment` in the block.

    `purpose` names what they do, so that another command can find out whether they still run; see `running`.
    """

    def __init__(self, purpose: str):
        self.purpose = purpose
        self._folder = Path(tempfile.mkdtemp(prefix="orca-bench-"))
        self._pipe_path = self._folder / "lifeline"
        os.mkfifo(self._pipe_path, 0o600)
        # Opened for reading too: opening for writing alone fails where nobody reads yet.
        self._write_descriptor = os.open(self._pipe_path, os.O_RDWR | os.O_NONBLOCK)

    @property
    def environment(self) -> dict[str, str]:
        """What to add to the environment of a process that is started."""
        return {_LIFELINE_VARIABLE: str(self._pipe_path), _PURPOSE_VARIABLE: self.purpose}

    def __enter__(self) -> Lifeline:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write_descriptor)
        _kill_processes_with(_LIFELINE_VARIABLE, str(self._pipe_path))
        shutil.rmtree(self._folder, ignore_errors=True)


def end_with_command() -> None:
    """From now on this process ends when the command that started it ends, or its parent does.

    It ends at once and without a message: nobody is left to read one. Does nothing in a process without a lifeline.
    """
    pipe_path, parent_id = os.environ.get(_LIFELINE_VARIABLE), os.getppid()
    if not pipe_path:
        return
    if sys.platform == "linux":  # reaches a process whose threads cannot run
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    try:
        descriptor = os.open(pipe_path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # the command has ended and removed it
        end_with_children(1)
    threading.Thread(target=_watch_parent, args=(descriptor, parent_id), daemon=True).start()


def end_with_parent() -> None:
    """From now on this process ends when its parent does: for a process that somebody else's launcher started."""
    threading.Thread(target=_watch_parent, args=(None, os.getppid()), daemon=True).start()


def end_at_once(exit_code: int) -> NoReturn:
    """End this process without Python's own clean-up, once its output is written; for processes with gloo's groups.

    torch 2.13: in 2 of 170 runs of a test, and in CI, a process aborted after its work with "terminate called without an active
    exception" (exit code -6). gloo's threads let go of tensors while Python ends, for which they need its lock; PyTorch's
    issue 190489 and pull request 179291, which was given up, describe it.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(exit_code)


def _watch_parent(pipe_descriptor: int | None, parent_id: int) -> None:
    while (is_open := pipe_descriptor is None or _is_open(pipe_descriptor)) and os.getppid() == parent_id:
        time.sleep(_POLL_INTERVAL_S)
    if not is_open:  # nobody else is left to remove it
        shutil.rmtree(Path(os.environ[_LIFELINE_VARIABLE]).parent, ignore_errors=True)
    end_with_children(1)


def _is_open(pipe_descriptor: int) -> bool:
    """Whether the command still has the other end of the pipe. It never writes, so there is nothing to read or the end."""
    try:
        return os.read(pipe_descriptor, 1) != b""
    except BlockingIOError:
        return True


def end_with_children(exit_code: int) -> NoReturn:
    """End this process at once, and before it all that it has started."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):  # compilers that DeepSpeed has started, say
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(exit_code)


def find_free_port() -> int:
    """A port of 127.0.0.1 that is free now, for a process that is started next."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def running_process_ids(purpose: str) -> list[int]:
    """The ids of this machine's processes that have a lifeline of this purpose."""
    return [process.pid for process in _processes_with(_PURPOSE_VARIABLE, purpose)]


def _processes_with(variable_name: str, variable_value: str) -> list[psutil.Process]:
    """The running processes that have this environment variable."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has ended, or is another user's
            if process.environ().get(variable_name) == variable_value and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def _kill_processes_with(variable_name: str, variable_value: str, timeout_s: float = 5.0) -> None:
    """Kill all processes that have the variable, until none is left after `timeout_s` seconds: one may be starting another."""
    deadline_s = time.monotonic() + timeout_s
    while (remaining_processes := _processes_with(variable_name, variable_value)) and time.monotonic() < deadline_s:
        for process in remaining_processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(remaining_processes, timeout=0.5)
