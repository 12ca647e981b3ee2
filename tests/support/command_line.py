"""`orca-bench` as the tests run it: in the process of the tests, or in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from waiting import PATIENCE_S

#: No test reaches the network: the hub's client reads this when it is imported.
OFFLINE = {"HF_HUB_OFFLINE": "1"}
os.environ.update(OFFLINE)


def _stream(descriptor: int) -> TextIO:
    """A text stream of a file descriptor that stays open when the stream is closed."""
    return open(descriptor, "w", encoding="utf-8", closefd=False)


@contextlib.contextmanager
def in_process(folder: Path, words: Iterable[str]) -> Iterator[subprocess.CompletedProcess]:
    """Within it this process looks like a new one: arguments, folder, environment, streams that go to files.

    Yields what becomes the process's outcome: its output is set at the end, its return code by the caller. The streams
    are those of the file descriptors 1 and 2, so that what libraries print and what they log to a stream of an earlier
    command is in it too.
    """
    outcome = subprocess.CompletedProcess(list(words), 0)
    before, environment, arguments = Path.cwd(), dict(os.environ), sys.argv
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams = sys.stdout, sys.stderr
    copies = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        sys.argv = ["orca-bench", *outcome.args]
        os.chdir(folder)
        try:
            yield outcome
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = streams
            for number, copy in enumerate(copies, 1):
                os.dup2(copy, number)
                os.close(copy)
            sys.argv = arguments
            os.chdir(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(environment)
            for file, name in ((out, "stdout"), (err, "stderr")):
                file.seek(0)
                setattr(outcome, name, file.read().decode(errors="backslashreplace"))


class Command:
    """Runs `orca-bench` in a folder of its own.

    Calling it runs the command line in this process, because a Python that imports torch and transformers takes seconds:
    `main` itself, with the standard streams, the folder and the environment of a process. `process` and `start` run a
    real process, for what only a process shows: signals, locks, launchers, an environment read at import.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def start(self, *words, **options) -> subprocess.Popen:
        """Start a process; the caller waits for it. `python_words` are Python's own, before WORDS: by default `-m orca_bench`."""
        python_words = options.pop("python_words", ("-m", "orca_bench"))
        environment = os.environ | OFFLINE | options.pop("env", {})
        return subprocess.Popen(
            [sys.executable, *python_words, *map(str, words)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def process(self, *words, timeout=PATIENCE_S, **options) -> subprocess.CompletedProcess:
        """Run a process to its end."""
        process = self.start(*words, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def several(self, *commands, env) -> list[subprocess.CompletedProcess]:
        """Run commands, each a list of words, one after another in one process with these variables; what each did."""
        request = {"environment": env, "commands": [list(map(str, words)) for words in commands]}
        process = subprocess.run(
            [sys.executable, Path(__file__).with_name("several_commands.py")],
            cwd=self.folder,
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
        return [subprocess.CompletedProcess(*outcome) for outcome in json.loads(process.stdout.splitlines()[-1])]

    def __call__(self, *words, **options) -> subprocess.CompletedProcess:
        """Run a command in this process, or, with options of a process (`env`), in one of its own."""
        if options or "--processes" in words:
            return self.process(*words, **options)
        with in_process(self.folder, map(str, words)) as outcome:
            from orca_bench.cli.main import main

            try:
                main()
            except SystemExit as end:
                outcome.returncode = end.code or 0
        return outcome

    def refused(self, *words, **options) -> str:
        """Run a command that must be refused: exit 2, one line, no traceback; returns the line."""
        return refusal_of(self(*words, **options))


def refusal_of(process: subprocess.CompletedProcess) -> str:
    """The line of a command that was refused: exit 2, one line, no traceback."""
    assert process.returncode == 2, (process.args, process.returncode, process.stdout, process.stderr)
    assert "Traceback" not in process.stderr + process.stdout
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("error: "), lines
    return lines[0]
