"""An engine in, an error out where its prefix tree does not give what the model's own forward passes give.

Small random inputs are answered both ways, and one row is looked at for whatever reaches a token that must not. Its own module
because a library that ignores what is seen must never score silently: nothing else may decide it, and it knows no requests.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from orca_bench.errors import NotFinite
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.forward_passes import vocabulary
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_attention import Path, Unfit
from orca_bench.evaluate.request_encoding import Ids

_CHANGED = 8  # units of rounding of the largest hidden value: what experts that are given other tokens beside may cause
_MOVED = 0.25  # of the largest hidden value: more than the rounding of passes of another size


def check(engine, tolerance: float) -> float:
    """The largest difference, in nats a token, between the tree's answers and plain forward passes.

    Raises Unfit where it is more than `tolerance`, or a token is changed by what it must not see.
    """
    random = np.random.default_rng(0)
    size = vocabulary(engine.model)
    stem, *tails = (random.integers(0, size, n).tolist() for n in (12, 1, 3, 5, 2))
    whole = engine.batch_tokens, engine.kept_tokens
    engine.batch_tokens, engine.kept_tokens = 7, 50  # several rows, so that the kept path is checked too; two slots
    try:
        worst = max(_check_scores(engine, stem, tails), _check_texts(engine, stem, tails))
    except NotFinite:  # so is the model, or what the tree makes of it
        worst = math.nan
    finally:
        engine.batch_tokens, engine.kept_tokens = whole
    if not worst <= tolerance:
        raise Unfit(f"in a tree its answers differ from those of plain forward passes by {worst:.2g} nats a token")
    # No id that may be padding's, whose embedding is zero: a root of it has no gradient.
    _check_branches(engine, *(random.integers(size // 4, size // 2, n).tolist() for n in (12, 40, 40, 6)))
    return worst


def _check_scores(engine, stem: list[int], tails: list[list[int]]) -> float:
    sequences = [Ids(stem + tail, len(stem)) for tail in tails] + [Ids(tails[2], 1)]
    worst = 0.0
    for sequence, (logprob, _) in zip(sequences, engine.log_likelihoods(sequences), strict=True):
        table = engine.plain.log_probabilities(sequence.ids[:-1], trimmed=False)
        plain = table[range(sequence.start - 1, len(sequence.ids) - 1), sequence.ids[sequence.start :]].sum()
        worst = max(worst, abs(float(plain) - logprob) / (len(sequence.ids) - sequence.start))
    return worst


def _check_texts(engine, stem: list[int], tails: list[list[int]]) -> float:
    """How far the generated tokens are below the likeliest: two that are as likely may change places."""
    prompts = [stem + tail for tail in tails]
    worst = 0.0
    for number, new in enumerate(engine.generate_ids(prompts, lambda number, ids: len(ids) > number, 4)):
        table = engine.plain.log_probabilities(prompts[number] + new[:-1], trimmed=False)[-len(new) :]
        worst = max(worst, float((table.max(dim=-1).values - table[range(len(new)), new]).max()))
    return worst


def _check_branches(engine, stem: list[int], one: list[int], other: list[int], branch: list[int]) -> None:
    """Raise Unfit where a branch is not the same beside one branch, beside another, and alone.

    Low precision hides small errors from a comparison of log-probabilities. Here nothing differs but what must not matter: the
    tokens of the other branch, then the place in the row. What leaks through embeddings shows as a gradient, which is exactly
    zero where there is no way from one token to another.
    """
    one[0] = other[0] = branch[0] - 1  # the branch comes behind them in the row
    row = _row(stem, one, branch)
    beside = _last_hidden(engine, row, len(branch))
    largest = float(beside.abs().max())
    changed = float((beside - _last_hidden(engine, _row(stem, other, branch), len(branch))).abs().max())
    moved = float((beside - _last_hidden(engine, _row(stem, branch), len(branch))).abs().max())
    rounding = torch.finfo(engine.model.dtype).eps
    if not (changed <= _CHANGED * rounding * largest and moved <= _MOVED * largest):
        raise Unfit("a token is changed by tokens that it must not see, or by its place in the row")
    # Offloaded weights would all stay in memory for the gradient.
    if all(parameter.device.type != "meta" for parameter in engine.model.parameters()):
        _check_gradient(engine, row, slice(len(stem), len(stem) + len(one)), len(branch))


def _row(stem: list[int], *tails: list[int]) -> TreeBatch:
    (row,) = prefix_tree.batches([Ids([*stem, *tail, 0], len(stem)) for tail in tails], 1000)
    return row


def _last_hidden(engine, row: TreeBatch, count: int) -> torch.Tensor:
    return engine.compute_batch(row, Path(), [])[0][-count:].float()


def _check_gradient(engine, row: TreeBatch, unseen: slice, count: int) -> None:
    """Raise Unfit where the last `count` tokens of a row depend on the embeddings of those that they must not see."""
    embeddings: list[torch.Tensor] = []

    def take(module, inputs, out: torch.Tensor) -> torch.Tensor:
        embeddings.append(out.detach().requires_grad_())
        return embeddings[-1].clone()  # some models go on in place

    hook = engine.model.get_input_embeddings().register_forward_hook(take)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            last = _last_hidden(engine, row, count)
            (gradient,) = torch.autograd.grad(last.square().sum(), embeddings[:1])
    finally:
        hook.remove()
    if bool(gradient[0, unseen].any()):
        raise Unfit("a token is changed by tokens that it must not see")
