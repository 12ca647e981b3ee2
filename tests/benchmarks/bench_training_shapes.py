"""The LLaMAs that bench_training.py trains, in the names of a recipe's model.random."""

from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    # recipes/15m.yaml: karpathy/llama2.c's stories15M
    "15m": {
        "hidden_size": 288,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    # karpathy/llama2.c's stories42M
    "42m": {
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    # SmolLM2-135M
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "rope_theta": 100000.0,
        "rms_norm_eps": 1e-5,
    },
    # for a look at whether everything runs
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
    },
    # for a GPU: near TinyLlama-1.1B, with as many key heads as query heads
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 5504,
        "num_hidden_layers": 22,
        "num_attention_heads": 16,
        "max_position_embeddings": 2048,
    },
    # open_llama_3b
    "3b": {
        "hidden_size": 3200,
        "intermediate_size": 8640,
        "num_hidden_layers": 26,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
}

VOCAB_SIZES = {"15m": 32_000, "42m": 32_000, "135m": 49_152, "tiny": 300, "1b": 32_000, "3b": 32_000}
