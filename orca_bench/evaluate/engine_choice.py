"""Which engine computes the answers: the one in this process (hf), a vLLM server started here, or a server that runs already.

An `EngineConfig` and a model folder come in; a `LoadedEngine` goes out, with the model's tokenizer and what a result and the
cache of answers must know of the model. Its own module because everything after it is the same for all engines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca_bench import tokenizers
from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine_interface import Engine
from orca_bench.models import architecture, model_folder, model_identity
from orca_bench.tokenizers import Tokenizer

if TYPE_CHECKING:
    from orca_bench.evaluate.servers.server_engine import ServerEngine

ENGINE_NAMES = ("hf", "vllm", "api")


@dataclass(frozen=True)
class EngineConfig:
    """The name of an engine, one of ENGINE_NAMES, and its options; options of other engines are ignored.

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


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that has passed its check, its tokenizer, the context window in tokens, and what a result says of the model.

    `model` is that part of a result. `identity` has all that answers depend on besides protocol and requests (see
    `model_identity`). Of a server's weights nothing is known; `probe`, the log-probability of a fixed request in nats, stands for
    them. `max_pair_ids` is how many ids a request that is scored may have, None where the window alone decides.
    `returns_tokens` is whether the tokens of a text are known, which is needed where the first are discarded.
    """

    engine: Engine
    tokenizer: Tokenizer
    window: int
    model: dict[str, Any]
    identity: dict[str, Any]
    probe: float | None = None
    max_pair_ids: int | None = None
    returns_tokens: bool = True


@contextlib.contextmanager
def open_engine(
    config: EngineConfig, folder: str, name: str, dtype: str, message: Callable[[str], None], needs_scores: bool = True
) -> Iterator[LoadedEngine]:
    """The engine for a model folder, checked; it ends with the block.

    `name` is what results call the model. `message` gets sentences for the user. `needs_scores` is whether
    log-likelihoods will be requested. Raises UserError where the model or the server cannot be used.
    """
    if config.name == "hf":
        yield _load_local_engine(config, folder, name, dtype, message)
        return
    from orca_bench.evaluate.servers import vllm
    from orca_bench.evaluate.servers.server_engine import ServerEngine

    tokenizer = tokenizers.load(folder)
    with contextlib.ExitStack() as stack:
        url = config.base_url or ""
        if config.name == "vllm":
            url = stack.enter_context(vllm.serve(folder, dtype, config.tensor_parallel, message))
        engine = stack.enter_context(contextlib.closing(ServerEngine(url, config.served_model, config.concurrency)))
        yield _check_server(config, engine, tokenizer, folder, name, dtype, needs_scores)


def default_processes() -> int:
    """How many processes compute with engine hf where nothing is said: one for each GPU, one without GPUs."""
    import torch

    return max(1, torch.cuda.device_count())


def _load_local_engine(
    config: EngineConfig, folder: str, name: str, dtype: str, message: Callable[[str], None]
) -> LoadedEngine:
    """The engine in this process."""
    from orca_bench.evaluate.engine import tree_engine

    engine, tokenizer = tree_engine.load(folder, dtype, config.device_map)
    try:
        engine.choose_path()
    except NotFinite:
        raise UserError("the model gives NaN or infinity", where=folder, hint="its weights are broken") from None
    except UserError as error:
        raise UserError(error.what, where=folder, hint=error.hint) from None
    if note := engine.note:
        message(f"{name}: {note}")
    computation = {"attention": engine.attention, "path": engine.path, "tree_limit": engine.tree_limit}
    identity = model_identity.of_loaded(engine.model, folder, engine.device, computation)
    description = {
        "path": folder,
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


def _check_server(
    config: EngineConfig,
    engine: ServerEngine,
    tokenizer: Tokenizer,
    folder: str,
    name: str,
    dtype: str,
    needs_scores: bool,
) -> LoadedEngine:
    """A server that can do what is needed, and what is known of it and of its model."""
    probe = engine.check(needs_scores, tokenizer.stop_ids)
    server_fields: dict[str, Any] = {"name": config.name, "served_model": engine.model}
    if config.name == "api":
        server_fields["base_url"] = engine.base_url
    window = _smaller_window(folder, engine.window)
    probe_fields = {} if probe.text is None else {"probe_text": probe.text}
    identity = model_identity.of_server(
        server_fields | {"sampling": engine.sampling} | probe_fields, folder, dtype if config.name == "vllm" else None
    )
    description = {
        "path": folder,
        "name": name,
        "tokenizer_sha256": tokenizer.fingerprint,
        "identity": identity,
        "engine": server_fields
        | {"sampling": engine.sampling, "window": engine.window, "differences": engine.differences}
        | ({} if probe.value is None else {"probe": probe.value}),
    }
    # All ids are fed, and the server must be let to generate one: vLLM wants room for both in its window.
    max_pair_ids = (engine.window or window) - 1
    return LoadedEngine(
        engine, tokenizer, window, description, identity, probe.value, max_pair_ids, engine.returns_tokens
    )


def _smaller_window(folder: str, server_window: int | None) -> int:
    """The window of the model's folder or of the server, whichever is smaller; the folder may hold a tokenizer alone."""
    try:
        window = model_folder.window_of(folder)
    except UserError:
        if server_window is None:
            raise
        return server_window
    return min(window, server_window or window)
