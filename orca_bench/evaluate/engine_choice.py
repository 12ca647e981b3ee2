"""Which engine computes the answers: this process's own (hf), a vLLM server started here, or a server that runs already.

Gives back a ready engine with the model's tokenizer, and what a result and the store of answers must know of it.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import tokenizers
from orca_bench.child_processes import free_port
from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.servers import supervisor
from orca_bench.models import architecture, model_folder
from orca_bench.models import model_identity as identities

if TYPE_CHECKING:
    from orca_bench.evaluate.servers.server_engine import ServerEngine

NAMES = ("hf", "vllm", "api")
_START_S = 1800  # a server that loads 100 GB from a slow disk


@dataclass(frozen=True)
class EngineConfig:
    """Which engine, and its options; those of another engine are None.

    `device_map` and `processes` are hf's, `tensor_parallel` is vllm's, `base_url` and `served_model` are api's, and
    `concurrency`, requests at a time, is of both servers.
    """

    name: str = "hf"
    processes: int = 1
    device_map: str | None = None
    tensor_parallel: int = 1
    base_url: str | None = None
    served_model: str | None = None
    concurrency: int = 16


def default_processes() -> int:
    """One a GPU, and one without GPUs."""
    import torch

    return max(1, torch.cuda.device_count())


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that can be asked, its tokenizer, the context window in tokens, and what a result says of the model.

    `identity` is all that answers depend on besides protocol and requests (`models.identity`); of a server's weights nothing
    is known, and `probe`, its answer to a fixed question in nats, stands for them. `longest_pair` is how many ids a request
    that is scored may have, None where the window alone says it; `returns_tokens` is whether the tokens of a text are known.
    """

    engine: object
    tokenizer: object
    window: int
    model: dict
    identity: dict
    probe: float | None = None
    longest_pair: int | None = None
    returns_tokens: bool = True


@contextlib.contextmanager
def open_engine(
    config: EngineConfig, model: str, name: str, dtype: str, say: Callable[[str], None], scores: bool = True
) -> Iterator[LoadedEngine]:
    """The chosen engine for a model folder, checked; it ends with the block. `scores`: whether any is asked for."""
    if config.name == "hf":
        yield _own(config, model, name, dtype, say)
        return
    tokenizer = tokenizers.load(model)
    with _vllm(config, model, dtype, say) if config.name == "vllm" else contextlib.nullcontext(config.base_url) as url:
        from orca_bench.evaluate.servers.server_engine import ServerEngine

        with contextlib.closing(ServerEngine(url, config.served_model, config.concurrency)) as engine:
            yield _served(config, engine, tokenizer, model, name, dtype, scores)


def _served(
    config: EngineConfig, engine: ServerEngine, tokenizer, model: str, name: str, dtype: str, scores: bool
) -> LoadedEngine:
    """A server that was checked, and what is known of it and of its model."""
    probe = engine.check(scores, tokenizer.stop_ids)
    served = {"name": config.name, "served_model": engine.model}
    if config.name == "api":
        served["base_url"] = engine.base_url
    window = _smaller_window(model, engine.window)
    known = served | {"sampling": engine.sampling} | ({} if probe.text is None else {"probe_text": probe.text})
    identity = identities.of_server(known, model, dtype if config.name == "vllm" else None)
    description = {"path": model, "name": name, "tokenizer_sha256": tokenizer.fingerprint, "identity": identity}
    description["engine"] = served | {
        "sampling": engine.sampling,
        "window": engine.window,
        "differences": engine.differences,
    }
    if probe.value is not None:
        description["engine"]["probe"] = probe.value
    # All ids are fed, and the server must be let to generate one: vLLM wants room for both in its window.
    longest_pair = (engine.window or window) - 1
    return LoadedEngine(
        engine, tokenizer, window, description, identity, probe.value, longest_pair, engine.returns_tokens
    )


def _smaller_window(model: str, servers: int | None) -> int:
    """The window of the model's folder or of the server, whichever is smaller; the folder may hold a tokenizer alone."""
    try:
        window = model_folder.window_of(model)
    except UserError:
        if servers is None:
            raise
        return servers
    return min(window, servers or window)


def _own(config: EngineConfig, model: str, name: str, dtype: str, say: Callable[[str], None]) -> LoadedEngine:
    from orca_bench.evaluate.engine import tree_engine as own

    engine, tokenizer = own.load(model, dtype, config.device_map)
    try:
        engine.choose_path()
    except NotFinite:
        raise UserError("the model gives NaN or infinity", where=model, hint="its weights are broken") from None
    except UserError as error:
        raise UserError(error.what, where=model, hint=error.hint) from None
    if note := engine.note:
        say(f"{name}: {note}")
    attending = {"attention": engine.attention, "path": engine.path, "tree_limit": engine.limit}
    identity = identities.of_loaded(engine.model, model, engine.device, attending)
    description = {
        "path": model,
        "name": name,
        "identity": identity,
        "fingerprint": identity["weights"],
        "tokenizer_sha256": tokenizer.fingerprint,
        "parameters": sum(p.numel() for p in engine.model.parameters()),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "device": str(engine.device),
        "engine": {"name": "hf", "processes": config.processes, **engine.description},
    }
    return LoadedEngine(engine, tokenizer, architecture.window(engine.model.config), description, identity)


@contextlib.contextmanager
def _vllm(config: EngineConfig, model: str, dtype: str, say: Callable[[str], None]) -> Iterator[str]:
    """The address of a vLLM server that is started for a model here, and ended with the block."""
    program = shutil.which("vllm")
    if program is None:
        raise UserError("vLLM is not installed", where="--engine vllm", hint="pip install 'orca-bench[vllm]'")
    port = free_port()
    command = [program, "serve", model, "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model"]
    command += ["--dtype", dtype, "--tensor-parallel-size", str(config.tensor_parallel), "--enable-prefix-caching"]
    with tempfile.NamedTemporaryFile(prefix="orca-bench-vllm-", suffix=".log", delete=False) as log:
        process = supervisor.start(command, log)
    say(f"vLLM is starting; what it says: {log.name}")
    try:
        _await(process, port, log.name)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        supervisor.end(process)


def _await(process: subprocess.Popen, port: int, log: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = f": {lines[-1].strip()[:200]}" if lines else ""
            raise UserError(f"vLLM ended with exit code {process.returncode}{said}", where=log)
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5),
        ):
            return
        time.sleep(0.2)
    raise UserError(f"vLLM did not start within {_START_S} s", where=log)
