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
from orca_bench.evaluate.engine.attention_interface import Unfit
from orca_bench.evaluate.engine.batched_generation import Finished
from orca_bench.evaluate.engine.forward_passes import PlainPasses
from orca_bench.evaluate.engine.kv_cache import CachedPath
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_forward import TreeForward
from orca_bench.evaluate.engine_interface import LogLikelihood
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models import architecture

_CHANGED = 8  # units of rounding of the largest hidden value: what experts that are given other tokens beside may cause
_MOVED = 0.25  # of the largest hidden value: more than the rounding of passes of another size


class CheckedEngine(Protocol):
    """What is checked of a `TreeEngine`: its answers, its tree and its plain passes, which must agree."""

    model: PreTrainedModel
    plain: PlainPasses
    forward: TreeForward
    batch_tokens: int
    cache_tokens: int

    def log_likelihoods(self, sequences: Sequence[ScoredSequence]) -> list[LogLikelihood]:
        """See `TreeEngine`."""

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], finished: Finished, max_new_tokens: int
    ) -> list[list[int]]:
        """See `TreeEngine`."""


def check(engine: CheckedEngine, tolerance: float) -> float:
    """The largest difference, in nats a token, between the tree's answers and plain forward passes.

    Raises Unfit where it is more than `tolerance`, or a token depends on others than its ancestors.
    """
    random = np.random.default_rng(0)
    size = architecture.vocabulary_size(engine.model)
    prefix, *tails = (random.integers(0, size, n).tolist() for n in (12, 1, 3, 5, 2))
    sizes = engine.batch_tokens, engine.cache_tokens
    engine.batch_tokens, engine.cache_tokens = (
        7,
        50,
    )  # several batches, so that the cached path is checked too; two slots
    try:
        worst = max(_check_scores(engine, prefix, tails), _check_texts(engine, prefix, tails))
    except NotFinite:  # so is the model, or what the tree makes of it
        worst = math.nan
    finally:
        engine.batch_tokens, engine.cache_tokens = sizes
    if not worst <= tolerance:
        raise Unfit(f"in a tree its answers differ from those of plain forward passes by {worst:.2g} nats a token")
    # No id that may be padding's, whose embedding is zero: a root of it has no gradient.
    _check_branches(engine, *(random.integers(size // 4, size // 2, n).tolist() for n in (12, 40, 40, 6)))
    return worst


def _check_scores(engine: CheckedEngine, prefix: list[int], tails: list[list[int]]) -> float:
    sequences = [ScoredSequence(prefix + tail, len(prefix)) for tail in tails] + [ScoredSequence(tails[2], 1)]
    worst = 0.0
    for sequence, (logprob, _) in zip(sequences, engine.log_likelihoods(sequences), strict=True):
        table = engine.plain.log_probabilities(sequence.ids[:-1], trimmed=False)
        plain = table[range(sequence.start - 1, len(sequence.ids) - 1), sequence.ids[sequence.start :]].sum()
        worst = max(worst, abs(float(plain) - logprob) / (len(sequence.ids) - sequence.start))
    return worst


def _check_texts(engine: CheckedEngine, prefix: list[int], tails: list[list[int]]) -> float:
    """How far the generated tokens are below the likeliest: two that are as likely may change places."""
    prompts = [prefix + tail for tail in tails]
    worst = 0.0
    for number, new in enumerate(engine.generate_ids(prompts, lambda number, ids: len(ids) > number, 4)):
        table = engine.plain.log_probabilities(prompts[number] + new[:-1], trimmed=False)[-len(new) :]
        worst = max(worst, float((table.max(dim=-1).values - table[range(len(new)), new]).max()))
    return worst


def _check_branches(
    engine: CheckedEngine, prefix: list[int], one: list[int], other: list[int], branch: list[int]
) -> None:
    """Raise Unfit where a branch is not the same beside one branch, beside another, and alone.

    Low precision hides small errors from a comparison of log-probabilities. Here nothing differs but what must not matter: the
    tokens of the other branch, then the place in the batch. What leaks through embeddings shows as a gradient, which is exactly
    zero where there is no way from one token to another.
    """
    one[0] = other[0] = branch[0] - 1  # the branch comes after them in the batch
    batch = _batch(prefix, one, branch)
    expected = _last_hidden(engine, batch, len(branch))
    largest = float(expected.abs().max())
    changed = float((expected - _last_hidden(engine, _batch(prefix, other, branch), len(branch))).abs().max())
    moved = float((expected - _last_hidden(engine, _batch(prefix, branch), len(branch))).abs().max())
    rounding = torch.finfo(engine.model.dtype).eps
    if not (changed <= _CHANGED * rounding * largest and moved <= _MOVED * largest):
        raise Unfit("a token is changed by tokens that it must not see, or by its place in the batch")
    # Offloaded weights would all stay in memory for the gradient.
    if all(parameter.device.type != "meta" for parameter in engine.model.parameters()):
        _check_gradient(engine, batch, slice(len(prefix), len(prefix) + len(one)), len(branch))


def _batch(prefix: list[int], *tails: list[int]) -> TreeBatch:
    (batch,) = prefix_tree.batches([ScoredSequence([*prefix, *tail, 0], len(prefix)) for tail in tails], 1000)
    return batch


def _last_hidden(engine: CheckedEngine, batch: TreeBatch, count: int) -> torch.Tensor:
    """The last hidden states of the last `count` tokens of a batch, float32 [count, hidden size]."""
    return engine.forward.compute_batch(batch, CachedPath(), [])[0][-count:].float()


def _check_gradient(engine: CheckedEngine, batch: TreeBatch, others: slice, count: int) -> None:
    """Raise Unfit where the last `count` tokens of a batch depend on the embeddings of `others`, which are no ancestors."""
    embeddings: list[torch.Tensor] = []

    def replace(module: torch.nn.Module, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        embeddings.append(out.detach().requires_grad_())
        return embeddings[-1].clone()  # some models go on in place

    hook = engine.model.get_input_embeddings().register_forward_hook(replace)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            last = _last_hidden(engine, batch, count)
            (gradient,) = torch.autograd.grad(last.square().sum(), embeddings[:1])
    finally:
        hook.remove()
    if bool(gradient[0, others].any()):
        raise Unfit("a token is changed by tokens that it must not see")
