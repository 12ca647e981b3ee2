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
    all_layers, recomputing = (memory(gradient_checkpointing=flag).activations_gib * GIB for flag in (False, True))
    one_layer = all_layers / SHAPE.layer_count
    assert one_layer == pytest.approx(2 * 1024 * (24 * 5120 + 8 * 13_824))
    assert recomputing == pytest.approx(one_layer + SHAPE.layer_count * 2 * 1024 * SHAPE.hidden_size * 2)


def test_activations_and_what_comes_after_them_share_their_memory():
    def parts(**options):
        estimate = memory(**options)
        return (estimate.activations_gib + estimate.output_head_gib) * GIB, estimate.shared_gib * GIB

    part_size = SHAPE.parameter_count / 8
    copy_and_sent_gradients, gradients = 4 * part_size + 1e9, 2 * part_size
    # Stage 3 keeps gradients: only their copy in float32, of a thousand million, comes after the activations.
    assert parts(zero_stage=3, gradient_checkpointing=False)[1] == pytest.approx(4e9)
    assert parts(zero_stage=2, gradient_checkpointing=False)[1] == pytest.approx(gradients + copy_and_sent_gradients)
    assert parts(zero_stage=2, gradient_checkpointing=False, accumulation=2)[1] == pytest.approx(
        copy_and_sent_gradients
    )
    activations, shared = parts(zero_stage=3, gradient_checkpointing=True)
    assert shared == activations < 4e9


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
