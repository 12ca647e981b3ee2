"""Correctness of the engine on one GPU for bench_gpu.py: each row has what was compared, its value and its bound.

In: a LLaMA of random weights, in float32 and rounded to bfloat16. Out: differences between the prefix tree and plain forward
passes, texts beside transformers' own, the engine's self-check, and whether products in float32 are float32. Its own module
because the rest of the benchmark is worth nothing where these fail.
"""

from __future__ import annotations

from typing import Any

import bench_gpu_inputs
import numpy as np
from bench_gpu_inputs import CHECK_WEIGHT_SCALE, TaskShape
from bench_gpu_process import Recorder, check_row, synchronize

_FLOAT32_BOUND_NATS = 1e-3  # a sequence of up to 40 scored tokens
_TF32_ERROR = 1e-4  # relative: float32 products have some 1e-6, TF32 some 3e-4
_TASKS = (
    TaskShape("shared examples", 6, 3, 300, 60, 4, 1),
    TaskShape("long continuations", 4, 1, 0, 500, 4, 40),
    TaskShape("many branches", 6, 6, 150, 12, 10, 8),
)


def check_engine(recorder: Recorder) -> None:
    """All checks of one model."""
    recorder.measure("products in float32", lambda: check_float32_products(recorder.device))
    shape_name = "tiny" if recorder.is_tiny else "110m"
    model = bench_gpu_inputs.build_model(shape_name, "float32", recorder.device, CHECK_WEIGHT_SCALE)
    vocabulary_size = bench_gpu_inputs.SHAPES[shape_name]["vocab_size"]
    tasks = bench_gpu_inputs.scaled_task_shapes(0.02, 0.05) if recorder.is_tiny else list(_TASKS)
    sequences_by_task = bench_gpu_inputs.sequences_of_tasks(tasks, vocabulary_size)
    sequences = [sequence for sequences in sequences_by_task.values() for sequence in sequences]
    reference = _Reference()
    for attention_method in _attention_methods():
        recorder.measure(
            f"float32, {attention_method}",
            lambda method=attention_method: check_log_likelihoods(model, sequences, method, reference, None),
        )
    recorder.measure("self-check in float32", lambda: check_by_itself(model))
    prompt_tokens, new_tokens = (8, 4) if recorder.is_tiny else (120, 24)
    prompts = bench_gpu_inputs.prompts(8, prompt_tokens, vocabulary_size)
    recorder.measure("texts in float32", lambda: check_texts(model, prompts, new_tokens))
    recorder.measure("products in float32 at the end", lambda: check_float32_products(recorder.device))
    import torch

    model.to(torch.bfloat16)
    synchronize(recorder.device)
    for attention_method in _attention_methods():
        recorder.measure(
            f"bfloat16, {attention_method}",
            lambda method=attention_method: check_log_likelihoods(model, sequences, method, reference, "bfloat16"),
        )
    recorder.measure("self-check in bfloat16", lambda: check_by_itself(model))


class _Reference:
    """The log-probabilities of plain forward passes by type, nats a sequence; None before they are computed."""

    logprobs: np.ndarray | None = None
    bfloat16_logprobs: np.ndarray | None = None


def _attention_methods() -> tuple[str, ...]:
    from orca_bench.evaluate.engine.tree_attention import ATTENTION_METHODS

    return ATTENTION_METHODS


def plain_log_likelihoods(model: Any, sequences: list[Any]) -> np.ndarray:
    """Each sequence alone through transformers' model, without anything of orca-bench: nats, float64 [sequences]."""
    import torch

    logprobs = []
    device = model.get_input_embeddings().weight.device
    with torch.inference_mode():
        for sequence in sequences:
            token_ids = torch.tensor([sequence.token_ids], device=device)
            logits = model(input_ids=token_ids[:, :-1], use_cache=False).logits[0, sequence.scored_start - 1 :]
            targets = token_ids[0, sequence.scored_start :, None]
            logprobs.append(logits.float().log_softmax(dim=-1).gather(1, targets).double().sum())
    return torch.stack(logprobs).cpu().numpy()


