"""A command on a terminal: what it prints there, as a person sees it, without colours and movements of the cursor."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from command_line import OFFLINE
from waiting import PATIENCE_S

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_terminal(folder: Path, *words: object, columns: int = 100) -> tuple[int, str]:
    """Run `orca-bench WORDS` in a folder on a terminal of this width; returns its exit code and all that it showed."""
    return run_python_on_terminal(folder, "-m", "orca_bench", *words, columns=columns)


def run_python_on_terminal(folder: Path, *words: object, columns: int = 100) -> tuple[int, str]:
    """The same of `python WORDS`."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = os.environ | OFFLINE | {"TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    chunks, deadline = [], time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            if not select.select([leader], [], [], 0.2)[0]:
                continue
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # Linux gives EIO where the last process has closed the terminal
                break
            if not chunk:
                break
            chunks.append(chunk)
        code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
    finally:
        process.kill()
        os.close(leader)
    text = _ESCAPES.sub("", b"".join(chunks).decode(errors="replace"))
    return code, text.replace("\r\n", "\n").replace("\r", "\n")
