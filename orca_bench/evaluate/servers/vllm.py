"""A model folder in, the address of a vLLM server for it out; the server ends with the block that uses it.

Its own module because it knows vLLM's command line and nothing of requests. Price: vLLM needs minutes to start.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from orca_bench.child_processes import find_free_port
from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.servers import supervisor

_START_S = 1800  # a server that loads 100 GB from a slow disk
_POLL_S = 0.2
_HEALTH_S = 30  # that the answer to "are you up?" may take


@contextlib.contextmanager
def serve(model: str, dtype: str, tensor_parallel: int, message: Callable[[str], None]) -> Iterator[str]:
    """The address (…/v1) of a vLLM server that is started here for a model folder, on `tensor_parallel` GPUs.

    `message` gets a sentence that names its log. Raises UserError where vLLM is not installed, ends, or does not start.
    """
    vllm_path = shutil.which("vllm")
    if vllm_path is None:
        raise UserError("vLLM is not installed", where="--engine vllm", hint="pip install 'orca-bench[vllm]'")
    port = find_free_port()
    command = [vllm_path, "serve", model, "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model"]
    command += ["--dtype", dtype, "--tensor-parallel-size", str(tensor_parallel), "--enable-prefix-caching"]
    with tempfile.NamedTemporaryFile(prefix="orca-bench-vllm-", suffix=".log", delete=False) as log_file:
        process = supervisor.start(command, log_file)
    message(f"vLLM is starting; its log: {log_file.name}")
    try:
        _await_start(process, port, Path(log_file.name))
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        supervisor.end(process)


def _await_start(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    """Wait until the server answers; raises UserError with the last line of its log where it ends before."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log_lines = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last_line_text = f": {one_line(log_lines[-1], 200)}" if log_lines else ""
            raise UserError(f"vLLM ended with exit code {process.returncode}{last_line_text}", where=log_path)
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=_HEALTH_S),
        ):
            return
        time.sleep(_POLL_S)
    raise UserError(f"vLLM did not start within {_START_S} s", where=log_path)
