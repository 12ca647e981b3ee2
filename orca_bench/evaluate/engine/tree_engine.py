"""Token ids in, log-probabilities and generated ids out: the engine that computes with a model in this process.

Log-likelihoods: the sequences of all requests form a prefix tree. A token that several sequences share (a question before its
four choices, five examples before a hundred questions) is computed once; each token attends to its ancestors only, at the
position that is its depth, and the output head runs only where a continuation is scored. This is exact, not an approximation:
`choose_path` compares it with plain forward passes before anything is scored. Texts: see `batched_generation`. What no tree
fits, a whole model or its longest sequences, is computed by plain forward passes, which is slower. Its own module because it
decides what is computed which way, and what happens when the memory is full.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from transformers import PreTrainedModel

from orca_bench.errors import NotFinite, UserError, one_line
from orca_bench.evaluate.engine import auto_dtype, memory_budget, prefix_tree, self_check
from orca_bench.evaluate.engine.attention_interface import UnfitForTree
from orca_bench.evaluate.engine.batched_generation import Generation, IsFinished, NonFiniteLogit
from orca_bench.evaluate.engine.forward_passes import PlainPasses
from orca_bench.evaluate.engine.kv_cache import CachedPath
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.token_choice import RuleChooser, TokenChoice
from orca_bench.evaluate.engine.tree_attention import default_attention_method
from orca_bench.evaluate.engine.tree_forward import TreeForward
from orca_bench.evaluate.engine_interface import (
    GeneratedText,
    LogLikelihood,
    ReportComputedCount,
    generated_text,
    ignore_computed_count,
)
from orca_bench.evaluate.request_encoding import Encoding, GenerationPrompt, ScoredSequence
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import input_device, load_model

_MIN_HALVED_BATCH_TOKENS = 32  # a batch that is smaller than this is given up
#: By type of the weights, nats a token: the largest difference from plain passes with which `check_tree` finds the tree exact.
TOLERANCE_NATS_BY_DTYPE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}


class TreeEngine:
    """An `Engine` over a causal language model on one device, or spread over several.

    At most `max_batch_tokens` new tokens are computed at once, and `max_cache_tokens` kept for generation; by default both are
    derived from the memory that is free. `attention_method` is one of tree_attention.ATTENTION_METHODS. `computation_path` is
    "tree" or "plain", `plain_path_reason` why not the tree, and `max_tree_tokens` the number of tokens up to which sequences
    are computed in it (None: all).
    """

    #: Whether texts can be sampled.
    serves_token_choice = True

    def __init__(
        self,
        model: PreTrainedModel,
        max_batch_tokens: int | None = None,
        attention_method: str | None = None,
        max_cache_tokens: int | None = None,
    ):
        self.model = model.eval()
        self.device = input_device(model)
        self.attention_method = attention_method or default_attention_method(self.device, model.dtype)
        self.plain_passes = PlainPasses(model, self.device)
        self.computation_path = "tree"
        self.plain_path_reason: str | None = None
        self._kernel_problem: str | None = None
        self.max_tree_tokens: int | None = None
        # Without a tree neither is used.
        self.max_batch_tokens, self.max_cache_tokens = max_batch_tokens or 0, max_cache_tokens or 0
        try:
            self.tree_forward = TreeForward(model, self.device, self.attention_method)
            layout = self.tree_forward.layout
            self.max_tree_tokens = layout.max_tree_tokens
            self.max_batch_tokens = max_batch_tokens or memory_budget.max_batch_tokens(
                model, layout.hidden_size, layout.cache_bytes_per_token
            )
            self.max_cache_tokens = max_cache_tokens or memory_budget.max_cache_tokens(
                model, layout.cache_bytes_per_token
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model raises that was not made for this
            self._leave_tree(error)

    def _leave_tree(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, UnfitForTree) else f"its code raises {type(error).__name__} in a tree"
        self.computation_path, self.plain_path_reason, self.max_tree_tokens = "plain", reason, 0

    @property
    def path_description(self) -> dict[str, str | int]:
        """What a result says of the path: `path`, and where they apply `reason` and `tree_limit` in tokens."""
        path_fields = {
            "path": self.computation_path,
            "reason": self.plain_path_reason,
            "tree_limit": self.max_tree_tokens or None,
        }
        return {key: field_value for key, field_value in path_fields.items() if field_value is not None}

    @property
    def rounding_fields(self) -> dict[str, str]:
        """What an identity says, besides the types of weights and device, of how sums are rounded; nothing in float32."""
        decoder = self.tree_forward.llama_decoder if self.computation_path == "tree" else None
        if decoder is None or self.model.dtype == torch.float32:
            return {}
        is_attention_rounded = decoder.attention_dtype != torch.float32
        return {"sums": "float32"} | ({"attention_inputs": "bfloat16"} if is_attention_rounded else {})

    @property
    def path_note(self) -> str | None:
        """A sentence for the user where not everything is computed in the fastest way."""
        if self.computation_path == "plain":
            cache_note = "" if self.plain_passes.use_cache else "; texts are generated without a cache"
            return f"answers are computed by plain forward passes, which is slower, because {self.plain_path_reason}{cache_note}"
        if self.max_tree_tokens is not None:
            return f"requests of more than {self.max_tree_tokens} tokens are computed by plain forward passes, which is slower"
        if self._kernel_problem is not None:
            return f"attention is computed by mask, which is slower, because PyTorch's kernel fails: {self._kernel_problem}"
        return None

    def _fits_tree(self, fed_token_count: int) -> bool:
        """Whether a sequence of which so many tokens are fed is computed in the tree."""
        return self.max_tree_tokens is None or fed_token_count <= self.max_tree_tokens

    # --- log-likelihoods ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def log_likelihoods(
        self, sequences: Sequence[ScoredSequence], report_computed: ReportComputedCount = ignore_computed_count
    ) -> list[LogLikelihood]:
        """The score of each sequence's continuation, in order; see `Engine`.

        Where the memory is full the engine goes on with batches of half the size. Raises NotFinite, with the number of the
        sequence, where a log-probability is not a finite number, and UserError where the memory is too small for any batch.
        """
        answers_by_index: dict[int, LogLikelihood] = {}
        tree_indices = [
            index for index, sequence in enumerate(sequences) if self._fits_tree(len(sequence.token_ids) - 1)
        ]
        while remaining_indices := [index for index in tree_indices if index not in answers_by_index]:
            memory_is_full = False
            try:
                for completed_answers_by_index, token_count in self._answers_by_batch(sequences, remaining_indices):
                    answers_by_index |= completed_answers_by_index
                    report_computed(token_count)
            except torch.OutOfMemoryError:
                memory_is_full = True
            if memory_is_full:  # not while the error's traceback holds the tensors of the batch
                self._halve_memory()
        plain_indices = [index for index in range(len(sequences)) if index not in answers_by_index]
        answers_by_index |= self._answers_by_plain_passes(sequences, plain_indices, report_computed)
        return [answers_by_index[index] for index in range(len(sequences))]

    def _answers_by_batch(
        self, sequences: Sequence[ScoredSequence], sequence_indices: Sequence[int]
    ) -> Iterator[tuple[dict[int, LogLikelihood], int]]:
        """For each batch of the sequences of these numbers, (the answers that it completes, by number; its tokens)."""
        partial_answers_by_index: dict[int, LogLikelihood] = {}
        cached_path = CachedPath()
        batches = prefix_tree.tree_batches([sequences[index] for index in sequence_indices], self.max_batch_tokens)
        for batch, next_cached_indices in prefix_tree.with_next_cached_indices(batches):
            hidden_states, cached_path = self.tree_forward.compute_batch(batch, cached_path, next_cached_indices)
            answers_by_index: dict[int, LogLikelihood] = {}
            for position, score, is_complete in self._score_targets(batch, hidden_states):
                index = sequence_indices[position]
                partial_answer = partial_answers_by_index.pop(index, LogLikelihood(0.0, True))
                answer = LogLikelihood(
                    partial_answer.log_probability + score.log_probability, partial_answer.is_greedy and score.is_greedy
                )
                if not math.isfinite(answer.log_probability):
                    raise NotFinite(index, answer.log_probability)
                (answers_by_index if is_complete else partial_answers_by_index)[index] = answer
            yield answers_by_index, len(batch.token_ids)

    def _score_targets(
        self, batch: TreeBatch, hidden_states: torch.Tensor
    ) -> Iterator[tuple[int, LogLikelihood, bool]]:
        """(number of the sequence, score of its targets, whether it is complete) of each sequence with targets in a batch."""
        if not batch.scored_targets:
            return
        preceding_indices = np.concatenate(
            [sequence_targets.preceding_indices for sequence_targets in batch.scored_targets]
        ).astype(np.int64)
        target_ids = np.concatenate([sequence_targets.target_ids for sequence_targets in batch.scored_targets]).astype(
            np.int64
        )
        target_logprobs, greedy_flags = self.tree_forward.score(
            hidden_states, torch.from_numpy(preceding_indices), torch.from_numpy(target_ids)
        )
        target_start = 0
        for sequence_targets in batch.scored_targets:
            target_end = target_start + len(sequence_targets.target_ids)
            score = LogLikelihood(
                float(target_logprobs[target_start:target_end].sum()), bool(greedy_flags[target_start:target_end].all())
            )
            yield sequence_targets.sequence_index, score, sequence_targets.is_complete
            target_start = target_end

    def _answers_by_plain_passes(
        self, sequences: Sequence[ScoredSequence], plain_indices: Sequence[int], report_computed: ReportComputedCount
    ) -> Mapping[int, LogLikelihood]:
        """The answers to the sequences of these numbers; progress in tokens of a tree, as it was announced."""
        answers_by_index: dict[int, LogLikelihood] = {}
        tree_sequences = [sequence for index, sequence in enumerate(sequences) if index not in set(plain_indices)]
        token_count = prefix_tree.count_distinct_tokens(sequences) - prefix_tree.count_distinct_tokens(tree_sequences)
        reported_token_count = 0
        try:
            for group_answers in self.plain_passes.log_likelihoods([sequences[index] for index in plain_indices]):
                answers_by_index |= {plain_indices[index]: answer for index, answer in group_answers.items()}
                done_token_count = token_count * len(answers_by_index) // len(plain_indices)
                report_computed(done_token_count - reported_token_count)
                reported_token_count = done_token_count
        except NotFinite as error:
            raise NotFinite(plain_indices[error.request_number], error.value) from None
        return answers_by_index

    def _halve_memory(self) -> None:
        """Go on with half the memory; raises UserError where little is left to halve."""
        if self.max_batch_tokens <= _MIN_HALVED_BATCH_TOKENS:
            raise UserError(
                f"out of memory with {self.max_batch_tokens} tokens at once",
                hint="the model needs a larger device, or --device-map auto to be spread over several",
            ) from None
        self.max_batch_tokens //= 2
        self.max_cache_tokens //= 2
        torch.cuda.empty_cache()

    # --- generation -----------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[GenerationPrompt],
        stops_by_prompt: Sequence[Sequence[str]],
        encoding: Encoding,
        report_computed: ReportComputedCount = ignore_computed_count,
    ) -> list[GeneratedText]:
        """The text after each prompt, in order, greedy or by the prompt's own rule; see `Engine` and `generate_ids`."""

        def is_finished(index: int, continuation_ids: list[int]) -> bool:
            return len(continuation_ids) >= prompts[index].max_new_tokens or encoding.is_finished(
                continuation_ids, stops_by_prompt[index]
            )

        max_new_tokens = max((prompt.max_new_tokens for prompt in prompts), default=0)
        continuations = self.generate_ids(
            [prompt.token_ids for prompt in prompts],
            is_finished,
            max_new_tokens,
            report_computed,
            {index: prompt.token_choice for index, prompt in enumerate(prompts) if prompt.token_choice is not None},
        )
        return [
            generated_text(continuation_ids, prompt, stop_strings, encoding)
            for continuation_ids, prompt, stop_strings in zip(continuations, prompts, stops_by_prompt, strict=True)
        ]

    @torch.inference_mode()
    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        is_finished: IsFinished,
        max_new_tokens: int,
        report_computed: ReportComputedCount = ignore_computed_count,
        token_choices: Mapping[int, TokenChoice] = MappingProxyType({}),
    ) -> list[list[int]]:
        """Continuation ids of each prompt, at most `max_new_tokens`; greedy where `token_choices` has no rule of its number.

        `is_finished(index, continuation_ids)` says after each token whether the continuation of that prompt is complete;
        `report_computed(n)` is called with the number of prompts just answered. Where the memory is full the engine goes on
        with half as many at once. Raises NotFinite, with the number of the prompt, where its logits are not finite, and
        UserError as `log_likelihoods`.
        """
        answers_by_index: dict[int, list[int]] = {}

        def is_complete(index: int, continuation_ids: list[int]) -> bool:
            return len(continuation_ids) >= max_new_tokens or is_finished(index, continuation_ids)

        tree_indices = [
            index for index, prompt in enumerate(prompts) if self._fits_tree(len(prompt) + max_new_tokens - 1)
        ]
        while remaining_indices := [index for index in tree_indices if index not in answers_by_index]:
            memory_is_full = False
            generation = Generation(
                self.tree_forward,
                [prompts[index] for index in remaining_indices],
                functools.partial(_is_complete_at, remaining_indices, is_complete),
                max_new_tokens,
                self.max_batch_tokens,
                self.max_cache_tokens,
                {
                    position: token_choices[index]
                    for position, index in enumerate(remaining_indices)
                    if index in token_choices
                },
            )
            try:
                for prompt_count in generation.run():
                    report_computed(prompt_count)
            except NonFiniteLogit as error:
                raise NotFinite(remaining_indices[error.prompt_index], error.logit) from None
            except torch.OutOfMemoryError:
                memory_is_full = True
            answers_by_index |= {
                remaining_indices[position]: continuation_ids
                for position, continuation_ids in generation.continuations.items()
            }
            del generation  # and with it the memory of its slots
            if memory_is_full:
                self._halve_memory()
        for index, prompt in enumerate(prompts):
            if index not in answers_by_index:
                chooser = RuleChooser(token_choices[index], prompt) if index in token_choices else None
                answers_by_index[index] = self.plain_passes.generate_ids(
                    prompt, index, is_complete, max_new_tokens, chooser
                )
                report_computed(1)
        return [answers_by_index[index] for index in range(len(prompts))]

    # --- the check ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def choose_path(self) -> None:
        """Decide between the tree and plain passes, by trying both on small inputs.

        Raises UserError where the model cannot be evaluated at all, and NotFinite where it gives NaN or infinity.
        """
        if self.computation_path == "tree":
            problem = self._tree_problem()
            if problem is not None and self.attention_method == "lengths":
                # Its kernel may not serve this model or this device. A mask serves all.
                self.attention_method = self.tree_forward.attention_method = "mask"
                self._kernel_problem, problem = one_line(problem, 200), self._tree_problem()
            if problem is not None:
                self._leave_tree(problem)
        if self.max_tree_tokens is not None:
            self.plain_passes.check_and_choose_cache(self._tolerance_nats)

    def _tree_problem(self) -> Exception | None:
        """Why the tree does not fit the model, without the traceback, which holds tensors; None where it does."""
        try:
            self.check_tree()
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model raises that was not made for this
            return error.with_traceback(None)
        return None

    @property
    def _tolerance_nats(self) -> float:
        return TOLERANCE_NATS_BY_DTYPE[self.model.dtype]

    @torch.inference_mode()
    def check_tree(self) -> float:
        """Compare the tree with plain forward passes on small inputs; returns the largest difference in nats a token.

        Raises UnfitForTree where a tree does not fit the model; see `self_check`.
        """
        return self_check.check_tree_engine(self, self._tolerance_nats)


