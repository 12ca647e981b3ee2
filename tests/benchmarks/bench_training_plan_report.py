"""The Markdown of bench_training_plan.py's record: measurements and published rates in, both beside the estimates out."""

import textwrap
from typing import Any

import numpy as np
from bench_records import processor_name
from bench_training_shapes import SHAPES, VOCAB_SIZES
from published_rates import Rate, error, error_of_constant, is_fitted, name_of

from orca_bench.recipe import Architecture, Train
from orca_bench.train.gpus import Gpu
from orca_bench.train.memory_estimate import MemoryEstimate, estimate_memory
from orca_bench.train.model_shape import ModelShape
from orca_bench.train.step_estimate import StepWork, estimate_step

_COLUMNS = 120

#: The shape that is too small to need memory: what its processes use is Python and its libraries.
_EMPTY_SHAPE = "tiny"
#: A processor for the ratios of times; one calibration step gives the scale.
_PROCESSOR = Gpu("cpu", 1e11, 16, 20, 5, product_share=1.0, attention_share=0.5)


def record(entries: list[dict[str, Any]], rates: list[Rate], with_times: bool) -> str:
    """The whole record."""
    lines = [
        "# Estimates of `orca-bench plan` beside measurements",
        "",
        "`python tests/benchmarks/bench_training_plan.py`"
        + ("" if with_times else " with `--memory-only`: the machine was not idle, so that no time was compared")
        + f". Processor: {processor_name()}.",
        "",
    ]
    if entries:
        lines += [*_memory_section(entries), ""]
        lines += [*_time_section(entries), ""] if with_times else []
    if rates:
        lines += [*_rates_section(rates), ""]
    return "\n".join(line if line.startswith(("|", "#")) else textwrap.fill(line, _COLUMNS) for line in lines)


def _memory_section(entries: list[dict[str, Any]]) -> list[str]:
    empty = [entry for entry in entries if entry["configuration"]["shape"] == _EMPTY_SHAPE]
    judged = [entry for entry in entries if entry["configuration"]["shape"] != _EMPTY_SHAPE]
    libraries_gib = max(entry["memory_gib"] for entry in empty)
    table = [
        "| shape | tokens | micro batch | processes | ZeRO | precision | recompute | packing | measured | estimated | off by |",
        "|---|--:|--:|--:|--:|---|---|---|--:|--:|--:|",
    ]
    within = 0
    for entry in judged:
        values = entry["configuration"]
        estimate_gib = libraries_gib + memory_of(values).total_gib
        deviation = estimate_gib / entry["memory_gib"] - 1
        within += abs(deviation) <= 0.1
        table.append(
            f"| {values['shape']} | {values['length']} | {values['micro_batch']} | {values['processes']} "
            f"| {values['zero_stage']} | {values['precision']} | {'yes' if values['gradient_checkpointing'] else 'no'} "
            f"| {values['packing']} | {entry['memory_gib']:.2f} | {estimate_gib:.2f} | {deviation:+.0%} |"
        )
    return [
        "## Memory of a process on this machine",
        "",
        "GiB. Measured: the largest resident set of a process in its first steps, with an allocator that returns what is freed "
        "(glibc's own keeps blocks: up to 30 % more). Estimated: the formulas, and "
        f"{libraries_gib:.2f} GiB for Python and its libraries, the most that the shape {_EMPTY_SHAPE} took. "
        f"{within} of {len(judged)} are within 10 %.",
        "",
        *table,
    ]


def _time_section(entries: list[dict[str, Any]]) -> list[str]:
    judged = [entry for entry in entries if entry["configuration"]["shape"] != _EMPTY_SHAPE]
    calibration = judged[len(judged) // 2]
    scale = _measured_seconds(calibration) / seconds_of(calibration["configuration"])
    table = ["| configuration | measured | estimated | off by |", "|---|--:|--:|--:|"]
    within = 0
    for entry in judged:
        estimate_s = scale * seconds_of(entry["configuration"])
        deviation = estimate_s / _measured_seconds(entry) - 1
        within += abs(deviation) <= 0.2
        text = ", ".join(f"{key} {value}" for key, value in entry["configuration"].items())
        table.append(f"| {text} | {_measured_seconds(entry):.2f} | {estimate_s:.2f} | {deviation:+.0%} |")
    return [
        "## Time of a step on this machine",
        "",
        f"Seconds, the median of three steps. The scale is from one configuration, {calibration['configuration']}. "
        f"{within} of {len(judged)} are within 20 %.",
        "",
        *table,
    ]


def _measured_seconds(entry: dict[str, Any]) -> float:
    return float(np.median(entry["step_seconds"]))


def _rates_section(rates: list[Rate]) -> list[str]:
    judged = [rate for rate in rates if not is_fitted(rate)]
    kinds = {"formulas": error, "two constants": error_of_constant}
    summary = "; ".join(
        f"{name}: {np.mean([abs(kind(rate)) for rate in judged]):.1%} in the mean, "
        f"{max(abs(kind(rate)) for rate in judged):.1%} at most"
        for name, kind in kinds.items()
    )
    table = ["| published rate | formulas | two constants | |", "|---|--:|--:|---|"]
    for rate in rates:
        mark = "fitted" if is_fitted(rate) else ""
        table.append(f"| {name_of(rate)} | {error(rate):+.1%} | {error_of_constant(rate):+.1%} | {mark} |")
    return [
        "## Published rates of training",
        "",
        "How far the predicted tokens/s are from those of mosaicml/llm-foundry "
        "(scripts/train/benchmarking/README.md at 061f2c7: MPT models, FSDP, bf16). Three constants are fitted to the rows "
        "marked *fitted*. The two constants are an MFU of 58.5 % on A100 and 42 % on H100, chosen on all rows. On the "
        f"{len(judged)} rows that are not fitted: {summary}.",
        "",
        *table,
    ]


def memory_of(values: dict[str, Any]) -> MemoryEstimate:
    """The estimate of a configuration, given by its values."""
    return estimate_memory(_shape(values), _train(values), values["length"])


def seconds_of(values: dict[str, Any]) -> float:
    """The estimated time of a step of a configuration, in units of a scale that is to be measured."""
    tokens = float(values["micro_batch"] * values["length"])
    work = StepWork(np.array([tokens]), np.array([tokens * (values["length"] + 1) / 2]))
    return estimate_step(_shape(values), _train(values), work, _PROCESSOR, has_host_time=False).seconds


def _shape(values: dict[str, Any]) -> ModelShape:
    from transformers import LlamaConfig

    architecture = Architecture(**SHAPES[values["shape"]])
    fields = {key: value for key, value in architecture.model_dump().items() if value is not None}
    return ModelShape.of_config(LlamaConfig(vocab_size=VOCAB_SIZES[values["shape"]], **fields))


def _train(values: dict[str, Any]) -> Train:
    names = ("micro_batch", "processes", "zero_stage", "precision", "gradient_checkpointing", "packing")
    return Train(global_batch=values["micro_batch"] * values["processes"], **{name: values[name] for name in names})
