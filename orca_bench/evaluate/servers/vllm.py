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
from orca_bench.models.model_folder import ModelFolder

_START_TIMEOUT_S = 1800  # a server that loads 100 GB from a slow disk
_POLL_INTERVAL_S = 0.2
_HEALTH_TIMEOUT_S = 30  # that the answer to "are you up?" may take


@contextlib.contextmanager
def serve(
    model_folder: ModelFolder, dtype_name: str, tensor_parallel_size: int, show_message: Callable[[str], None]
) -> Iterator[str]:
    """The address (…/v1) of a vLLM server that is started here for a model folder, on `tensor_parallel_size` GPUs.

    `show_message` gets a sentence that names its log. Raises UserError where vLLM is not installed, ends, or does not start.
    """
    vllm_path = shutil.which("vllm")
    if vllm_path is None:
        raise UserError("vLLM is not installed", where="--engine vllm", hint="pip install 'orca-bench[vllm]'")
    port = find_free_port()
    vllm_command = [
        vllm_path,
        "serve",
        model_folder.path,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--served-model-name",
        "model",
    ]
    vllm_command += [
        "--dtype",
        dtype_name,
        "--tensor-parallel-size",
        str(tensor_parallel_size),
        "--enable-prefix-caching",
    ]
    with tempfile.NamedTemporaryFile(prefix="orca-bench-vllm-", suffix=".log", delete=False) as log_file:
        supervisor_process = supervisor.start_program(vllm_command, log_file)
    show_message(f"vLLM is starting; its log: {log_file.name}")
    try:
        _await_start(supervisor_process, port, Path(log_file.name))
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        supervisor.end_program(supervisor_process)


def _await_start(supervisor_process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    """Wait until the server answers; raises UserError with the last line of its log where it ends before."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if supervisor_process.poll() is not None:
            log_lines = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last_line_text = f": {one_line(log_lines[-1], 200)}" if log_lines else ""
            raise UserError(
                f"vLLM ended with exit code {supervisor_process.returncode}{last_line_text}", where=log_path
            )
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=_HEALTH_TIMEOUT_S),
        ):
            return
        time.sleep(_POLL_INTERVAL_S)
    raise UserError(f"vLLM did not start within {_START_TIMEOUT_S} s", where=log_path)
