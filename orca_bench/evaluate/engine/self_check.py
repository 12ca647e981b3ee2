"""An engine in, an error out where its prefix tree does not give what the model's own forward passes give.

Small random inputs are computed both ways, and in one batch every influence of one token on another that must not be there is
searched for. Its own module because a library that ignores our attention pattern must never score silently; it needs no
requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from orca_bench.errors import NotFinite
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.attention_interface import UnfitForTree
from orca_bench.evaluate.engine.batched_generation import IsFinished
from orca_bench.evaluate.engine.forward_passes import PlainPasses
from orca_bench.evaluate.engine.kv_cache import CachedPath
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_forward import TreeForward
from orca_bench.evaluate.engine_interface import LogLikelihood
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models import architecture

_SIBLING_TOLERANCE_UNITS = (
    8  # units of rounding of the largest hidden value: what experts that are given other tokens beside may cause
)
_POSITION_TOLERANCE_SHARE = 0.25  # of the largest hidden value: more than the rounding of passes of another size


class CheckedEngine(Protocol):
    """What is checked of a `TreeEngine`: its answers, its tree and its plain passes, which must agree."""

    model: PreTrainedModel
    plain_passes: PlainPasses
    tree_forward: TreeForward
    max_batch_tokens: int
    max_cache_tokens: int

    def log_likelihoods(self, sequences: Sequence[ScoredSequence]) -> list[LogLikelihood]:
        """See `TreeEngine`."""

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], is_finished: IsFinished, max_new_tokens: int
    ) -> list[list[int]]:
        """See `TreeEngine`."""


def check_tree_engine(engine: CheckedEngine, tolerance_nats: float) -> float:
    """The largest difference, in nats a token, between the tree's answers and plain forward passes.

    Raises UnfitForTree where it is more than `tolerance_nats`, or a token depends on others than its ancestors.
    """
    generator = np.random.default_rng(0)
    vocabulary_size = architecture.vocabulary_size(engine.model)
    prefix_ids, *tail_ids = (generator.integers(0, vocabulary_size, id_count).tolist() for id_count in (12, 1, 3, 5, 2))
    original_token_limits = engine.max_batch_tokens, engine.max_cache_tokens
    engine.max_batch_tokens, engine.max_cache_tokens = (
        7,
        50,
    )  # several batches, so that the cached path is checked too; two slots
    try:
        largest_difference_nats = max(
            _check_tree_scores(engine, prefix_ids, tail_ids),
            _check_tree_texts(engine, prefix_ids, tail_ids, tolerance_nats),
        )
    except NotFinite:  # so is the model, or what the tree makes of it
        largest_difference_nats = math.nan
    finally:
        engine.max_batch_tokens, engine.max_cache_tokens = original_token_limits
    if not largest_difference_nats <= tolerance_nats:
        raise UnfitForTree(
            f"in a tree its answers differ from those of plain forward passes by {largest_difference_nats:.2g} nats a token"
        )
    # No id that may be padding's, whose embedding is zero: a root of it has no gradient.
    _check_branches(
        engine,
        *(
            generator.integers(vocabulary_size // 4, vocabulary_size // 2, id_count).tolist()
            for id_count in (12, 40, 40, 6)
        ),
    )
    return largest_difference_nats


def _check_tree_scores(engine: CheckedEngine, prefix_ids: list[int], tail_ids: list[list[int]]) -> float:
    sequences = [ScoredSequence(prefix_ids + ids, len(prefix_ids)) for ids in tail_ids] + [
        ScoredSequence(tail_ids[2], 1)
    ]
    largest_difference_nats = 0.0
    for sequence, (tree_logprob, _) in zip(sequences, engine.log_likelihoods(sequences), strict=True):
        logprobs = engine.plain_passes.log_probabilities(sequence.token_ids[:-1], trims_output_head=False)
        plain_logprob = logprobs[
            range(sequence.scored_start - 1, len(sequence.token_ids) - 1), sequence.token_ids[sequence.scored_start :]
        ].sum()
        largest_difference_nats = max(
            largest_difference_nats,
            abs(float(plain_logprob) - tree_logprob) / (len(sequence.token_ids) - sequence.scored_start),
        )
    return largest_difference_nats


def _check_tree_texts(
    engine: CheckedEngine, prefix_ids: list[int], tail_ids: list[list[int]], tolerance_nats: float
) -> float:
    """How far the generated tokens are below the likeliest: two that are as likely may change places.

    In 16 bits plain forward passes may turn a single prediction by many nats: SmolLM2-135M has one, of random ids, where they
    are 10 nats off in bfloat16, and 0.3 with another attention of the same library. There one text counts as right where it is
    the greedy one by the tree's scores, which have been compared with plain passes.
    """
    may_excuse_a_text = engine.model.dtype in (torch.bfloat16, torch.float16)
    prompts = [prefix_ids + ids for ids in tail_ids]
    largest_difference_nats = 0.0
    for prompt_index, new_token_ids in enumerate(
        engine.generate_ids(prompts, lambda prompt_index, ids: len(ids) > prompt_index, 4)
    ):
        logprobs = engine.plain_passes.log_probabilities(
            prompts[prompt_index] + new_token_ids[:-1], trims_output_head=False
        )[-len(new_token_ids) :]
        difference_nats = float(
            (logprobs.max(dim=-1).values - logprobs[range(len(new_token_ids)), new_token_ids]).max()
        )
        if difference_nats > tolerance_nats and may_excuse_a_text:
            may_excuse_a_text = False
            text = ScoredSequence(prompts[prompt_index] + new_token_ids, len(prompts[prompt_index]))
            if engine.log_likelihoods([text])[0].is_greedy:
                continue
        largest_difference_nats = max(largest_difference_nats, difference_nats)
    return largest_difference_nats


def _check_branches(
    engine: CheckedEngine,
    prefix_ids: list[int],
    sibling_ids: list[int],
    other_sibling_ids: list[int],
    branch_ids: list[int],
) -> None:
    """Raise UnfitForTree where a branch is not the same beside one branch, beside another, and alone.

    Low precision hides small errors from a comparison of log-probabilities. Here nothing differs but what must not matter: the
    tokens of the other branch, then the place in the batch. What leaks through embeddings shows as a gradient, which is exactly
    zero where there is no way from one token to another.
    """
    sibling_ids[0] = other_sibling_ids[0] = branch_ids[0] - 1  # the branch comes after them in the batch
    batch = _batch_of_tails(prefix_ids, sibling_ids, branch_ids)
    expected_hidden_states = _hidden_states_of_last_tokens(engine, batch, len(branch_ids))
    largest_hidden_value = float(expected_hidden_states.abs().max())
    sibling_difference = float(
        (
            expected_hidden_states
            - _hidden_states_of_last_tokens(
                engine, _batch_of_tails(prefix_ids, other_sibling_ids, branch_ids), len(branch_ids)
            )
        )
        .abs()
        .max()
    )
    position_difference = float(
        (
            expected_hidden_states
            - _hidden_states_of_last_tokens(engine, _batch_of_tails(prefix_ids, branch_ids), len(branch_ids))
        )
        .abs()
        .max()
    )
    rounding_unit = torch.finfo(engine.model.dtype).eps
    if not (
        sibling_difference <= _SIBLING_TOLERANCE_UNITS * rounding_unit * largest_hidden_value
        and position_difference <= _POSITION_TOLERANCE_SHARE * largest_hidden_value
    ):
        raise UnfitForTree("a token is changed by tokens that it must not see, or by its place in the batch")
    # Offloaded weights would all stay in memory for the gradient.
    if all(parameter.device.type != "meta" for parameter in engine.model.parameters()):
        _check_gradient(engine, batch, slice(len(prefix_ids), len(prefix_ids) + len(sibling_ids)), len(branch_ids))


def _batch_of_tails(prefix_ids: list[int], *tail_ids: list[int]) -> TreeBatch:
    (batch,) = prefix_tree.tree_batches(
        [ScoredSequence([*prefix_ids, *ids, 0], len(prefix_ids)) for ids in tail_ids], 1000
    )
    return batch


def _hidden_states_of_last_tokens(engine: CheckedEngine, batch: TreeBatch, token_count: int) -> torch.Tensor:
    """The last hidden states of the last `token_count` tokens of a batch, float32 [token_count, hidden size]."""
    return engine.tree_forward.compute_batch(batch, CachedPath(), [])[0][-token_count:].float()


def _check_gradient(engine: CheckedEngine, batch: TreeBatch, sibling_slice: slice, token_count: int) -> None:
    """Raise UnfitForTree where the last `token_count` tokens depend on the embeddings of `sibling_slice`, no ancestors."""
    embeddings: list[torch.Tensor] = []

    def replace_embeddings(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embeddings.append(output.detach().requires_grad_())
        return embeddings[-1].clone()  # some models go on in place

    hook = engine.model.get_input_embeddings().register_forward_hook(replace_embeddings)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            hidden_states = _hidden_states_of_last_tokens(engine, batch, token_count)
            (gradient,) = torch.autograd.grad(hidden_states.square().sum(), embeddings[:1])
    finally:
        hook.remove()
    if bool(gradient[0, sibling_slice].any()):
        raise UnfitForTree("a token is changed by tokens that it must not see")
