"""Token ids in, log-probabilities and greedy ids out, by a model's own forward passes: the path for what no tree fits.

Each sequence is fed alone, without padding and without anything of ours inside the model, so the numbers are the model's own,
whatever its attention or recurrent state. This is slower than a prefix tree: what sequences share is computed for each of them;
one pass answers only those of which the same tokens are fed. Its own module because it is also what the tree is checked
against, and so must share nothing with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from orca_bench.errors import NotFinite, UserError, one_line
from orca_bench.evaluate.engine.batched_generation import Finished, NotANumber
from orca_bench.evaluate.engine_interface import LogLikelihood
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models import architecture

_OUT_OF_MEMORY = "the model needs a larger device, or --device-map auto to be spread over several"


class PlainPasses:
    """A causal language model that is fed one sequence at a time. `cache` is whether it generates with its own cache."""

    def __init__(self, model: PreTrainedModel, device: torch.device):
        self.model, self.device = model, device
        self.cache = True
        self._output_head = _OutputHeadTrimmer(model)
        self._rotary = [module for module in model.modules() if hasattr(module, "original_max_seq_len")]

    def log_likelihoods(self, sequences: Sequence[ScoredSequence]) -> Iterator[dict[int, LogLikelihood]]:
        """The scores of the sequences that one pass answers, by number; a dictionary for each pass.

        Raises NotFinite, with the number of the sequence, and UserError where the memory is too small for one pass.
        """
        for group in _groups(sequences):
            fed = sequences[group[0]].ids[:-1]
            first = min(sequences[number].start for number in group)
            table = self.log_probabilities(fed, first - 1)
            best = table.argmax(dim=-1).tolist()
            answers = {}
            for number in group:
                sequence = sequences[number]
                places = range(sequence.start - first, len(sequence.ids) - first)
                targets = sequence.ids[sequence.start :]
                logprob = float(table[places, targets].double().sum())
                if not math.isfinite(logprob):
                    raise NotFinite(number, logprob)
                answers[number] = LogLikelihood(logprob, [best[place] for place in places] == targets)
            yield answers

    def log_probabilities(self, ids: list[int], first: int = 0, trimmed: bool = True) -> torch.Tensor:
        """The log-probabilities after each of the ids from place `first` on, float32 [tokens - first, vocabulary], nats.

        With `trimmed` only those positions go through the output head, where the model has one of its own.
        """
        self._reset_rotary(len(ids))
        trim = self._output_head.only(first if trimmed else 0)
        with _naming_full_memory(len(ids)), trim:
            logits = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0]
            return logits[len(logits) - (len(ids) - first) :].float().log_softmax(dim=-1)

    def generate_ids(self, prompt: Sequence[int], number: int, finished: Finished, max_new_tokens: int) -> list[int]:
        """Greedy continuation ids of one prompt, at most `max_new_tokens`; see `TreeEngine.generate_ids`.

        Raises NotFinite and UserError as `log_likelihoods`.
        """
        self._reset_rotary(len(prompt) + max_new_tokens)
        generate = self._generate_with_cache if self.cache else self._generate_without_cache
        with _naming_full_memory(len(prompt) + max_new_tokens):
            return generate(list(prompt), number, finished, max_new_tokens)

    def _generate_with_cache(
        self, prompt: list[int], number: int, finished: Finished, max_new_tokens: int
    ) -> list[int]:
        """By transformers' own `generate`, which knows the cache of every model."""
        ids = torch.tensor([prompt], device=self.device)
        # What a folder's generation_config.json says of sampling, penalties and stops is none of the greedy continuation.
        own_config = getattr(self.model, "generation_config", None)
        self.model.generation_config = GenerationConfig()
        try:
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=GenerationConfig(
                    do_sample=False, max_new_tokens=max_new_tokens, use_cache=True, pad_token_id=0
                ),
                logits_processor=LogitsProcessorList([_Finite(number)]),
                stopping_criteria=StoppingCriteriaList([_Complete(number, len(prompt), finished)]),
            )
        except NotANumber as error:
            raise NotFinite(error.number, error.value) from None
        finally:
            self.model.generation_config = own_config
        return out[0, len(prompt) :].tolist()

    def _generate_without_cache(
        self, prompt: list[int], number: int, finished: Finished, max_new_tokens: int
    ) -> list[int]:
        new: list[int] = []
        while len(new) < max_new_tokens:
            table = self.log_probabilities(prompt + new, len(prompt) + len(new) - 1)
            value, token = table[0].max(dim=-1)
            if not math.isfinite(float(value)):
                raise NotFinite(number, float(value))
            new.append(int(token))
            if finished(number, new):
                break
        return new

    def _reset_rotary(self, length: int) -> None:
        """Bring rotary frequencies that grew with an earlier input back to those of a short one.

        transformers 5.23 (modeling_rope_utils.dynamic_rope_update) keeps them while an input is longer than the original
        window, so that an answer would depend on what was answered before.
        """
        for module in self._rotary:
            lengths = [int(value) for name, value in vars(module).items() if name.endswith("max_seq_len_cached")]
            if length >= module.original_max_seq_len < max(lengths, default=0):
                self.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)
                return

    # --- the check ------------------------------------------------------------------------------------------------

    def check(self, tolerance: float) -> None:
        """Find out whether the model can be evaluated at all, and whether its cache gives what plain passes give.

        Raises UserError where the model is not one that predicts each token from those before it.
        """
        random = np.random.default_rng(0)
        first, other = (random.integers(0, architecture.vocabulary_size(self.model), 24).tolist() for _ in range(2))
        try:
            table = self.log_probabilities(first, trimmed=False)
            changed = self.log_probabilities(first[:16] + other[16:], trimmed=False)
            trimmed = self.log_probabilities(first, 10)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model raises that needs more than ids
            raise UserError(
                f"the model cannot be fed ids alone ({type(error).__name__}: {one_line(error, 160)})"
            ) from error
        if not bool(table.isfinite().all()):
            raise NotFinite(0, float("nan"))
        if float((table[:16] - changed[:16]).abs().max()) > tolerance:
            raise UserError(
                "the model's prediction of a token depends on the tokens behind it, or on chance",
                hint="only causal language models can be evaluated",
            )
        if trimmed.shape != table[10:].shape or float((trimmed - table[10:]).abs().max()) > tolerance:
            self._output_head = _OutputHeadTrimmer(None)
        self.cache = self._cache_agrees(first, tolerance)

    def _cache_agrees(self, prompt: list[int], tolerance: float) -> bool:
        try:
            new = self._generate_with_cache(prompt, 0, lambda number, ids: False, 5)
        except NotFinite:
            raise
        except Exception:  # whatever `generate` of a model raises: it is generated without
            return False
        table = self.log_probabilities([*prompt, *new[:-1]], len(prompt) - 1)
        below = table.max(dim=-1).values - table[range(len(new)), new]
        return float(below.max()) <= tolerance


