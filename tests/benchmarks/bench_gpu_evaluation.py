"""Evaluation for bench_gpu.py: log-likelihoods and texts by the engine, beside lm-eval's own class and plain batched passes.

In: a shape. Out: a row for each contender: seconds, tokens that were sent and computed, the share of the peak rate, memory. All
contenders answer the same token ids with the same model, so that nothing but the way of computing differs. Shares of the peak
rate count 2 FLOP for each parameter that a computed token is multiplied with, and no attention; the output head counts for
every token, though it is computed only where something is scored.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bench_gpu_inputs
import numpy as np
from bench_gpu_process import Recorder, peak_gib, synchronize

_PLAIN_BATCH_TOKENS = 16_384  # of a batch of the plain passes, padding included


def measure_small_model(recorder: Recorder) -> None:
    """TinyLlama's shape, or a tiny one: log-likelihoods of all tasks by all contenders, then texts."""
    shape_name = "tiny" if recorder.is_tiny else "1.1b"
    task_share, token_share = (0.02, 0.05) if recorder.is_tiny else (1.0, 1.0)
    batch_sizes = [4] if recorder.is_tiny else [16, 64]
    _measure_model(recorder, shape_name, task_share, token_share, batch_sizes)


def measure_large_model(recorder: Recorder) -> None:
    """The shape of LLaMA-7B, or a tiny one, with a quarter of the questions."""
    shape_name = "tiny" if recorder.is_tiny else "7b"
    task_share, token_share = (0.02, 0.05) if recorder.is_tiny else (0.25, 1.0)
    _measure_model(recorder, shape_name, task_share, token_share, [4] if recorder.is_tiny else [16])


def _measure_model(
    recorder: Recorder, shape_name: str, task_share: float, token_share: float, batch_sizes: list[int]
) -> None:
    """All measurements of one model."""
    evaluation = _Evaluation(recorder, shape_name)
    tasks = bench_gpu_inputs.scaled_task_shapes(task_share, token_share)
    sequences_by_task = bench_gpu_inputs.sequences_of_tasks(tasks, evaluation.vocabulary_size)
    count, mean_tokens, new_tokens = (3, 8, 4) if recorder.is_tiny else (64, 384, 128)
    prompts = bench_gpu_inputs.prompts(count, mean_tokens, evaluation.vocabulary_size)
    engine_answers, engine_texts = _Answers(), []
    recorder.measure(
        f"log-likelihoods {shape_name} engine",
        lambda: evaluation.score_by_engine("lengths", sequences_by_task, engine_answers),
    )
    recorder.measure(
        f"texts {shape_name} engine", lambda: evaluation.generate_by_engine(prompts, new_tokens, engine_texts)
    )
    recorder.measure(
        f"log-likelihoods {shape_name} engine, mask",
        lambda: evaluation.score_by_engine("mask", sequences_by_task, engine_answers),
    )
    for batch_size in batch_sizes:
        recorder.measure(
            f"log-likelihoods {shape_name} lm-eval {batch_size}",
            lambda size=batch_size: evaluation.score_by_lm_eval(sequences_by_task, size, engine_answers),
            expected_s=0 if recorder.is_tiny else 8,
        )
    recorder.measure(
        f"texts {shape_name} generate",
        lambda: evaluation.generate_by_transformers(prompts, new_tokens, engine_texts),
        expected_s=0 if recorder.is_tiny else 8,
    )
    recorder.measure(
        f"log-likelihoods {shape_name} plain passes",
        lambda: evaluation.score_by_plain_passes(sequences_by_task, engine_answers),
        expected_s=0 if recorder.is_tiny else 8,
    )


class _Answers:
    """The log-probabilities of the engine, by task, for comparison; empty where it failed."""

    def __init__(self) -> None:
        self.logprobs_by_task: dict[str, list[float]] = {}

    def mean_difference(self, task_name: str, logprobs: Sequence[float]) -> float | None:
        """The mean absolute difference, nats a request."""
        if task_name not in self.logprobs_by_task:
            return None
        return float(np.abs(np.subtract(self.logprobs_by_task[task_name], logprobs)).mean())


