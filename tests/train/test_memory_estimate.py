"""The memory of a process: the published formulas, and two trainings that were measured on a GPU."""

import pytest
from transformers import LlamaConfig

from orca_bench.recipe import Train
from orca_bench.train.memory_estimate import estimate_memory
from orca_bench.train.model_shape import ModelShape, published_shape

SHAPE = published_shape("openlm-research/open_llama_13b")
GIB = 2**30


def memory(**options):
    return estimate_memory(SHAPE, Train(global_batch=16, **options), 1024)


def test_model_states_are_divided_by_the_zero_stage():
    def states(**options):
        return memory(**options).states_gib * GIB / SHAPE.parameter_count

    assert states(zero_stage=0) == pytest.approx(16)
    assert states(zero_stage=1) == pytest.approx(4 + 12 / 8)
    assert states(zero_stage=2) == pytest.approx(2 + 14 / 8)
    assert states(zero_stage=3) == pytest.approx(16 / 8)
    assert states(zero_stage=3, offload="cpu") == pytest.approx(4 / 8)
    assert states(zero_stage=3, precision="fp32") == pytest.approx(16 / 8)


def test_recomputation_keeps_the_input_of_each_layer_and_one_layer():
    all_layers = memory(gradient_checkpointing=False).activations_gib * GIB
    one_layer = all_layers / SHAPE.layer_count
    inputs = SHAPE.layer_count * 2 * 1024 * SHAPE.hidden_size * 2
    # The optimizer's gradients in float32 need more than that, after it is gone: an eighth of the model and 4 bytes each.
    assert one_layer + inputs < 4 * SHAPE.parameter_count / 8
    recomputing = memory(gradient_checkpointing=True)
    assert recomputing.activations_gib + recomputing.output_head_gib == pytest.approx(4 * 1e9 / GIB)
    offloading = memory(gradient_checkpointing=True, offload="cpu")
    assert offloading.activations_gib == pytest.approx((one_layer + inputs) / GIB)


def test_the_shape_of_the_cards_base_is_that_of_its_weights():
    assert SHAPE.parameter_count == 13_015_864_320  # the index of its safetensors
    assert SHAPE.layer_product_parameter_count == SHAPE.parameter_count - 2 * 32_000 * 5120


def test_a_published_shape_is_that_of_a_model_of_its_configuration():
    config = LlamaConfig(
        hidden_size=3200, intermediate_size=8640, num_hidden_layers=26, num_attention_heads=32, vocab_size=32_000
    )
    assert published_shape("openlm-research/open_llama_3b") == ModelShape.of_config(config)


@pytest.mark.parametrize(
    ("recomputes", "tokens", "measured_gib"), [(False, 2616, 26.31), (True, 10_758, 25.15)], ids=["16", "128"]
)
def test_the_memory_of_the_trainings_on_a_gpu_is_within_a_tenth(recomputes, tokens, measured_gib):
    """results/bench/training-gpu.md: 1.24 billion parameters, one process at stage 3, 16 and 128 examples a step."""
    shape = ModelShape.of_config(
        LlamaConfig(hidden_size=2048, intermediate_size=5504, num_hidden_layers=22, num_attention_heads=16)
    )
    train = Train(global_batch=1, micro_batch=1, processes=1, gradient_checkpointing=recomputes)
    assert estimate_memory(shape, train, tokens).total_gib == pytest.approx(measured_gib, rel=0.1)
