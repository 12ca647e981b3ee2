"""The names of the engines, and the one value that says which engine computes and how.

No input. Its own module because the command line lists the engines, and it must be light; `engine_choice` opens them.
"""

from __future__ import annotations

from dataclasses import dataclass

ENGINE_NAMES = ("hf", "vllm", "llamacpp", "api")
_SERVER_CONCURRENCY = 16


@dataclass(frozen=True)
class EngineConfig:
    """The name of an engine, one of ENGINE_NAMES, and its options; options of other engines are ignored.

    `device_map` and `process_count` are hf's, `tensor_parallel_size` is vllm's, `base_url` and `served_model_name` are api's,
    `kv_cache_type`, the type of cached keys and values, is llamacpp's, and `max_concurrent_requests`, None for the engine's
    default, is of all but hf.
    """

    engine_name: str = "hf"
    process_count: int = 1
    device_map: str | None = None
    tensor_parallel_size: int = 1
    base_url: str | None = None
    served_model_name: str | None = None
    max_concurrent_requests: int | None = None
    kv_cache_type: str = "f16"

    @property
    def concurrency(self) -> int:
        """Requests at a time.

        llama.cpp rounds otherwise with what else it computes: only one request at a time gives the same text again.
        """
        return self.max_concurrent_requests or (1 if self.engine_name == "llamacpp" else _SERVER_CONCURRENCY)