def check_log_likelihoods(
    model: Any, sequences: list[Any], attention_method: str, reference: _Reference, dtype_name: str | None
) -> list[dict[str, Any]]:
    """The tree beside plain passes; in bfloat16 both beside plain passes in float32, which were computed before."""
    from orca_bench.evaluate.engine.tree_engine import TreeEngine

    engine = TreeEngine(model, max_batch_tokens=1024, attention_method=attention_method)
    if engine.computation_path != "tree":
        raise RuntimeError(f"the engine does not use its tree: {engine.plain_path_reason}")
    tree_logprobs = np.array([answer.log_probability for answer in engine.log_likelihoods(sequences)])
    if dtype_name is None:
        if reference.logprobs is None:
            reference.logprobs = plain_log_likelihoods(model, sequences)
        difference = float(np.abs(tree_logprobs - reference.logprobs).max())
        return [
            check_row(f"tree by {attention_method}, float32: largest difference, nats", difference, _FLOAT32_BOUND_NATS)
        ]
    if reference.logprobs is None:
        raise RuntimeError("there are no log-probabilities in float32 to compare with")
    if reference.bfloat16_logprobs is None:
        reference.bfloat16_logprobs = plain_log_likelihoods(model, sequences)
    plain_difference = float(np.abs(reference.bfloat16_logprobs - reference.logprobs).mean())
    tree_difference = float(np.abs(tree_logprobs - reference.logprobs).mean())
    return [
        check_row("plain passes, bfloat16 beside float32: mean difference, nats", plain_difference, None),
        check_row(
            f"tree by {attention_method}, bfloat16 beside float32: mean difference, nats",
            tree_difference,
            1.5 * plain_difference,
        ),
    ]


def check_texts(model: Any, prompts: list[list[int]], new_tokens: int) -> list[dict[str, Any]]:
    """Greedy texts beside `generate` of each prompt alone: how many differ."""
    import torch
    from transformers import GenerationConfig

    from orca_bench.evaluate.engine.tree_engine import TreeEngine

    device = model.get_input_embeddings().weight.device
    model.generation_config = GenerationConfig()
    generation = GenerationConfig(do_sample=False, max_new_tokens=new_tokens, use_cache=True, pad_token_id=0)
    expected_texts = []
    with torch.inference_mode():
        for prompt in prompts:
            token_ids = torch.tensor([prompt], device=device)
            output = model.generate(
                input_ids=token_ids, attention_mask=torch.ones_like(token_ids), generation_config=generation
            )
            expected_texts.append(output[0, len(prompt) :].tolist())
    rows = []
    for attention_method in _attention_methods():
        for slot_tokens in (None, 3 * (max(map(len, prompts)) + new_tokens)):  # all at once; three slots
            engine = TreeEngine(model, attention_method=attention_method, max_cache_tokens=slot_tokens)
            texts = engine.generate_ids(prompts, lambda index, ids: False, new_tokens)
            differing = sum(text != expected for text, expected in zip(texts, expected_texts, strict=True))
            slots = "all at once" if slot_tokens is None else "three at once"
            rows.append(
                check_row(
                    f"texts by {attention_method}, float32, {slots}: texts of {len(texts)} that differ", differing, 0
                )
            )
    return rows


def check_by_itself(model: Any) -> list[dict[str, Any]]:
    """What the engine checks before an evaluation: the largest difference, nats a token."""
    from orca_bench.evaluate.engine.tree_engine import TOLERANCE_NATS_BY_DTYPE, TreeEngine

    bound, rows = TOLERANCE_NATS_BY_DTYPE[model.dtype], []
    dtype_name = str(model.dtype).removeprefix("torch.")
    for attention_method in _attention_methods():
        difference = TreeEngine(model, attention_method=attention_method).check_tree()
        rows.append(check_row(f"self-check by {attention_method}, {dtype_name}: nats a token", difference, bound))
    return rows


def check_float32_products(device: str) -> list[dict[str, Any]]:
    """Whether products of float32 are computed in float32: TF32 would make them faster, and all numbers worse, unnoticed."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    product = (left.to(device) @ right.to(device)).cpu().double()
    error = float((product - exact).abs().max() / exact.abs().max())
    return [
        check_row("a product in float32: largest relative error", error, _TF32_ERROR),
        check_row("TF32 allowed in products", float(torch.backends.cuda.matmul.allow_tf32), 0),
    ]
