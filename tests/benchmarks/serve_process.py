"""Servers as processes of their own: started, asked for their metrics, measured, and ended.

Its own module because the programs that score over `orca-bench serve`, load it and time it beside others start it alike.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 600
_END_TIMEOUT_S = 600
_FILES_TIMEOUT_S = 60.0

_T = TypeVar("_T")


class ServerProcess:
    """A running `orca-bench serve`: its process, its `url`, the name of its model and what it writes on standard error."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path, url: str):
        self.process, self.url, self._log_file = process, url, log_file
        self.client = httpx.Client(base_url=url, timeout=600)
        self.model_name: str = self.client.get("/v1/models").json()["data"][0]["id"]

    @property
    def port(self) -> int:
        """The port at 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What the server has written on standard error."""
        return _text(self._log_file)

    def metrics(self) -> dict[str, float]:
        """The values of /metrics by name, without `orca_bench_`."""
        lines = self.client.get("/metrics").text.splitlines()
        pairs = (re.fullmatch(r"orca_bench_(\w+){.*} (\S+)", line) for line in lines)
        return {pair[1]: float(pair[2]) for pair in pairs if pair is not None}

    def memory_mib(self) -> float:
        """The resident memory in MiB; 0 where the system does not tell it by /proc."""
        status = Path(f"/proc/{self.process.pid}/status")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0]) / 1024 if status.is_file() else 0.0

    def open_file_count(self) -> int:
        """How many files and connections the process has open; 0 where the system does not tell it by /proc."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        return len(list(folder.iterdir())) if folder.is_dir() else 0

    def settled_file_count(self, expected_most: int) -> int:
        """How many files and connections are open as soon as there are no more than expected, or else after a minute.

        Connections without a request are closed after some seconds.
        """
        start = time.monotonic()
        while (count := self.open_file_count()) > expected_most and time.monotonic() - start < _FILES_TIMEOUT_S:
            time.sleep(0.5)
        return count

    def wait_until_free(self) -> tuple[float, int]:
        """Wait until no request is open or waits; returns the seconds and the steps of the model that passed."""
        start, first_steps = time.monotonic(), self.metrics()["steps_total"]
        while True:
            metrics = self.metrics()
            if metrics["requests_open"] + metrics["requests_waiting"] == 0:
                return time.monotonic() - start, int(metrics["steps_total"] - first_steps)
            if time.monotonic() - start > _END_TIMEOUT_S:
                raise RuntimeError(f"requests are open after {_END_TIMEOUT_S} s: {metrics}")
            time.sleep(0.005)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=_END_TIMEOUT_S)


@contextlib.contextmanager
def serve_process(model: Path, *words: str) -> Iterator[ServerProcess]:
    """`orca-bench serve MODEL` at a free port with some more words, for a block; raises RuntimeError where it does not start."""
    command = ["-m", "orca_bench", "serve", str(model), "--port", "0", *words]
    with running_python(command, _url) as (process, log_file, url):
        server = ServerProcess(process, log_file, url)
        with contextlib.closing(server.client):
            yield server


def _url(log: str) -> str | None:
    match = re.search(r" at (http://\S+)/ ", log)
    return None if match is None else match[1]


@contextlib.contextmanager
def running_python(
    words: Sequence[str], ready_value: Callable[[str], _T | None]
) -> Iterator[tuple[subprocess.Popen[bytes], Path, _T]]:
    """A Python command for a block, killed at its end: its process, the file of what it writes, and a value.

    The value is that of `ready_value`, which gets what was written until now and gives None as long as the process is not ready.
    Raises RuntimeError where it does not get ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log.txt"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            )
        try:
            yield process, log_file, _wait_until_ready(process, log_file, ready_value)
        finally:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log_file: Path, ready_value: Callable[[str], _T | None]) -> _T:
    start = time.monotonic()
    while process.poll() is None and time.monotonic() - start < _START_TIMEOUT_S:
        if (value := ready_value(_text(log_file))) is not None:
            return value
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {_text(log_file)[-500:]}")


def _text(log_file: Path) -> str:
    return log_file.read_text(encoding="utf-8", errors="replace")
