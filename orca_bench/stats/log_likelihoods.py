"""Log-likelihoods of texts in, perplexity or bits per byte out, with standard error, interval, and a value for each text.

A perplexity is no mean of texts but a function of a ratio of sums, so its standard error is by the delta method: each text
moves the value by its influence, which is linear in what it adds to both sums (Särndal, Swensson and Wretman 1992, section
5.6). Its own module because scores elsewhere in this package are means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.stats.distributions import two_sided_quantile
from orca_bench.stats.moments import compute_moments

#: What lm-eval calls the three: exp(-mean of texts), exp(-sum / sum of weights), and the latter's exponent in bits.
PERPLEXITY, WEIGHTED_PERPLEXITY, BITS_PER_BYTE = "perplexity", "weighted_perplexity", "bits_per_byte"
LOG_LIKELIHOOD_AGGREGATIONS = (PERPLEXITY, WEIGHTED_PERPLEXITY, BITS_PER_BYTE)


@dataclass(frozen=True)
class LogLikelihoodScore:
    """A perplexity or bits per byte with its standard error and 95 % interval; None for a single text.

    `text_values` [texts] are linear parts: their mean is the value, and their spread gives its standard error.
    """

    value: float
    stderr: float | None
    interval: tuple[float, float] | None
    text_values: list[float]


def score_log_likelihoods(
    log_likelihoods: Sequence[float], weights: Sequence[float] | None, aggregation: str
) -> LogLikelihoodScore:
    """The score of texts from their log-likelihoods [texts], nats, and `weights` [texts]: their words or bytes.

    With `PERPLEXITY` each text counts 1. The interval is Student's t of the cost of a unit of text, in nats; so that of a
    perplexity is not symmetric; it does not reach below 1. A perplexity above the largest number is infinite. Raises ValueError
    for no texts, for a negative weight, and where no text has a weight.
    """
    counts = [1.0] * len(log_likelihoods) if weights is None or aggregation == PERPLEXITY else list(weights)
    if not log_likelihoods or any(count < 0 for count in counts) or not sum(counts):
        raise ValueError("no texts, or none with words")
    total_weight = sum(counts)
    cost = -sum(log_likelihoods) / total_weight
    mean_weight = total_weight / len(counts)
    # What each text adds to the cost, by the first-order expansion of the ratio.
    influences = [
        (-log_likelihood - cost * count) / mean_weight
        for log_likelihood, count in zip(log_likelihoods, counts, strict=True)
    ]
    moments = compute_moments(influences)
    if aggregation == BITS_PER_BYTE:
        value, slope = cost / math.log(2), 1 / math.log(2)
    else:
        value = slope = _exp(cost)
    interval = None
    if moments.stderr is not None:
        half_width = two_sided_quantile(moments.degrees_of_freedom) * moments.stderr
        bounds = (min(cost, max(0.0, cost - half_width)), cost + half_width)
        low, high = (bound / math.log(2) for bound in bounds) if aggregation == BITS_PER_BYTE else map(_exp, bounds)
        interval = low, high
    return LogLikelihoodScore(
        value,
        None if moments.stderr is None else slope * moments.stderr,
        interval,
        [value + slope * influence for influence in influences],
    )


def _exp(exponent: float) -> float:
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf
