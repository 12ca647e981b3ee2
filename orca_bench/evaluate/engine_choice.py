"""Which engine computes the answers: the one in this process (hf), vLLM or llama.cpp started here, or a server that runs already.

An `EngineConfig` and a model folder come in; a `LoadedEngine` goes out, with the model's tokenizer and what a result and the
cache of answers must know of the model. Its own module because everything after it is the same for all engines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.engine_interface import Engine
from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.tokenizers import Tokenizer

if TYPE_CHECKING:
    from orca_bench.evaluate.servers.server_engine import ServerEngine


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that has passed its check, its tokenizer, the context window in tokens, and what a result says of the model.

    `model_description` is that part of a result. `identity_fields` has all that answers depend on besides protocol and requests
    (see `model_identity`). Of a server's weights nothing is known; `probe_log_probability`, the log-probability of a fixed
    request in nats, stands for them. `max_pair_tokens` is how many ids a request that is scored may have, None where the window
    alone decides. `check_scored_tokens` takes how many ids a continuation has, and what it is in words, and raises UserError
    where so many cannot be scored; None where any number can. `returns_text_tokens` is whether the tokens of a text are known,
    which is needed where the first are discarded. `describe_prefix_cache` says what a server had in its cache so far.
    """

    engine: Engine
    tokenizer: Tokenizer
    window_tokens: int
    model_description: dict[str, Any]
    identity_fields: dict[str, Any]
    probe_log_probability: float | None = None
    max_pair_tokens: int | None = None
    check_scored_tokens: Callable[[int, str], None] | None = None
    returns_text_tokens: bool = True
    describe_prefix_cache: Callable[[], dict[str, int | str] | None] | None = None


@contextlib.contextmanager
def open_engine(
    config: EngineConfig,
    model_folder: ModelFolder,
    model_name: str,
    dtype_name: str,
    show_message: Callable[[str], None],
    needs_scores: bool = True,
    turn_end_ids: Sequence[int] = (),
) -> Iterator[LoadedEngine]:
    """The engine for a model folder, checked; it ends with the block.

    `model_name` is what results call the model. `show_message` gets sentences for the user. `needs_scores` is whether
    log-likelihoods will be requested, `turn_end_ids` are tokens that end a text of protocol `chat` besides EOS, which a server
    must be told. Raises UserError where the model or the server cannot be used.
    """
    if config.engine_name == "hf":
        yield _load_local_engine(config, model_folder, model_name, dtype_name, show_message)
        return
    if config.engine_name == "llamacpp":
        with _open_llamacpp(config, model_folder, model_name, show_message) as loaded_engine:
            yield loaded_engine
        return
    from orca_bench.evaluate.servers import vllm
    from orca_bench.evaluate.servers.server_engine import ServerEngine

    model_folder.check_tokenizer()  # before a server is started for nothing
    with contextlib.ExitStack() as exit_stack:
        server_url = config.base_url or ""
        if config.engine_name == "vllm":
            server_url = exit_stack.enter_context(
                vllm.serve(model_folder, dtype_name, config.tensor_parallel_size, show_message)
            )
        engine = exit_stack.enter_context(
            contextlib.closing(ServerEngine(server_url, config.served_model_name, config.concurrency))
        )
        yield _check_server(config, engine, model_folder, model_name, dtype_name, needs_scores, turn_end_ids)


def default_process_count() -> int:
    """How many processes compute with engine hf where nothing is said: one for each GPU, one without GPUs."""
    import torch

    return max(1, torch.cuda.device_count())


def _load_local_engine(
    config: EngineConfig,
    model_folder: ModelFolder,
    model_name: str,
    dtype_name: str,
    show_message: Callable[[str], None],
) -> LoadedEngine:
    """The engine in this process."""
    from orca_bench.evaluate.engine import auto_dtype, tree_engine

    if note := auto_dtype.auto_dtype_note(model_folder, dtype_name):
        show_message(f"{model_name}: {note}")
    engine = tree_engine.load_checked_engine(model_folder, dtype_name, config.device_map)
    if note := engine.path_note:
        show_message(f"{model_name}: {note}")
    computation_fields = {
        "attention": engine.attention_method,
        "path": engine.computation_path,
        "tree_limit": engine.max_tree_tokens,
        **engine.rounding_fields,
    }
    identity_fields = model_identity.loaded_model_identity(
        engine.model, model_folder, engine.device, computation_fields
    )
    engine_entries = {
        "identity": identity_fields,
        "fingerprint": identity_fields["weights"],
        "tokenizer_sha256": model_folder.tokenizer.fingerprint,
        "parameters": sum(p.numel() for p in engine.model.parameters()),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "device": str(engine.device),
        "engine": {"name": "hf", "processes": config.process_count, **engine.path_description},
    }
    return LoadedEngine(
        engine,
        model_folder.tokenizer,
        model_folder.window_tokens,
        _describe_model(model_folder, model_name, engine_entries),
        identity_fields,
    )


