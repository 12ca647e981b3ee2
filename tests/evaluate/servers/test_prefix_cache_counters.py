"""How much a server had in its prefix cache stands in the output and in the result, as far as it tells."""

import json

import pytest

from orca_bench.evaluate.servers import prefix_cache_counters
from orca_bench.evaluate.servers.prefix_cache_counters import CachedTokens

_VLLM = """# HELP vllm:prefix_cache_queries_total Prefix cache queries
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m with spaces"} 1000.0
vllm:prefix_cache_queries_total{engine="1",model_name="m with spaces"} 500.0
vllm:prefix_cache_queries_created{engine="0"} 1.7e9
vllm:prefix_cache_hits_total{engine="0",model_name="m with spaces"} 2.5e+02
"""


@pytest.mark.parametrize(
    ("kind", "text", "tokens"),
    [
        ("vllm", _VLLM, CachedTokens(1500, 250)),
        ("sglang", 'sglang:prompt_tokens_total{a="b"} 9\nsglang:cached_tokens_total{cache_source="device"} 4', (9, 4)),
        ("vllm", "vllm:num_requests_running 1", None),
        ("vllm", "vllm:prefix_cache_queries_total nan", None),
        ("vllm", None, None),
        ("other", _VLLM, None),
    ],
)
def test_counters_are_summed_over_their_labels(kind, text, tokens):
    def look_up(path, as_text):
        assert (path, as_text) == ("/metrics", True)
        return text

    assert prefix_cache_counters.read_counters(kind, look_up) == tokens


@pytest.mark.parametrize(("fault", "counted_by"), [(None, "server"), ("details", "answers")])
def test_the_share_of_cached_tokens_is_shown_and_in_the_result(served, tiny_model, mini, command, fault, counted_by):
    url, server = served(fault)
    eval_ = ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--engine", "api"]
    eval_ += ["--base-url", url, "--tasks", "gsm8k", "--limit", 3, "--out", "r.json"]
    process = command(*eval_)
    assert process.returncode == 0, process.stderr
    prefix_cache = json.loads((command.folder / "r.json").read_text())["model"]["engine"]["prefix_cache"]
    assert (
        prefix_cache["counted_by"] == counted_by and 0 < prefix_cache["cached_tokens"] < prefix_cache["prompt_tokens"]
    )
    share = prefix_cache["cached_tokens"] / prefix_cache["prompt_tokens"]
    line = f"the server had {share:.0%} of {prefix_cache['prompt_tokens']:,} prompt tokens in its cache so far"
    assert line in " ".join((process.stdout + process.stderr).split())
    assert command("verify", "r.json", "--benchmarks", mini["mini:benchmarks"]).returncode == 0
