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
from typing import Any, NamedTuple

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
from orca_bench.evaluate.engine.batched_generation import IsFinished, NonFiniteLogit
from orca_bench.evaluate.engine.token_choice import TokenChooser
from orca_bench.evaluate.engine_interface import LogLikelihood
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models import architecture

_OUT_OF_MEMORY_HINT = "the model needs a larger device, or --device-map auto to be spread over several"


class _TextRequest(NamedTuple):
    """The prompt of a number, and what decides its text: greedily, or with a chooser."""

    prompt_index: int
    prompt_ids: list[int]
    max_new_tokens: int
    is_finished: IsFinished
    chooser: TokenChooser | None = None


class PlainPasses:
    """A causal language model that is fed one sequence at a time. `use_cache` is whether it generates with its own cache."""

    def __init__(self, model: PreTrainedModel, device: torch.device):
        self.model, self.device = model, device
        self.use_cache = True
        self._output_head_trimmer = _OutputHeadTrimmer(model)
        self._rotary_modules = [module for module in model.modules() if hasattr(module, "original_max_seq_len")]

    def log_likelihoods(self, sequences: Sequence[ScoredSequence]) -> Iterator[dict[int, LogLikelihood]]:
        """The scores of the sequences that one pass answers, by number; a dictionary for each pass.

        Raises NotFinite, with the number of the sequence, and UserError where the memory is too small for one pass.
        """
        for group_sequence_indices in _group_by_fed_token_ids(sequences):
            fed_token_ids = sequences[group_sequence_indices[0]].token_ids[:-1]
            first_scored_position = min(
                sequences[sequence_index].scored_start for sequence_index in group_sequence_indices
            )
            logprobs = self.log_probabilities(fed_token_ids, first_scored_position - 1)
            greedy_token_ids = logprobs.argmax(dim=-1).tolist()
            answers_by_index = {}
            for sequence_index in group_sequence_indices:
                sequence = sequences[sequence_index]
                positions = range(
                    sequence.scored_start - first_scored_position, len(sequence.token_ids) - first_scored_position
                )
                target_ids = sequence.token_ids[sequence.scored_start :]
                log_probability = float(logprobs[positions, target_ids].double().sum())
                if not math.isfinite(log_probability):
                    raise NotFinite(sequence_index, log_probability)
                answers_by_index[sequence_index] = LogLikelihood(
                    log_probability, [greedy_token_ids[position] for position in positions] == target_ids
                )
            yield answers_by_index

    def log_probabilities(
        self, token_ids: list[int], first_position: int = 0, trims_output_head: bool = True
    ) -> torch.Tensor:
        """The log-probabilities after each of the ids from `first_position` on, nats.

        They are float32 [tokens - first_position, vocabulary].

        With `trims_output_head` only those positions go through the output head, where the model has one of its own.
        """
        self._reset_rotary(len(token_ids))
        trimming = self._output_head_trimmer.trim_before(first_position if trims_output_head else 0)
        with _explain_full_memory(len(token_ids)), trimming:
            logits = self.model(input_ids=torch.tensor([token_ids], device=self.device), use_cache=False).logits[0]
            return logits[len(logits) - (len(token_ids) - first_position) :].float().log_softmax(dim=-1)

    def generate_ids(
        self,
        prompt_ids: Sequence[int],
        prompt_index: int,
        is_finished: IsFinished,
        max_new_tokens: int,
        chooser: TokenChooser | None = None,
    ) -> list[int]:
        """Continuation ids of one prompt, at most `max_new_tokens`, greedy without a `chooser`; see `TreeEngine.generate_ids`.

        Raises NotFinite and UserError as `log_likelihoods`.
        """
        self._reset_rotary(len(prompt_ids) + max_new_tokens)
        generate_continuation = self._generate_with_cache if self.use_cache else self._generate_without_cache
        with _explain_full_memory(len(prompt_ids) + max_new_tokens):
            return generate_continuation(
                _TextRequest(prompt_index, list(prompt_ids), max_new_tokens, is_finished, chooser)
            )

    def _generate_with_cache(self, request: _TextRequest) -> list[int]:
        """By transformers' own `generate`, which knows the cache of every model."""
        token_ids, prompt_length = torch.tensor([request.prompt_ids], device=self.device), len(request.prompt_ids)
        # What a folder's generation_config.json says of sampling, penalties and stops is none of the greedy continuation.
        original_config = getattr(self.model, "generation_config", None)
        self.model.generation_config = GenerationConfig()
        try:
            output = self.model.generate(
                input_ids=token_ids,
                attention_mask=torch.ones_like(token_ids),
                generation_config=GenerationConfig(
                    do_sample=False, max_new_tokens=request.max_new_tokens, use_cache=True, pad_token_id=0
                ),
                logits_processor=LogitsProcessorList(
                    [
                        _RequireFiniteLogits(request.prompt_index),
                        *([] if request.chooser is None else [_LeaveChosenToken(request.chooser, prompt_length)]),
                    ]
                ),
                stopping_criteria=StoppingCriteriaList([_StopWhenComplete(request)]),
            )
        except NonFiniteLogit as error:
            raise NotFinite(error.prompt_index, error.logit) from None
        finally:
            self.model.generation_config = original_config
        return output[0, prompt_length:].tolist()

    def _generate_without_cache(self, request: _TextRequest) -> list[int]:
        chooser = request.chooser
        new_token_ids: list[int] = []
        if chooser is not None and chooser.needs_logits:
            raise UserError("no repetition penalty is served for a model that generates without a cache")
        while len(new_token_ids) < request.max_new_tokens:
            token_ids = request.prompt_ids + new_token_ids
            logprobs = self.log_probabilities(token_ids, len(token_ids) - 1)
            highest_logprob, token_id = logprobs[0].max(dim=-1)
            if not math.isfinite(float(highest_logprob)):
                raise NotFinite(request.prompt_index, float(highest_logprob))
            new_token_ids.append(int(token_id) if chooser is None else chooser.choose(logprobs[0], new_token_ids))
            if request.is_finished(request.prompt_index, new_token_ids):
                break
        return new_token_ids

    def _reset_rotary(self, input_length: int) -> None:
        """Bring rotary frequencies that grew with an earlier input back to those of a short one.

        transformers 5.23 (modeling_rope_utils.dynamic_rope_update) keeps them while an input is longer than the original
        window, so that an answer would depend on what was answered before.
        """
        for module in self._rotary_modules:
            cached_lengths = [
                int(cached_length)
                for attribute_name, cached_length in vars(module).items()
                if attribute_name.endswith("max_seq_len_cached")
            ]
            if input_length >= module.original_max_seq_len < max(cached_lengths, default=0):
                self.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)
                return

    # --- the check ------------------------------------------------------------------------------------------------

    def check_and_choose_cache(self, tolerance_nats: float) -> None:
        """Find out whether the model can be evaluated at all, and whether its cache gives what plain passes give.

        Raises UserError where the model is not one that predicts each token from those before it.
        """
        generator = np.random.default_rng(0)
        first_random_ids, other_random_ids = (
            generator.integers(0, architecture.vocabulary_size(self.model), 24).tolist() for _ in range(2)
        )
        try:
            first_logprobs = self.log_probabilities(first_random_ids, trims_output_head=False)
            changed_logprobs = self.log_probabilities(
                first_random_ids[:16] + other_random_ids[16:], trims_output_head=False
            )
            trimmed_logprobs = self.log_probabilities(first_random_ids, 10)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model raises that needs more than ids
            raise UserError(
                f"the model cannot be fed ids alone ({type(error).__name__}: {one_line(error, 160)})"
            ) from error
        if not bool(first_logprobs.isfinite().all()):
            raise NotFinite(0, float("nan"))
        if float((first_logprobs[:16] - changed_logprobs[:16]).abs().max()) > tolerance_nats:
            raise UserError(
                "the model's prediction of a token depends on the tokens behind it, or on chance",
                hint="only causal language models can be evaluated",
            )
        if (
            trimmed_logprobs.shape != first_logprobs[10:].shape
            or float((trimmed_logprobs - first_logprobs[10:]).abs().max()) > tolerance_nats
        ):
            self._output_head_trimmer = _OutputHeadTrimmer(None)
        self.use_cache = self._cache_agrees(first_random_ids, tolerance_nats)

    def _cache_agrees(self, prompt_ids: list[int], tolerance_nats: float) -> bool:
        try:
            new_token_ids = self._generate_with_cache(
                _TextRequest(0, prompt_ids, 5, is_finished=lambda prompt_index, token_ids: False)
            )
        except NotFinite:
            raise
        except Exception:  # whatever `generate` of a model raises: it is generated without
            return False
        logprobs = self.log_probabilities([*prompt_ids, *new_token_ids[:-1]], len(prompt_ids) - 1)
        logprob_gaps = logprobs.max(dim=-1).values - logprobs[range(len(new_token_ids)), new_token_ids]
        return float(logprob_gaps.max()) <= tolerance_nats


