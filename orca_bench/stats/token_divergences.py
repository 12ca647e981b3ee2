"""How two models' next-token distributions differ at each scored token in, the numbers that describe it out.

The numbers are those of llama.cpp's `llama-perplexity --kl-divergence` (tools/perplexity/perplexity.cpp): mean and percentiles of
the Kullback–Leibler divergence, the share of positions with the same top token, the probability of the right token, perplexities
and their ratio. There each token counts as independent; here the tokens of a record belong together, so that standard errors are
clustered (`moments`). Its own module because it is of tokens and nats, where the other modules are of questions and scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_bench.stats.estimates import MeanScore, estimate_mean
from orca_bench.stats.moments import Moments, compute_moments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The percentiles that are reported, as shares; the first is the median.
PERCENTILES = (0.5, 0.99, 0.999)


@dataclass(frozen=True)
class TokenDivergences:
    """What is known of each scored token, all arrays [tokens].

    kl_divergences: KL(reference || model) over all next tokens, nats, float64. log_probabilities and
    reference_log_probabilities: of the right token under the model and under the reference, nats, float64. has_same_top:
    whether both have the same most probable token, bool. record_labels: which record a token is of, int64.
    """

    kl_divergences: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]
    reference_log_probabilities: NDArray[np.float64]
    has_same_top: NDArray[np.bool_]
    record_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error, which is None for a single record and for a value that is infinite."""

    value: float
    stderr: float | None


@dataclass(frozen=True)
class DivergenceSummary:
    """A model beside a reference, over the scored tokens of some records.

    `mean_kl`, `kl_percentiles` (in the order of PERCENTILES) and `largest_kl` are in nats per token. `same_top_share` is a
    fraction of 1. `log_probability_change` is the mean of the right token's log-probability under the model minus that under
    the reference, nats. `perplexity_ratio` is the model's perplexity over the reference's.
    """

    token_count: int
    record_count: int
    mean_kl: Estimate
    kl_percentiles: tuple[float, ...]
    largest_kl: float
    same_top_share: MeanScore
    log_probability_change: Estimate
    perplexity: Estimate
    reference_perplexity: Estimate
    perplexity_ratio: Estimate


def summarize_divergences(divergences: TokenDivergences) -> DivergenceSummary:
    """The numbers over all tokens; standard errors have the records as clusters. Raises ValueError for no tokens.

    A perplexity is the exponential of a mean, so that its standard error is that of the mean times itself (the delta method, as
    in llama.cpp). It is infinite where float64 cannot hold it.
    """
    import numpy as np

    token_count = len(divergences.kl_divergences)
    if not token_count:
        raise ValueError("no tokens")
    labels = divergences.record_labels.tolist()
    change = divergences.log_probabilities - divergences.reference_log_probabilities
    kl = divergences.kl_divergences
    return DivergenceSummary(
        token_count,
        len(set(labels)),
        _mean(kl, labels),
        tuple(float(value) for value in np.quantile(kl, PERCENTILES)),
        float(kl.max()),
        estimate_mean(divergences.has_same_top.astype(np.float64).tolist(), labels),
        _mean(change, labels),
        _exponential_of_mean(-divergences.log_probabilities, labels),
        _exponential_of_mean(-divergences.reference_log_probabilities, labels),
        _exponential_of_mean(-change, labels),
    )


def _mean(values: NDArray[np.float64], labels: Sequence[int]) -> Estimate:
    moments = _moments(values, labels)
    return Estimate(moments.mean, moments.stderr)


def _exponential_of_mean(values: NDArray[np.float64], labels: Sequence[int]) -> Estimate:
    moments = _moments(values, labels)
    try:
        exponential = math.exp(moments.mean)
    except OverflowError:  # above 709 nats a token, of weights that are broken
        return Estimate(math.inf, None)
    return Estimate(exponential, None if moments.stderr is None else exponential * moments.stderr)


def _moments(values: NDArray[np.float64], labels: Sequence[int]) -> Moments:
    return compute_moments(values.tolist(), labels)
