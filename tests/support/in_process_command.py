"""`orca-bench` run inside the test's own process: what a test of messages and files needs, without an interpreter's start.

The command line that a user starts is `conftest.Command`; this has its interface.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

from click.testing import CliRunner

from orca_bench.cli.main import cli


class InProcessCommand:
    """Runs the command line in a folder, with the environment and the exit codes of the program."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, *words: object, env: dict[str, str] | None = None) -> CompletedProcess[str]:
        with _working_directory(self.folder):
            run = CliRunner().invoke(cli, [str(word) for word in words], env={"HF_HUB_OFFLINE": "1"} | (env or {}))
        return CompletedProcess(words, run.exit_code, run.stdout, run.stderr)

    def refused(self, *words: object, env: dict[str, str] | None = None) -> str:
        """Run a command that must be refused: exit 2, one line, no traceback; returns the line."""
        done = self(*words, env=env)
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr + done.stdout
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: "), lines
        return lines[0]


@contextlib.contextmanager
def _working_directory(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
