"""`orca-bench serve` as a process of its own: started, asked for its metrics, measured, and ended.

Its own module because the programs that score over the server and that load it start it alike.
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
from collections.abc import Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 600
_END_TIMEOUT_S = 600


class ServerProcess:
    """A running server: its process, its `url`, the name of its model and what it writes on standard error."""

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
        return self._log_file.read_text(encoding="utf-8", errors="replace")

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
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "serve.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "orca_bench", "serve", str(model), "--port", "0", *words],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            )
        try:
            server = ServerProcess(process, log_file, _url(process, log_file))
            with contextlib.closing(server.client):
                yield server
        finally:
            process.kill()
            process.wait()


def _url(process: subprocess.Popen[bytes], log_file: Path) -> str:
    start = time.monotonic()
    while process.poll() is None and time.monotonic() - start < _START_TIMEOUT_S:
        log = log_file.read_text(encoding="utf-8", errors="replace")
        if (match := re.search(r" at (http://\S+)/ ", log)) is not None:
            return match[1]
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log_file.read_text(encoding='utf-8', errors='replace')[-500:]}")