class _OutputHeadTrimmer:
    """Lets only the last positions of a pass through to a model's output head, whose logits are the largest tensor of all."""

    def __init__(self, model: PreTrainedModel | None):
        self._first = 0
        head = None if model is None else model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._trim)

    @contextmanager
    def only(self, first: int) -> Iterator[None]:
        """Inside the block, only positions from place `first` on go through."""
        self._first = first
        try:
            yield
        finally:
            self._first = 0

    def _trim(self, head: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._first or not inputs or inputs[0].dim() != 3:
            return None
        return (inputs[0][:, self._first :], *inputs[1:])


class _Finite(LogitsProcessor):
    """Raises NotANumber where the likeliest token has no finite logit."""

    def __init__(self, number: int):
        self._number = number

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not math.isfinite(value := float(scores.max())):
            raise NotANumber(self._number, value)
        return scores


class _Complete(StoppingCriteria):
    """Ends a text where `finished` says so; the prompt has `prompt_length` tokens."""

    def __init__(self, number: int, prompt_length: int, finished: Finished):
        self._number, self._prompt_length, self._finished = number, prompt_length, finished

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        complete = self._finished(self._number, input_ids[0, self._prompt_length :].tolist())
        return torch.tensor([complete], device=input_ids.device)


def _groups(sequences: Sequence[ScoredSequence]) -> Iterator[list[int]]:
    """The numbers of the sequences of which the same tokens are fed, such as those of four choices of one token each.

    A sequence that is the beginning of another is fed alone all the same: a model may depend on the length (top-k with ties,
    for one).
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence.ids[:-1]), []).append(number)
    yield from groups.values()


@contextmanager
def _naming_full_memory(tokens: int) -> Iterator[None]:
    """Raise UserError where the memory is too small for a sequence of so many tokens."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(f"out of memory with one sequence of {tokens} tokens", hint=_OUT_OF_MEMORY) from None
