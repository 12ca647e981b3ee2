"""A server's metrics in, how many tokens of prompts it was sent and had in its prefix cache out.

vLLM and SGLang count both for Prometheus, over all requests of all users since they started; the difference of two readings is
for the time between. Its own module because most servers have no such count in their answers, and each program has its own
names for the counters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from orca_bench.evaluate.servers import server_kinds

_COUNTER_NAMES_BY_KIND = {
    # vLLM 0.33, v1/metrics/loggers.py: in tokens; the client library of Prometheus adds `_total`.
    server_kinds.VLLM: ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"),
    # SGLang with --enable-metrics
    server_kinds.SGLANG: ("sglang:prompt_tokens_total", "sglang:cached_tokens_total"),
}


class CachedTokens(NamedTuple):
    """Tokens of prompts that were sent, and those of them that were in the server's prefix cache."""

    prompt_tokens: int
    cached_tokens: int

    def since(self, earlier: CachedTokens) -> CachedTokens:
        """What was counted after an earlier reading."""
        return CachedTokens(self.prompt_tokens - earlier.prompt_tokens, self.cached_tokens - earlier.cached_tokens)


def read_counters(kind_name: str, look_up: Callable[..., Any]) -> CachedTokens | None:
    """The counters of a server of a kind; None where it has none. `look_up` is `Endpoint.look_up`."""
    counter_names = _COUNTER_NAMES_BY_KIND.get(kind_name)
    metrics_text = look_up("/metrics", as_text=True) if counter_names else None
    if counter_names is None or not isinstance(metrics_text, str):
        return None
    prompt_tokens, cached_tokens = (_sum_of_counter(metrics_text, name) for name in counter_names)
    return None if prompt_tokens is None else CachedTokens(prompt_tokens, cached_tokens or 0)


def _sum_of_counter(metrics_text: str, counter_name: str) -> int | None:
    """The sum of a counter over all its labels (engines, sources) in Prometheus's text format; None where it is not there."""
    values = []
    for line in metrics_text.splitlines():
        name, _, value_text = line.rpartition(" ")
        if name.partition("{")[0].strip() == counter_name:
            try:
                values.append(float(value_text))
            except ValueError:
                continue
    return int(math.fsum(values)) if values and all(map(math.isfinite, values)) else None
