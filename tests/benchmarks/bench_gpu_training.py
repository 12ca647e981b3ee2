"""Training on one GPU for bench_gpu.py: its attention kernel and one ZeRO-3 step checked, and a step profiled.

In: generated records. Out: rows of checks and a profile. A step of orca-bench's engine is compared with the same step written in
plain PyTorch. Its own module because it needs DeepSpeed; where that is missing the rest of the benchmark still runs.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_gpu_process import Recorder, check_row, synchronize

from orca_bench.child_processes import find_free_port

_LOSS_BOUND, _NORM_BOUND = 2e-5, 2e-4  # nats a trained token; relative
_CHECK_SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
_STEPS = 3


def check_packing(recorder: Recorder) -> None:
    """The kernel for packed examples beside each example alone, for the sizes of heads of LLaMAs and open_llama_3b's."""
    import bench_training_attention

    for head_size in (16,) if recorder.is_tiny else (64, 100, 128):
        recorder.measure(
            f"packing, heads of {head_size}",
            lambda size=head_size: _packing_rows(
                bench_training_attention.check_attention(size, device=recorder.device)
            ),
        )


def _packing_rows(check: Any) -> list[dict[str, Any]]:
    rows = []
    for name, value, bound in (
        ("outputs", check.output_difference, 0.01),
        ("gradients", check.gradient_difference, 0.02),
    ):
        text = f"packed examples in one kernel, heads of {check.head_size}, bfloat16: {name}, relative difference"
        rows.append(check_row(text, value, bound))
    return [
        *rows,
        {
            "kind": "packing speed",
            "head_size": check.head_size,
            "kernel_ms": check.kernel_ms,
            "one_by_one_ms": check.one_by_one_ms,
        },
    ]


@dataclass(frozen=True)
class _Run:
    """A DeepSpeed engine with the plan of its steps."""

    recipe: Any
    tokenizer: Any
    examples: Any
    plan: Any
    engine: Any

    def step(self, step_index: int) -> tuple[float, float | None]:
        """(loss, gradient norm) of one step of orca-bench's loop."""
        from orca_bench.train import training_loop

        passes = training_loop._read_passes(self.examples, self.plan, [step_index], 0)
        loss, _, gradient_norm = training_loop._train_step(
            self.engine, self.examples, self.plan, step_index, passes, False
        )
        return loss, gradient_norm


def _start_run(
    folder: Path, shape: dict[str, Any], vocabulary_size: int, precision: str, step_count: int, device: str
) -> _Run:
    from bench_training_command import recipe_text
    from bench_training_contenders import Contender, Task, encode
    from bench_training_rows import MAX_LENGTH, prepare_rows

    from orca_bench.recipe import Recipe
    from orca_bench.train import deepspeed_engine, student_model
    from orca_bench.train.batch_plan import BatchPlan

    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_port()),
    }
    rows = prepare_rows(folder / "rows", [], None, vocabulary_size, 16 * (step_count + 1))
    task = Task(shape, str(rows.records_file), str(rows.tokenizer_source), MAX_LENGTH, 0, step_count, 1, device)
    examples, tokenizer = encode(task)
    contender = Contender("orca", precision, 16, 16, packing="exact")
    recipe = Recipe.model_validate(json.loads(recipe_text(contender, task, step_count)))
    plan = BatchPlan.of_recipe(recipe, examples, student_model.student_config(recipe, tokenizer))
    return _Run(recipe, tokenizer, examples, plan, deepspeed_engine.start_engine(recipe, tokenizer))


def check_training_step(recorder: Recorder) -> None:
    """Three steps in float32 with ZeRO-3 and packed examples, beside plain PyTorch: losses and gradient norms."""
    recorder.measure("ZeRO-3 beside plain PyTorch", lambda: _step_rows(recorder.device))


def _step_rows(device: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        run = _start_run(Path(folder), _CHECK_SHAPE, 2000, "fp32", _STEPS, device)
        steps = [run.step(step_index) for step_index in range(_STEPS)]
        expected_steps = _plain_steps(run, device)
    loss_difference = max(abs(loss - expected) for (loss, _), (expected, _) in zip(steps, expected_steps, strict=True))
    norm_difference = max(
        abs(norm - expected) / expected
        for (_, norm), (_, expected) in zip(steps, expected_steps, strict=True)
        if norm is not None
    )
    print(f"ZeRO-3: {steps}; plain PyTorch: {expected_steps}", flush=True)
    return [
        check_row(f"{_STEPS} ZeRO-3 steps beside plain PyTorch, float32: loss, nats", loss_difference, _LOSS_BOUND),
        check_row(
            f"{_STEPS} ZeRO-3 steps beside plain PyTorch, float32: gradient norm, relative",
            norm_difference,
            _NORM_BOUND,
        ),
    ]


def _plain_steps(run: _Run, device: str) -> list[tuple[float, float]]:
    """The same steps with one example a pass, torch's AdamW and nothing of orca-bench's loop."""
    import torch

    from orca_bench.train import student_model

    train, examples = run.recipe.train, run.examples
    model = student_model.build_random_model(student_model.student_config(run.recipe, run.tokenizer), train.seed)
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0, betas=tuple(train.betas), eps=train.eps, weight_decay=train.weight_decay
    )
    steps = []
    for step_index in range(_STEPS):
        optimizer.param_groups[0]["lr"] = run.plan.learning_rate(step_index)
        example_indices, step_loss = run.plan.example_indices_of_step(step_index), 0.0
        trained_count = int(examples.trained_token_counts[example_indices].sum())
        for index in example_indices:
            token_ids = torch.tensor(examples.example(index), dtype=torch.long, device=device)
            start = int(examples.prompt_lengths[index])
            logits = model(input_ids=token_ids[None], use_cache=False).logits[0, start - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, token_ids[start:], reduction="sum") / trained_count
            loss.backward()
            step_loss += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip))
        optimizer.step()
        optimizer.zero_grad()
        steps.append((step_loss, norm))
    return steps


def profile_training(recorder: Recorder) -> None:
    """Steps of the card's batch, 16 examples, of the 1b shape: timed, and one of them profiled."""
    recorder.measure("profile of a training step", lambda: _profiled_steps(recorder))


def _profiled_steps(recorder: Recorder) -> list[dict[str, Any]]:
    import bench_gpu_decoding
    from bench_training_shapes import SHAPES, VOCAB_SIZES

    shape_name, step_count = ("tiny", 6) if recorder.is_tiny else ("1b", 12)
    with tempfile.TemporaryDirectory() as folder:
        run = _start_run(Path(folder), SHAPES[shape_name], VOCAB_SIZES[shape_name], "bf16", step_count, recorder.device)
        step_indices = iter(range(step_count))
        for _ in range(step_count - 3):
            start = time.perf_counter()
            loss, _ = run.step(next(step_indices))
            synchronize(recorder.device)
            print(f"step: {time.perf_counter() - start:.3f} s, loss {loss:.4f}", flush=True)
        profile = bench_gpu_decoding.profile(recorder, "training", lambda: run.step(next(step_indices)), is_warm=True)
    return [profile]