class _Evaluation:
    """A model in bfloat16, and what its contenders share."""

    def __init__(self, recorder: Recorder, shape_name: str):
        from orca_bench.train.model_flops import peak_flops_per_second

        self.device, self.shape_name, self.is_tiny = recorder.device, shape_name, recorder.is_tiny
        self.vocabulary_size = bench_gpu_inputs.SHAPES[shape_name]["vocab_size"]
        start = time.perf_counter()
        self.model = bench_gpu_inputs.build_model(shape_name, "bfloat16", recorder.device)
        synchronize(self.device)
        print(f"{shape_name}: weights drawn in {time.perf_counter() - start:.1f} s", flush=True)
        self.flops_per_token = 2.0 * bench_gpu_inputs.product_parameter_count(self.model)
        self.peak_rate = peak_flops_per_second(_device_name(self.device))
        self._engines: dict[str, Any] = {}

    def score_by_engine(
        self, attention_method: str, sequences_by_task: dict[str, list[Any]], answers: _Answers
    ) -> list[dict[str, Any]]:
        """The prefix tree of each task; the answers of `lengths`, the engine's own choice on a GPU, are those to compare with."""
        from orca_bench.evaluate.engine import prefix_tree

        engine = self._checked_engine(attention_method)
        for sequences in sequences_by_task.values():  # kernels are loaded, and their best variants chosen
            engine.log_likelihoods(sequences[: len(sequences) // 6 + 1])

        def score(sequences: list[Any]) -> list[float]:
            return [answer.log_probability for answer in engine.log_likelihoods(sequences)]

        is_default = attention_method == "lengths"
        contender = "engine" if is_default else f"engine, attention by {attention_method}"
        return self._score_tasks(
            contender, sequences_by_task, score, answers, prefix_tree.count_distinct_tokens, keeps_answers=is_default
        )

    def score_by_lm_eval(
        self, sequences_by_task: dict[str, list[Any]], batch_size: int, answers: _Answers
    ) -> list[dict[str, Any]]:
        """lm-eval's `hf` class, which pads, and computes requests of one token with the same context once."""
        from lm_eval.models.huggingface import HFLM

        with tempfile.TemporaryDirectory() as folder:
            tokenizer = bench_gpu_inputs.word_tokenizer(Path(folder), self.vocabulary_size)
            language_model = HFLM(
                pretrained=self.model, tokenizer=tokenizer, batch_size=batch_size, max_length=2048, backend="causal"
            )

            def score(sequences: list[Any]) -> list[float]:
                requests = [
                    (
                        ("", ""),
                        sequence.token_ids[: sequence.scored_start],
                        sequence.token_ids[sequence.scored_start :],
                    )
                    for sequence in sequences
                ]
                results = language_model._loglikelihood_tokens(requests, disable_tqdm=True)
                return [float(log_probability) for log_probability, _ in results]

            score(next(iter(sequences_by_task.values()))[:batch_size])
            return self._score_tasks(f"lm-eval hf, batch {batch_size}", sequences_by_task, score, answers)

    def score_by_plain_passes(self, sequences_by_task: dict[str, list[Any]], answers: _Answers) -> list[dict[str, Any]]:
        """The model's own passes over padded batches of similar lengths, the output head on scored positions alone."""
        return self._score_tasks("plain batched passes", sequences_by_task, self._plain_scores, answers)

    def _plain_scores(self, sequences: list[Any]) -> list[float]:
        import torch

        logprobs = [0.0] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda index: -len(sequences[index].token_ids))
        while order:
            width = len(sequences[order[0]].token_ids) - 1
            batch, order = _split(order, max(1, _PLAIN_BATCH_TOKENS // width))
            rows = [
                [*sequences[index].token_ids[:-1], *[0] * (width - len(sequences[index].token_ids) + 1)]
                for index in batch
            ]
            positions = [
                (row, position)
                for row, index in enumerate(batch)
                for position in range(sequences[index].scored_start - 1, len(sequences[index].token_ids) - 1)
            ]
            target_ids = [
                token_id for index in batch for token_id in sequences[index].token_ids[sequences[index].scored_start :]
            ]
            with torch.inference_mode():
                # Padding stands on the right, where causal attention never looks.
                hidden_states = self.model.model(
                    input_ids=torch.tensor(rows, device=self.device), use_cache=False
                ).last_hidden_state
                row_indices, token_indices = torch.tensor(positions, device=self.device).T
                logits = self.model.lm_head(hidden_states[row_indices, token_indices]).float()
                targets = torch.tensor(target_ids, device=self.device)[:, None]
                scores = logits.log_softmax(dim=-1).gather(1, targets)[:, 0].double().tolist()
            for (row, _), score in zip(positions, scores, strict=True):
                logprobs[batch[row]] += score
        return logprobs

    def _score_tasks(
        self,
        contender: str,
        sequences_by_task: dict[str, list[Any]],
        score: Callable[[list[Any]], list[float]],
        answers: _Answers,
        count_computed: Callable[[list[Any]], int] | None = None,
        keeps_answers: bool = False,
    ) -> list[dict[str, Any]]:
        """A row for each task; `count_computed` says how many tokens a contender computes, else its passes are counted."""
        rows = []
        for task_name, sequences in sequences_by_task.items():
            counter = _TokenCounter(self.model)
            synchronize(self.device)
            start = time.perf_counter()
            try:
                logprobs = score(sequences)
            finally:
                counter.remove()
            seconds = time.perf_counter() - start
            computed = counter.token_count if count_computed is None else count_computed(sequences)
            rows.append(
                {
                    "kind": "log-likelihoods",
                    "shape": self.shape_name,
                    "contender": contender,
                    "task": task_name,
                    "requests": len(sequences),
                    "sent_tokens": sum(len(sequence.token_ids) - 1 for sequence in sequences),
                    "computed_tokens": computed,
                    "seconds": seconds,
                    "peak_share": self._peak_share(computed, seconds),
                    "peak_gib": peak_gib(self.device),
                    "mean_difference_nats": answers.mean_difference(task_name, logprobs),
                }
            )
            if keeps_answers:
                answers.logprobs_by_task[task_name] = logprobs
        return rows

    def generate_by_engine(self, prompts: list[list[int]], new_tokens: int, texts: list[list[int]]) -> dict[str, Any]:
        """Greedy texts of exactly `new_tokens` tokens, put into `texts`."""
        engine = self._checked_engine()

        def generate(max_new_tokens: int) -> list[list[int]]:
            return engine.generate_ids(prompts, lambda index, ids: False, max_new_tokens)

        generate(2)
        texts[:], seconds = self._timed(lambda: generate(new_tokens))
        return self._text_row("engine", prompts, new_tokens, seconds)

    def generate_by_transformers(
        self, prompts: list[list[int]], new_tokens: int, engine_texts: list[list[int]]
    ) -> dict[str, Any]:
        """transformers' `generate` of all prompts in one batch, padded on the left."""
        import torch
        from transformers import GenerationConfig

        width = max(map(len, prompts))
        token_ids = torch.tensor([[0] * (width - len(ids)) + ids for ids in prompts], device=self.device)
        attention_mask = torch.tensor(
            [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=self.device
        )
        self.model.generation_config = GenerationConfig()  # without a token that ends a text

        def generate(max_new_tokens: int) -> list[list[int]]:
            generation = GenerationConfig(
                do_sample=False, max_new_tokens=max_new_tokens, use_cache=True, pad_token_id=0
            )
            with torch.inference_mode():
                output = self.model.generate(
                    input_ids=token_ids, attention_mask=attention_mask, generation_config=generation
                )
            return output[:, width:].tolist()

        generate(2)
        texts, seconds = self._timed(lambda: generate(new_tokens))
        row = self._text_row("transformers generate", prompts, new_tokens, seconds)
        if engine_texts:
            agreements = [_agreeing_tokens(*pair) for pair in zip(texts, engine_texts, strict=True)]
            row["mean_agreeing_tokens"] = float(np.mean(agreements))
        return row

    def _text_row(self, contender: str, prompts: list[list[int]], new_tokens: int, seconds: float) -> dict[str, Any]:
        return {
            "kind": "texts",
            "shape": self.shape_name,
            "contender": contender,
            "prompts": len(prompts),
            "prompt_tokens": sum(map(len, prompts)),
            "new_tokens": len(prompts) * new_tokens,
            "seconds": seconds,
            "peak_gib": peak_gib(self.device),
        }

    def _timed(self, function: Callable[[], Any]) -> tuple[Any, float]:
        synchronize(self.device)
        start = time.perf_counter()
        result = function()
        synchronize(self.device)
        return result, time.perf_counter() - start

    def _checked_engine(self, attention_method: str = "lengths") -> Any:
        from orca_bench.evaluate.engine.tree_engine import TreeEngine

        if attention_method not in self._engines:
            engine = TreeEngine(self.model, attention_method=attention_method)
            engine.choose_path()
            if engine.computation_path != "tree":
                raise RuntimeError(f"the engine does not use its tree: {engine.plain_path_reason}")
            print(f"{self.shape_name}: {engine.max_batch_tokens} tokens a batch, by {attention_method}", flush=True)
            self._engines[attention_method] = engine
        return self._engines[attention_method]

    def _peak_share(self, token_count: int, seconds: float) -> float | None:
        return None if self.peak_rate is None else token_count * self.flops_per_token / seconds / self.peak_rate


class _TokenCounter:
    """Counts the tokens, padding included, that a model's own passes compute, until `remove`."""

    def __init__(self, model: Any):
        self.token_count = 0
        self._hook = model.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        token_ids = options.get("input_ids", arguments[0] if arguments else None)
        self.token_count += 0 if token_ids is None else token_ids.numel()

    def remove(self) -> None:
        self._hook.remove()


def _device_name(device: str) -> str:
    import torch

    return "CPU" if device == "cpu" else torch.cuda.get_device_name()


def _split(items: list[int], count: int) -> tuple[list[int], list[int]]:
    return items[:count], items[count:]


def _agreeing_tokens(first_ids: list[int], second_ids: list[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return len(os.path.commonprefix([first_ids, second_ids]))
