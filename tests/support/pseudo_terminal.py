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

import psutil
from command_line import OFFLINE
from waiting import PATIENCE_S

#: Runs `python WORDS` in its own process, with the terminal as the one that controls it. A `preexec_fn` would do it too, but
#: makes subprocess copy the whole process of the tests, for which the memory may not be there.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_terminal(folder: Path, *words: object, columns: int = 100) -> tuple[int, str]:
    """Run `orca-bench WORDS` in a folder on a terminal of this width; returns its exit code and all that it showed."""
    with Terminal(folder, "-m", "orca_bench", *words, columns=columns) as terminal:
        return terminal.wait_for_end()


class Terminal:
    """`python WORDS` on a terminal that it controls, so that Ctrl-C typed there reaches it; killed when the block ends."""

    def __init__(self, folder: Path, *words: object, columns: int = 100):
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = os.environ | OFFLINE | {"TERM": "xterm-256color"}
        environment.pop("COLUMNS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _ON_TERMINAL, *map(str, words)],
            cwd=folder,
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self._output, self._deadline = b"", time.monotonic() + PATIENCE_S
        self._length_when_typed = 0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._leader)

    @property
    def text(self) -> str:
        """All that it has shown."""
        return _readable(self._output)

    def type(self, keys: str) -> None:
        """Type these characters; `\\x03` is Ctrl-C, `\\x04` Ctrl-D. At a prompt, `wait_for_prompt` goes before."""
        self._length_when_typed = len(self._output)
        os.write(self._leader, keys.encode())

    def wait_for(self, words: str, count: int = 1) -> None:
        """Wait until it has shown the words so many times; fails where it ends before, or takes too long."""
        while self.text.count(words) < count:
            assert self._read() and time.monotonic() < self._deadline, f"not shown: {words!r} in {self.text!r}"

    def wait_for_prompt(self, prompt: str = "> ") -> None:
        """Wait until it has shown a prompt since the last keys, on a line of its own, and sleeps: it waits for keys.

        readline sets the mode of the terminal before it shows the prompt. A Ctrl-D before is no end of file, and what is typed
        before may be lost. A Ctrl-C between the prompt and the sleep has an effect with the next key only.
        """
        while not (self._has_prompt(prompt) and psutil.Process(self._process.pid).status() == psutil.STATUS_SLEEPING):
            assert self._read() and time.monotonic() < self._deadline, f"no prompt at the end of {self.text!r}"

    def _has_prompt(self, prompt: str) -> bool:
        return _readable(self._output[self._length_when_typed :]).endswith("\n" + prompt)

    def wait_for_end(self) -> tuple[int, str]:
        """Its exit code and all that it showed."""
        while time.monotonic() < self._deadline and self._read():
            pass
        return self._process.wait(timeout=max(1.0, self._deadline - time.monotonic())), self.text

    def _read(self) -> bool:
        """Take what it shows within a moment; False where the last process has closed the terminal."""
        if not select.select([self._leader], [], [], 0.2)[0]:
            return True
        try:
            chunk = os.read(self._leader, 65536)
        except OSError:  # Linux gives EIO then
            return False
        self._output += chunk
        return bool(chunk)


def _readable(output: bytes) -> str:
    text = _ESCAPES.sub("", output.decode(errors="replace"))
    return text.replace("\r\n", "\n").replace("\r", "\n")
