"""The operations of a step and the MFU, by numbers that are computed here in another way."""

import numpy as np
import pytest
from transformers import LlamaConfig

from orca_bench.train import model_flops, student_model

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 500,
}


def utilization(peak=None, **changes):
    config = LlamaConfig(**SHAPE | changes)
    return model_flops.flops_utilization(config, student_model.count_parameters(config), peak)


def test_the_operations_are_those_of_each_matrix_product_forward_and_twice_backward():
    layer_products = 4 * 64 * 64 + 3 * 64 * 128  # q, k, v, o; gate, up, down
    norms = 7 * 64  # two a layer and the last: parameters, which 6 N counts too
    weights = 3 * layer_products + norms + 64 * 500
    lengths = np.array([10, 3])
    attention = 3 * sum(2 * (2 * 64 * position) for length in (10, 3) for position in range(1, length + 1))
    assert utilization().step_flops(lengths) == 3 * (2 * weights * 13 + attention)


def test_a_shared_embedding_counts_because_the_head_multiplies_with_it():
    lengths = np.array([7])
    assert utilization(tie_word_embeddings=True).step_flops(lengths) == utilization().step_flops(lengths)


def test_heads_may_be_wider_than_the_hidden_states():
    assert utilization(head_dim=32).attention_width == 3 * 4 * 32


def test_mfu_is_a_share_of_the_peak_of_all_devices_and_unknown_without_one():
    lengths = np.array([10])
    flops = utilization().step_flops(lengths)
    assert utilization(peak=4 * flops).of_step(lengths, seconds=0.5) == pytest.approx(0.5)
    assert utilization().of_step(lengths, seconds=0.5) is None


@pytest.mark.parametrize(
    ("device", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10G", 70),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_the_peak_is_that_of_the_named_gpu_and_of_no_other(device, tflops):
    assert model_flops.peak_flops_per_second(device) == (tflops and tflops * 1e12)