def _check_server(
    config: EngineConfig,
    engine: ServerEngine,
    model_folder: ModelFolder,
    model_name: str,
    dtype_name: str,
    needs_scores: bool,
    turn_end_ids: Sequence[int],
) -> LoadedEngine:
    """A server that can do what is needed, and what is known of it and of its model."""
    stop_ids = tuple(dict.fromkeys((*model_folder.tokenizer.stop_ids, *turn_end_ids)))
    probe = engine.check(needs_scores, stop_ids, model_folder.tokenizer)
    if stop_ids != model_folder.tokenizer.stop_ids and not engine.takes_stop_ids:
        raise UserError(
            f"the chat template ends an answer with token {turn_end_ids[0]}, which is no EOS, and the server takes no "
            "stop_token_ids",
            where=engine.redacted_url,
            hint="add the token to eos_token_id in generation_config.json, here and there",
        )
    server_fields: dict[str, Any] = {"name": config.engine_name, "served_model": engine.served_model_name}
    if config.engine_name == "api":
        server_fields["base_url"] = engine.redacted_url
    window_tokens = _smaller_window_tokens(model_folder, engine.window_tokens)
    probe_fields = {} if probe.generated_text is None else {"probe_text": probe.generated_text}
    identity_fields = model_identity.server_model_identity(
        server_fields | {"sampling": engine.sampling_options} | probe_fields,
        model_folder,
        dtype_name if config.engine_name == "vllm" else None,
    )
    engine_entries = {
        "tokenizer_sha256": model_folder.tokenizer.fingerprint,
        "identity": identity_fields,
        "engine": server_fields
        | {
            "sampling": engine.sampling_options,
            "window": engine.window_tokens,
            "differences": engine.difference_sentences,
        }
        | ({} if engine.kind.version is None else {"version": f"{engine.kind.name} {engine.kind.version}"})
        | ({} if probe.log_probability is None else {"probe": probe.log_probability}),
    }
    # All ids are fed, and the server must be let to generate one: vLLM wants room for both in its window.
    max_pair_tokens = (engine.window_tokens or window_tokens) - 1
    return LoadedEngine(
        engine,
        model_folder.tokenizer,
        window_tokens,
        _describe_model(model_folder, model_name, engine_entries),
        identity_fields,
        probe.log_probability,
        max_pair_tokens,
        returns_text_tokens=engine.returns_text_tokens,
        describe_prefix_cache=engine.describe_prefix_cache,
    )


@contextlib.contextmanager
def _open_llamacpp(
    config: EngineConfig, model_folder: ModelFolder, model_name: str, show_message: Callable[[str], None]
) -> Iterator[LoadedEngine]:
    """llama.cpp with the GGUF file that the folder was imported from, and what is known of both; it ends with the block."""
    from orca_bench.evaluate.servers import llamacpp
    from orca_bench.models.gguf import llamacpp_server
    from orca_bench.models.gguf.gguf_file import GgufFile

    assert model_folder.gguf_path is not None  # `llamacpp.check_model_and_tasks` refuses a folder
    file = GgufFile(Path(model_folder.gguf_path))
    settings = llamacpp_server.LlamaCppSettings(
        context_tokens=model_folder.window_tokens,
        slot_count=config.concurrency,
        cache_type=config.kv_cache_type,
        uses_flash_attention=config.kv_cache_type != "f32",
    )
    device_name, version = llamacpp_server.device_name(), llamacpp_server.installed_version()
    engine = llamacpp.LlamaCppEngine(
        file.shard_paths[0],  # llama.cpp finds the others
        model_folder.tokenizer,
        model_folder.config.vocab_size,
        settings,
    )
    with contextlib.closing(engine):
        show_message(f"{model_name}: llama.cpp (xllamacpp {version}) is loading {file.path}")
        differences = llamacpp.difference_sentences(settings, *engine.count_texts_with_other_ids())
        engine_fields = {
            "name": "llamacpp",
            "version": version,
            "sampling": llamacpp_server.GREEDY_OPTIONS,
        }
        computation_settings = {
            "kv_cache": settings.cache_type,
            "flash_attention": "auto" if settings.uses_flash_attention else "off",
        }
        identity_fields = model_identity.gguf_model_identity(
            engine_fields | computation_settings | {"is_reproducible": settings.slot_count == 1, "device": device_name},
            model_folder,
            file.shard_paths,
        )
        entries = {
            "identity": identity_fields,
            "fingerprint": identity_fields["weights"],
            "tokenizer_sha256": model_folder.tokenizer.fingerprint,
            "parameters": sum(file.types().values()),
            "dtype": next(iter(file.types())),
            "device": device_name,
            "engine": engine_fields
            | {
                "settings": computation_settings
                | {"slots": settings.slot_count, "threads": settings.used_thread_count},
                "differences": differences,
            },
        }
        yield LoadedEngine(
            engine,
            model_folder.tokenizer,
            model_folder.window_tokens,
            _describe_model(model_folder, model_name, entries),
            identity_fields,
            # All ids but the last are fed, and llama.cpp wants room for one that it generates.
            max_pair_tokens=model_folder.window_tokens,
            check_scored_tokens=llamacpp.check_scored_tokens,
        )


def _describe_model(model_folder: ModelFolder, model_name: str, engine_entries: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that describes the model. Results keep the order of the keys."""
    folder_entries = model_folder.describe()
    return {"path": folder_entries["path"], "name": model_name, **engine_entries, **folder_entries}


def _smaller_window_tokens(model_folder: ModelFolder, server_window_tokens: int | None) -> int:
    """The window of the model's folder or of the server, whichever is smaller; the folder may hold a tokenizer alone."""
    try:
        window_tokens = model_folder.window_tokens
    except UserError:
        if server_window_tokens is None:
            raise
        return server_window_tokens
    return min(window_tokens, server_window_tokens or window_tokens)
