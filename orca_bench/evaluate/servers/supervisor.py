"""A program that is not part of this package (vLLM), run so that it ends with this process, however this process ends.

In: a command. Out: a process whose exit code is the program's. Between the two stands a supervisor, this file run as a script:
it reads a pipe whose other end only this process has, and ends the program when the pipe closes, which the system does also for
a process that is killed. Its own module because it is also a script: nothing of this package is imported here, so that it starts
at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

_TERMINATION_GRACE_S = 5  # between SIGTERM and SIGKILL
_SUPERVISOR_END_TIMEOUT_S = 60  # that the supervisor may take to end: the grace and more on a machine that is busy
_POLL_INTERVAL_S = 0.1
_PRCTL_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def start_program(command: Sequence[str], log_file: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program, in a session of its own, that writes to `log_file`; returns its supervisor. See `end_program`."""
    # -I: neither this folder, whose modules may have the names of Python's, nor PYTHONPATH is searched for modules.
    supervisor_command = [sys.executable, "-I", __file__, *command]
    return subprocess.Popen(
        supervisor_command, stdin=subprocess.PIPE, stdout=log_file, stderr=log_file, start_new_session=True
    )


def end_program(supervisor_process: subprocess.Popen[bytes]) -> None:
    """End a program that was started here, and all processes of its session: SIGTERM, and some seconds later SIGKILL."""
    if supervisor_process.stdin is not None:
        with contextlib.suppress(OSError):
            supervisor_process.stdin.close()
    try:
        supervisor_process.wait(_SUPERVISOR_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor_process.kill()
        supervisor_process.wait()


def _supervise(command: list[str]) -> int:
    """Run a program until it ends, standard input closes, or SIGTERM comes; its exit code as a shell has it."""
    stop_event = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop_event.set())

    def watch_stdin() -> None:
        while os.read(0, 1024):
            pass
        stop_event.set()

    # Before the thread: what `preexec_fn` runs in the copy of this process must not meet a lock that a thread held.
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_supervisor
    )
    threading.Thread(target=watch_stdin, daemon=True).start()
    while program.poll() is None and not stop_event.wait(_POLL_INTERVAL_S):
        pass
    _end_session(program)
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def _end_with_supervisor() -> None:
    """In the program, before it is executed: have the system end it where the supervisor is killed itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PRCTL_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _end_session(program: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _TERMINATION_GRACE_S
    while time.monotonic() < deadline_s and _is_session_alive(program):
        time.sleep(_POLL_INTERVAL_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def _is_session_alive(program: subprocess.Popen[bytes]) -> bool:
    program.poll()  # one that has ended stays in its group until it is waited for
    try:
        os.killpg(program.pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(_supervise(sys.argv[1:]))
