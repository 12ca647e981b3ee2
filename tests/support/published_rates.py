"""Published rates of training beside those by the formulas of `orca-bench plan`: a CSV file in, errors as shares out.

Source of the table: mosaicml/llm-foundry, scripts/train/benchmarking/README.md at 061f2c7. It is not part of this project.
"""

import csv
from pathlib import Path

import numpy as np

from orca_bench.recipe import Train
from orca_bench.train.gpus import Gpu, find_gpu
from orca_bench.train.model_flops import FlopsUtilization
from orca_bench.train.model_shape import ModelShape
from orca_bench.train.step_estimate import StepWork, estimate_step

RATES_FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "published_training_rates.csv"

#: Hidden size and layers of these MPT models, whose published numbers of parameters follow from them.
WIDTH_AND_DEPTH = {
    "1b": (2048, 24),
    "3b": (2560, 32),
    "7b": (4096, 32),
    "13b": (5120, 40),
    "30b": (7168, 48),
    "70b": (8192, 80),
}
GPU_NAMES = {"a100_80gb": "a100-80g", "a100_40gb": "a100-40g", "h100_80gb": "h100"}
#: MFU in percent by two constants, fitted on all rows: what the formulas must be better than on the rows they have not seen.
CONSTANT_MFU = {"a100_80gb": 58.5, "h100_80gb": 42.0}


Rate = dict[str, str]


def read_rates(rates_file: Path = RATES_FILE) -> list[Rate]:
    """The rows of the table."""
    with open(rates_file, encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def is_fitted(rate: Rate) -> bool:
    """Whether the constants of the formulas are fitted to this rate."""
    return rate["model"] in ("1b", "7b") and rate["gpu"] == "a100_80gb" and rate["gpus"] == "8"


def predicted_rate(rate: Rate, gpu: Gpu | None = None) -> float:
    """Tokens a second and GPU by the formulas: FSDP with full sharding moves what ZeRO-3 moves. `gpu` stands for the table's."""
    width, depth = WIDTH_AND_DEPTH[rate["model"]]
    length, micro_batch, gpu_count = int(rate["seq_len"]), int(rate["micro_batch"]), int(rate["gpus"])
    parameter_count, vocab_size, width_of_feed_forward = int(rate["parameters"]), 50_368, 4 * width
    shape = ModelShape(
        parameter_count,
        width,
        width_of_feed_forward,
        depth,
        vocab_size,
        width_of_feed_forward * width,
        FlopsUtilization(parameter_count, depth * width, None),
    )
    train = Train(
        global_batch=int(rate["global_batch"]),
        micro_batch=micro_batch,
        accumulation=int(rate["grad_accum"]),
        processes=gpu_count,
        zero_stage=3,
        gradient_checkpointing=rate["recompute"] == "true",
        packing="none",
    )
    work = StepWork(
        np.full(train.accumulation, float(micro_batch * length)),
        np.full(train.accumulation, micro_batch * length * (length + 1) / 2),
    )
    nodes = max(1, gpu_count // 8)
    step = estimate_step(shape, train, work, gpu or find_gpu(GPU_NAMES[rate["gpu"]], {}), nodes, has_host_time=False)
    return micro_batch * train.accumulation * length / step.seconds


def error(rate: Rate, gpu: Gpu | None = None) -> float:
    """How far the predicted rate is from the published one, as a share of it."""
    return predicted_rate(rate, gpu) / float(rate["tokens_per_s_per_gpu"]) - 1


def error_of_constant(rate: Rate) -> float:
    """The same for the constants."""
    return CONSTANT_MFU[rate["gpu"]] / float(rate["mfu_percent"]) - 1


def name_of(rate: Rate) -> str:
    """Model, length and GPUs of a rate."""
    return f"{rate['model']}, {rate['seq_len']} tokens, {rate['gpus']} × {GPU_NAMES[rate['gpu']]}"
