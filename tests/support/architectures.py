"""Every architecture of transformers' causal language models, tiny and random, through the engine and through plain passes.

    python tests/support/architectures.py                    # all of them: tests/architectures.md
    python tests/support/architectures.py llama mistral      # some of them: to the screen

For each name of MODEL_FOR_CAUSAL_LM_MAPPING_NAMES a configuration is shrunk to a few thousand weights, a model is made of random
numbers, and requests of the mini suite are answered by the engine and, one at a time, by the model's own forward pass without a
cache. The table says which way the engine takes, or why there is none. `test_architectures.py` holds it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_suffix(".md")
sys.path.insert(0, str(ROOT))

#: Values of a tiny model, for the keys that a configuration has.
SMALL = {
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim_model", "emb_dim", "embedding_size", "hidden_size_global"), 32
    ),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "dff", "dim_ff", "d_ff", "ffn_hidden_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "decoder_ffn_dim", "laurel_rank"), 16),
    **dict.fromkeys(("hidden_size_per_layer_input", "moe_shared_expert_intermediate_size", "gated_norm_rank"), 8),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "kv_n_heads"), 2),
    **dict.fromkeys(("head_dim", "attention_head_size", "dim_head", "index_head_dim"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"), 512),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size"), 24),
    "attention_chunk_size": 32,
    # latent attention
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    **{"v_head_dim": 12, "rotary_dim": 4, "index_n_heads": 16, "index_topk": 16},
    # recurrent and linear layers
    **dict.fromkeys(("mamba_n_heads", "linear_num_heads", "linear_num_value_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_headdim", "mamba_head_dim"), 16),
    **dict.fromkeys(("linear_head_dim", "linear_key_head_dim", "linear_value_head_dim", "mamba_d_state"), 8),
    **dict.fromkeys(("ssm_state_size", "state_size", "mamba_chunk_size", "chunk_size"), 8),
    **{"linear_num_key_heads": 2, "mamba_n_groups": 1, "n_groups": 1, "mamba_d_ssm": 64},
    "vocab_size_per_layer_input": 600,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_ROPE_BY_LAYER = {"sliding_attention": _ROPE, "full_attention": _ROPE}
_LINEAR = ["linear_attention", "full_attention"] * 2
_ZAMBA = ["linear_attention", "hybrid"] * 2
#: What a single architecture needs besides, so that it can be built or has layers of all its kinds.
OVERRIDES: dict[str, dict] = {
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "cohere_compass_text": {
        "rope_parameters": _ROPE_BY_LAYER,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "dbrx": {"ffn_config": {"hidden_size": 32}, "attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon": {"num_kv_heads": 4},
    "dots3_note_text": {
        "layer_types": ["sliding_attention", "indexed_attention"] * 2,
        "per_layer_config": {},
        "head_dim": 16,
    },
    "gemma3_text": {"num_hidden_layers": 6},
    "gemma3n_text": {"num_hidden_layers": 10, "num_kv_shared_layers": 4, "intermediate_size": 64},
    "gemma4_text": {"num_hidden_layers": 6, "per_layer_config": {"05": {"head_dim": 16}}},
    "gemma4_unified_text": {"num_hidden_layers": 6, "per_layer_config": {"05": {"head_dim": 16}}},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp_text": {
        **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16},
        **{"indexer_compress_ratio": 4, "hc_lowrank": 8, "ngram_vocab_size_base": 600, "ple_embed_dim": 32},
        "layer_types": _LINEAR,
    },
    "zamba": {
        **{"layers_block_type": _ZAMBA, "attention_hidden_size": 64, "attention_head_dim": 16, "mamba_dt_rank": 4},
        "use_mamba_kernels": False,
    },
    "zamba2": {
        **{"layers_block_type": _ZAMBA, "attention_hidden_size": 64, "attention_head_dim": 16, "adapter_rank": 8},
        **{"n_mamba_heads": 4, "kv_channels": 8, "num_query_groups": 4, "hybrid_layer_ids": [1, 3]},
        "use_mamba_kernels": False,
    },
    "zaya": {"num_experts_per_tok": 1},
}
OVERRIDES["dots3_note"] = {
    "text_config": OVERRIDES["dots3_note_text"],
    "vision_config": {"per_layer_config": {}, "adapter_in_dim": 32, "adapter_out_dim": 32},
    "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
}
OVERRIDES["gemma4_assistant"] = {"text_config": {"hidden_size_per_layer_input": 0}}
OVERRIDES["qwen4_exp"] = {"text_config": OVERRIDES["qwen4_exp_text"]}


@dataclass(frozen=True)
class Outcome:
    """What became of an architecture: "tree", "plain", "refused", "not built" or "differs", why, and in how many seconds."""

    name: str
    path: str
    reason: str = ""
    seconds: float = 0.0


def configuration(name: str, vocabulary: int):
    """A tiny configuration of an architecture."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return shrunk(CONFIG_MAPPING[name], vocabulary, OVERRIDES.get(name, {}))


