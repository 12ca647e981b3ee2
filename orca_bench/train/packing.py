"""Which examples share a forward pass: numbers in, lists of example numbers out, no tensors.

A forward pass without padding computes its examples one after another in a single row of tokens. Two ways to choose them: the
examples of a step are shared out so that all passes cost the same (`share_out`), or the shuffled stream of examples is cut
into rows of nearly the full length (`fill_rows`). Its own module because every process computes it alone and they must agree.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from orca_bench.models.architecture import attention_sizes

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def share_out(
    examples: np.ndarray, costs: np.ndarray, token_counts: np.ndarray, pass_count: int, most_tokens: int
) -> list[np.ndarray]:
    """The examples of each of `pass_count` forward passes; every example is in one, and a pass may be empty.

    The passes cost nearly the same: the most expensive example that is left goes to the pass that has cost least so far
    (longest processing time first, Graham 1969, at most 4/3 of the best possible). No pass has more than `most_tokens`
    tokens, which must be at least what an equal number of the longest examples takes; where the rule above would break that,
    each pass gets an equal number of examples. The passes are in descending order of cost, so that neighbours, which the
    processes compute at the same time, differ least; the longest example of a pass is its first.

    Args:
        examples: example numbers, int64 [examples].
        costs: what each of them costs, in any unit, float64 [examples].
        token_counts: tokens of each of them, int64 [examples].
        pass_count: how many forward passes there are.
        most_tokens: the largest number of tokens in a pass.
    """
    by_cost = np.argsort(-costs, kind="stable")
    shares = _share_by_cost(by_cost, costs, token_counts, pass_count, most_tokens)
    if shares is None:
        shares = [by_cost[first::pass_count].tolist() for first in range(pass_count)]
    shares.sort(key=lambda share: -float(costs[share].sum()))
    return [examples[sorted(share, key=lambda place: -int(token_counts[place]))] for share in shares]


def _share_by_cost(
    by_cost: np.ndarray, costs: np.ndarray, token_counts: np.ndarray, pass_count: int, most_tokens: int
) -> list[list[int]] | None:
    """Places among the examples of each pass; None where an example finds no pass with room for its tokens."""
    shares: list[list[int]] = [[] for _ in range(pass_count)]
    tokens_of_pass = [0] * pass_count
    cheapest_passes = [(0.0, index) for index in range(pass_count)]
    for place in by_cost.tolist():
        full_passes = []
        while cheapest_passes and tokens_of_pass[cheapest_passes[0][1]] + token_counts[place] > most_tokens:
            full_passes.append(heapq.heappop(cheapest_passes))
        if not cheapest_passes:
            return None
        cost, index = cheapest_passes[0]
        heapq.heapreplace(cheapest_passes, (cost + float(costs[place]), index))
        shares[index].append(place)
        tokens_of_pass[index] += int(token_counts[place])
        for full_pass in full_passes:
            heapq.heappush(cheapest_passes, full_pass)
    return shares


def fill_rows(token_counts: np.ndarray, row_length: int) -> np.ndarray:
    """Where each row ends if examples in this order are laid into rows of at most `row_length` tokens, int64 [rows].

    `token_counts`, int64 [examples], is in the order of the stream; row r holds the examples from the end of row r - 1 (0 for
    the first) up to, without, its own end. An example is never split. Raises ValueError where one is longer than a row.
    """
    if len(token_counts) and token_counts.max() > row_length:
        raise ValueError(f"an example of {token_counts.max()} tokens is longer than a row of {row_length}")
    tokens_before = np.concatenate([[0], np.cumsum(token_counts)])
    ends, end = [], 0
    while end < len(token_counts):
        end = int(np.searchsorted(tokens_before, tokens_before[end] + row_length, side="right")) - 1
        ends.append(end)
    return np.asarray(ends, dtype=np.int64)


def example_costs(
    token_counts: np.ndarray, trained_token_counts: np.ndarray, model_config: PretrainedConfig
) -> np.ndarray:
    """Floating-point operations of the forward pass of each example in a model like LLaMA, float64 [examples].

    2 a parameter and token in the layers, 2 a parameter and trained token in the output head, and in each layer's causal
    attention 2 × tokens² × the width of all query heads: half of what the full square takes. Source: Chowdhery et al. 2022
    (PaLM, arXiv 2204.02311), appendix B, for the forward pass alone. For a model whose configuration does not say its sizes in
    LLaMA's names, the cost of an example is its tokens.
    """
    tokens = np.asarray(token_counts, dtype=np.float64)
    sizes = attention_sizes(model_config)
    intermediate_size, vocab_size = (
        getattr(model_config.get_text_config(), name, None) for name in ("intermediate_size", "vocab_size")
    )
    if sizes is None or not isinstance(intermediate_size, int) or not isinstance(vocab_size, int):
        return tokens
    attention_width = sizes.head_count * sizes.head_size
    layer_parameters = sizes.hidden_size * (
        2 * attention_width + 2 * sizes.key_head_count * sizes.head_size + 3 * intermediate_size
    )
    return 2.0 * sizes.layer_count * (
        layer_parameters * tokens + attention_width * tokens**2
    ) + 2.0 * sizes.hidden_size * vocab_size * np.asarray(trained_token_counts, dtype=np.float64)
