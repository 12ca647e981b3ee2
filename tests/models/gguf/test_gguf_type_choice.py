"""Each matrix has the type that llama-quantize gives it.

The counts of q4_k_m of both LLaMAs' shape, q3_k_m and q3_k_l are those that llama.cpp's loader prints of published files, in logs
that were looked up; the others follow from src/llama-quant.cpp alone.
"""

from collections import Counter

import pytest

from orca_bench.models.gguf.gguf_type_choice import ModelShape, tensor_type
from orca_bench.models.gguf.gguf_weights import expected_shapes

SHAPES = {
    "LLaMA 2 7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "LLaMA 3.1 8B": {
        **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
        "num_key_value_heads": 8,
    },
    # Rows of 896 and 4864 weights: one is no whole number of 256, the other is. The head is the embedding.
    "Qwen 2.5 0.5B": {
        **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
        **{"num_key_value_heads": 2, "tie_word_embeddings": True},
    },
}


def configuration(shape):
    config = {"num_key_value_heads": shape["num_attention_heads"], "tie_word_embeddings": False} | shape
    config |= {"vocab_size": 32000, "attention_bias": False, "mlp_bias": False}
    return config | {"head_dim": config["hidden_size"] // config["num_attention_heads"]}


@pytest.mark.parametrize(
    "model, file_type, matrix_counts",
    [
        ("LLaMA 2 7B", "q4_k_m", {"Q4_K": 193, "Q6_K": 33}),
        ("LLaMA 2 7B", "q5_k_m", {"Q5_K": 193, "Q6_K": 33}),
        ("LLaMA 2 7B", "q4_k_s", {"Q4_K": 217, "Q5_K": 8, "Q6_K": 1}),
        ("LLaMA 2 7B", "q5_k_s", {"Q5_K": 225, "Q6_K": 1}),
        ("LLaMA 2 7B", "q3_k_m", {"Q3_K": 129, "Q4_K": 92, "Q5_K": 4, "Q6_K": 1}),
        ("LLaMA 2 7B", "q6_k", {"Q6_K": 226}),
        ("LLaMA 3.1 8B", "q3_k_l", {"Q3_K": 129, "Q5_K": 96, "Q6_K": 1}),
        ("LLaMA 3.1 8B", "q4_k_m", {"Q4_K": 193, "Q6_K": 33}),
        ("Qwen 2.5 0.5B", "q4_k_m", {"Q5_0": 132, "Q8_0": 13, "Q4_K": 12, "Q6_K": 12}),
        ("LLaMA 2 7B", "q4_0", {"Q4_0": 226}),
        ("LLaMA 2 7B", "f16", {"F16": 226}),
    ],
)
def test_the_types_are_those_of_llamacpp(model, file_type, matrix_counts):
    config = configuration(SHAPES[model])
    shape = ModelShape.of(config)
    types = Counter(
        tensor_type(name, tensor_shape, file_type, shape)
        for name, tensor_shape in expected_shapes(config).items()
        if len(tensor_shape) > 1
    )
    assert types == matrix_counts


@pytest.mark.parametrize(
    "file_type, row_size, expected_type",
    [
        *[("q2_k", 288, "Q4_0"), ("q3_k_s", 288, "Q4_0"), ("q4_k_s", 288, "Q5_0"), ("q5_k_s", 288, "Q5_1")],
        *[("q6_k", 288, "Q8_0"), ("iq4_xs", 288, "IQ4_NL"), ("q4_k_s", 48, "F16"), ("q8_0", 48, "F16")],
        *[("q4_0", 48, "F16"), ("iq4_nl", 48, "F16"), ("bf16", 48, "BF16"), ("q4_k_s", 512, "Q4_K")],
    ],
)
def test_a_row_that_is_no_whole_number_of_blocks_has_llamacpps_other_type(file_type, row_size, expected_type):
    model = ModelShape(layer_count=16, head_count=4, key_head_count=4, is_tied=False)
    assert tensor_type("blk.9.ffn_up.weight", (64, row_size), file_type, model) == expected_type


@pytest.mark.parametrize("name, is_tied", [("output.weight", False), ("token_embd.weight", True)])
@pytest.mark.parametrize(
    "file_type, row_size, expected_type", [("q2_k", 512, "Q6_K"), ("q4_k_m", 576, "Q8_0"), ("iq4_nl", 576, "Q8_0")]
)
def test_the_output_head_has_more_bits(name, is_tied, file_type, row_size, expected_type):
    model = ModelShape(layer_count=16, head_count=4, key_head_count=4, is_tied=is_tied)
    assert tensor_type(name, (1000, row_size), file_type, model) == expected_type


def test_what_is_read_by_many_query_heads_has_more_bits():
    few, many = (ModelShape(16, 8, key_heads, False) for key_heads in (2, 4))
    value = ("blk.9.attn_v.weight", (256, 512))
    assert tensor_type(*value, "q2_k", few) == "Q4_K" and tensor_type(*value, "q2_k", many) == "Q3_K"
    assert tensor_type(*value, "iq4_xs", few) == "Q5_K" and tensor_type(*value, "iq4_xs", many) == "IQ4_XS"
    seventy = ModelShape(80, 64, 8, False)
    assert tensor_type("blk.20.attn_v.weight", (1024, 8192), "q3_k_s", seventy) == "Q5_K"


def test_an_importance_matrix_takes_the_place_of_more_bits_in_the_first_layers_of_iq4():
    model = ModelShape(16, 8, 8, False)
    down = ("blk.1.ffn_down.weight", (512, 1024))
    assert tensor_type(*down, "iq4_xs", model) == "Q5_K"
    assert tensor_type(*down, "iq4_xs", model, with_importance=True) == "IQ4_XS"