def _is_complete_at(
    prompt_indices: Sequence[int], is_complete: IsFinished, position: int, continuation_ids: list[int]
) -> bool:
    """`is_complete` for the prompt whose number stands at `position`."""
    return is_complete(prompt_indices[position], continuation_ids)


def load_engine(model_folder: ModelFolder, dtype: str = "auto", device_map: str | None = None) -> TreeEngine:
    """The engine of a model folder; dtype `auto` is that of `auto_dtype` on a CPU, the checkpoint's on a GPU.

    A device map is transformers': `auto` spreads the model over all devices, and over CPU memory and disk where those are full.
    Raises UserError where the folder has no model that can be evaluated.
    """
    dtype = auto_dtype.choose_dtype(model_folder, dtype)
    return TreeEngine(load_model(model_folder, dtype, gpu_dtype="auto", device_map=device_map))


def load_checked_engine(model_folder: ModelFolder, dtype: str = "auto", device_map: str | None = None) -> TreeEngine:
    """As `load_engine`, and `choose_path` has chosen; where the model cannot be evaluated, UserError names it."""
    engine = load_engine(model_folder, dtype, device_map)
    try:
        engine.choose_path()
    except NotFinite:
        raise not_finite_error(model_folder) from None
    except UserError as error:
        raise UserError(error.problem, where=model_folder.path_or_hub_id, hint=error.hint) from None
    return engine


def not_finite_error(model_folder: ModelFolder) -> UserError:
    """What is said of a model that gives NaN or infinity."""
    return UserError(
        "the model gives NaN or infinity", where=model_folder.path_or_hub_id, hint="its weights are broken"
    )