class _OutputHeadTrimmer:
    """Lets only the last positions of a pass through to a model's output head, whose logits are the largest tensor of all."""

    def __init__(self, model: PreTrainedModel | None):
        self._first_position = 0
        output_head = None if model is None else model.get_output_embeddings()
        if output_head is not None:
            output_head.register_forward_pre_hook(self._trim_positions)

    @contextmanager
    def trim_before(self, first_position: int) -> Iterator[None]:
        """Inside the block, only positions from place `first_position` on go through."""
        self._first_position = first_position
        try:
            yield
        finally:
            self._first_position = 0

    def _trim_positions(self, output_head: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._first_position or not inputs or inputs[0].dim() != 3:
            return None
        return (inputs[0][:, self._first_position :], *inputs[1:])


class _RequireFiniteLogits(LogitsProcessor):
    """Raises NonFiniteLogit where the likeliest token has no finite logit."""

    def __init__(self, prompt_index: int):
        self._prompt_index = prompt_index

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not math.isfinite(highest_logit := float(scores.max())):
            raise NonFiniteLogit(self._prompt_index, highest_logit)
        return scores


class _LeaveChosenToken(LogitsProcessor):
    """Leaves of all tokens the one that a chooser chooses, so that it is the likeliest; the prompt has `prompt_length` tokens."""

    def __init__(self, chooser: TokenChooser, prompt_length: int):
        self._chooser, self._prompt_length = chooser, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token_id = self._chooser.choose(scores[0], input_ids[0, self._prompt_length :].tolist())
        chosen_only = torch.full_like(scores, -math.inf)
        chosen_only[:, token_id] = 0
        return chosen_only


class _StopWhenComplete(StoppingCriteria):
    """Ends a text where the `is_finished` of its request says so."""

    def __init__(self, request: _TextRequest):
        self._request = request

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        continuation_ids = input_ids[0, len(self._request.prompt_ids) :].tolist()
        is_complete = self._request.is_finished(self._request.prompt_index, continuation_ids)
        return torch.tensor([is_complete], device=input_ids.device)


def _group_by_fed_token_ids(sequences: Sequence[ScoredSequence]) -> Iterator[list[int]]:
    """The numbers of the sequences of which the same tokens are fed, such as those of four choices of one token each.

    A sequence that is the beginning of another is fed alone all the same: a model may depend on the length (top-k with ties,
    for one).
    """
    indices_by_fed_token_ids: dict[tuple[int, ...], list[int]] = {}
    for sequence_index, sequence in enumerate(sequences):
        indices_by_fed_token_ids.setdefault(tuple(sequence.token_ids[:-1]), []).append(sequence_index)
    yield from indices_by_fed_token_ids.values()


@contextmanager
def _explain_full_memory(token_count: int) -> Iterator[None]:
    """Raise UserError where the memory is too small for a sequence of so many tokens."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(f"out of memory with one sequence of {token_count} tokens", hint=_OUT_OF_MEMORY_HINT) from None
