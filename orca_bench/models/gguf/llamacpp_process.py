"""llama.cpp's server with one GGUF file, in a process of its own: this file is run as a script.

Settings come in as JSON, the first argument; one line of JSON goes out, with the server's address or what llama.cpp says of the
file. Its log goes to standard error. The process ends when its standard input closes, which the system does also for a parent
that is killed. Its own module because it is a script, of which a crash must end nothing else: nothing of this package is
imported here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def _run(settings: dict[str, Any]) -> None:
    """Serve a file until standard input closes."""
    # What libraries print to standard output must not stand in the way of the one line.
    report_descriptor = os.dup(1)
    os.dup2(2, 1)
    # Also while llama.cpp loads the file, which may take minutes.
    threading.Thread(target=_end_with_input, daemon=True).start()

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["path"]
    parameters.n_parallel = settings["slot_count"]
    parameters.n_ctx = settings["slot_count"] * settings["context_tokens"]
    parameters.cache_type_k = parameters.cache_type_v = getattr(
        xllamacpp.ggml_type, f"GGML_TYPE_{settings['cache_type'].upper()}"
    )
    if not settings["uses_flash_attention"]:
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings["thread_count"]
    parameters.cache_ram_mib = 0  # no copies of slots that are not in use
    parameters.verbosity = 1  # errors
    try:
        server = xllamacpp.Server(parameters)
        report = {"address": server.listening_address}
    except RuntimeError as error:
        report = {"error": str(error)}
    os.write(report_descriptor, json.dumps(report).encode() + b"\n")
    os.close(report_descriptor)
    threading.Event().wait()


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    _run(json.loads(sys.argv[1]))