def tiny(config):
    """A model of random numbers, float32, whose answers differ: weights are larger than transformers makes them."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and 0 < float(parameter.std()) < 0.05:
                parameter.mul_(4)
            elif parameter.dim() == 1 and not parameter.any():
                parameter.normal_(0, 0.3)
    return model


def shrunk(kind: type, vocabulary: int, overrides: dict):
    """A configuration of this class with small numbers in the keys that it has."""
    default = kind()
    options = {}
    for key, value in default.to_dict().items():
        part = vars(default).get(key)
        if key in SMALL and isinstance(value, int) and not isinstance(value, bool):
            options[key] = SMALL[key]
        elif key in ("vocab_size", "n_vocab"):
            options[key] = vocabulary
        elif key.endswith("_token_id") and isinstance(value, int):
            options[key] = min(value, 2)
        elif isinstance(value, dict) and hasattr(part, "model_type"):
            options[key] = shrunk(type(part), vocabulary, overrides.get(key, {}))
    plain = default.to_dict()
    if plain.get("num_key_value_heads", 0) == plain.get("num_attention_heads"):
        options["num_key_value_heads"] = 4
    nested = {key for key, value in options.items() if hasattr(value, "model_type")}
    return kind(**options | {key: value for key, value in overrides.items() if key not in nested})


def tiny_model_of(name: str) -> torch.nn.Module:
    """An architecture with 600 ids, tiny, with random weights."""
    return tiny(configuration(name, 600))


def try_out(name: str, requests, prompts) -> Outcome:
    """Build an architecture tiny and compare the engine's answers with plain passes."""
    from orca_bench.errors import UserError
    from orca_bench.evaluate.engine.tree_engine import TreeEngine
    from orca_bench.models import architecture

    try:
        config = configuration(name, 600)
        if reason := architecture.unsupported_reason(config):
            return Outcome(name, "refused", reason)
        model = tiny(config)
    except Exception as error:  # whatever a configuration asks for that a tiny one does not have
        return Outcome(name, "not built", _line(error))
    start = time.perf_counter()
    try:
        engine = TreeEngine(model, max_batch_tokens=64, max_cache_tokens=600)
        engine.choose_path()
        problem = differences(engine, requests, prompts)
    except UserError as error:
        return Outcome(name, "refused", error.problem)
    seconds = time.perf_counter() - start
    path = (
        engine.computation_path
        if engine.max_tree_tokens in (None, 0)
        else f"{engine.computation_path}, plain beyond {engine.max_tree_tokens} tokens"
    )
    if problem:
        return Outcome(name, "differs", f"{path}: {problem}", seconds)
    return Outcome(name, path, engine.plain_path_reason or "", seconds)


def differences(engine, requests, prompts) -> str | None:
    """How the engine's answers differ from the model's own forward pass of each sequence alone; None where they do not."""
    import torch

    @torch.inference_mode()
    def table(ids: list[int]):
        return engine.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(dim=-1)

    for sequence, (logprob, greedy) in zip(requests, engine.log_likelihoods(requests), strict=True):
        rows = table(sequence.token_ids[:-1])[sequence.scored_start - 1 :]
        targets = sequence.token_ids[sequence.scored_start :]
        expected = float(rows[range(len(targets)), targets].sum())
        if not abs(expected - logprob) <= 1e-4 * len(targets):
            return f"log-probability {logprob:.5f} instead of {expected:.5f}"
        if greedy != (rows.argmax(dim=-1).tolist() == targets):
            return f"greedy flag {greedy}"
    for prompt, new in zip(prompts, engine.generate_ids(prompts, lambda number, ids: False, 6), strict=True):
        rows = table(prompt + new)[len(prompt) - 1 : -1]
        below = rows.max(dim=-1).values - rows[range(len(new)), new]
        if not float(below.max()) <= 1e-4:
            return f"generates a token that is {float(below.max()):.5f} nats less likely than the likeliest"
    return None


def questions(vocabulary: int = 600, longest: int = 90):
    """(sequences that share beginnings, prompts) of random ids; one is a beginning of another, two are the same."""
    import random

    from orca_bench.evaluate.request_encoding import ScoredSequence

    draw = random.Random(3)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(count)]

    stem, second = ids(longest - 12), ids(20)
    requests = [ScoredSequence(stem + ids(length), len(stem)) for length in (1, 1, 3, 8)] + [
        ScoredSequence(second + ids(5), 1),
        ScoredSequence(stem[:30], 18),
    ]
    requests += [requests[0]]
    return requests, [stem[:70], [*stem[:30], 7], second]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"


def expected() -> dict[str, str]:
    """What the table says of each architecture."""
    cells = [
        line.strip("|").split("|") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")
    ]
    return {row[0].strip(): row[1].strip() for row in cells[2:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="architectures, as model_type says them; all where none is given")
    names = parser.parse_args().names
    import torch
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from orca_bench import library_settings

    library_settings.prepare_libraries()
    requests, prompts = questions()
    outcomes = []
    for name in names or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        outcomes.append(outcome := try_out(name, requests, prompts))
        print(f"{outcome.name:25} {outcome.path:10} {outcome.seconds:5.2f} {outcome.reason}", flush=True)
    if names:
        return
    counts = Counter(outcome.path.split(",")[0] for outcome in outcomes)
    rows = [f"| {outcome.name} | {outcome.path} | {outcome.reason} |" for outcome in outcomes]
    TABLE.write_text(
        "# Architectures\n\n"
        f"Written by `python tests/support/architectures.py` with transformers {transformers.__version__} and torch "
        f"{torch.__version__} on a CPU in float32: every name of `MODEL_FOR_CAUSAL_LM_MAPPING_NAMES`, tiny, with random "
        'weights and sliding windows shorter than the requests. "tree" and "plain" are the ways that the engine takes by '
        "itself; either way its log-probabilities are within 1e-4 nats a token of the model's own forward pass of each "
        "sequence alone, and no token that it generates is less likely than another by more than that.\n\n"
        + ", ".join(f"{count} {path}" for path, count in counts.most_common())
        + ".\n\n| model_type | path | reason |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n",
        encoding="utf-8",
    )
    print(TABLE)


if __name__ == "__main__":
    main()
