"""Perplexities: the value is that of lm-eval's formula, and the interval covers the true one as often as it says."""

import math
import random

import pytest

from orca_bench.stats.log_likelihoods import (
    BITS_PER_BYTE,
    PERPLEXITY,
    WEIGHTED_PERPLEXITY,
    score_log_likelihoods,
)

TEXTS = ([-40.0, -90.0, -10.0, -55.0], [10.0, 25.0, 2.0, 20.0])


def test_the_values_are_those_of_lm_eval():
    from lm_eval.api import metrics

    pairs = list(zip(*TEXTS, strict=True))
    assert score_log_likelihoods(*TEXTS, WEIGHTED_PERPLEXITY).value == pytest.approx(
        metrics.weighted_perplexity(pairs), rel=1e-14
    )
    assert score_log_likelihoods(*TEXTS, BITS_PER_BYTE).value == pytest.approx(metrics.bits_per_byte(pairs), rel=1e-14)
    few = [-1.0, -2.5, -0.5]
    assert score_log_likelihoods(few, None, PERPLEXITY).value == pytest.approx(metrics.perplexity(few), rel=1e-14)


def test_the_mean_of_the_texts_values_is_the_value_and_their_spread_its_error():
    score = score_log_likelihoods(*TEXTS, WEIGHTED_PERPLEXITY)
    values = score.text_values
    assert sum(values) / len(values) == pytest.approx(score.value)
    spread = math.sqrt(sum((value - score.value) ** 2 for value in values) / (len(values) - 1) / len(values))
    assert spread == pytest.approx(score.stderr)
    low, high = score.interval
    assert 0 < low < score.value < high and high - score.value > score.value - low


def test_the_error_is_that_of_texts_left_out_one_by_one():
    rng = random.Random(1)
    weights = [float(rng.randint(50, 60)) for _ in range(60)]
    log_likelihoods = [-weight * (3 + rng.random() / 5) for weight in weights]
    whole = score_log_likelihoods(log_likelihoods, weights, WEIGHTED_PERPLEXITY)
    others = [
        score_log_likelihoods(
            log_likelihoods[:i] + log_likelihoods[i + 1 :], weights[:i] + weights[i + 1 :], WEIGHTED_PERPLEXITY
        ).value
        for i in range(60)
    ]
    mean = sum(others) / 60
    jackknife = math.sqrt(59 / 60 * sum((other - mean) ** 2 for other in others))
    assert whole.stderr == pytest.approx(jackknife, rel=0.02)


def test_95_of_100_intervals_hold_the_true_perplexity():
    rng = random.Random(3)
    hits = 0
    for _ in range(400):
        weights = [float(rng.randint(20, 60)) for _ in range(30)]
        log_likelihoods = [-weight * rng.gauss(3.0, 0.5) for weight in weights]
        low, high = score_log_likelihoods(log_likelihoods, weights, WEIGHTED_PERPLEXITY).interval
        hits += low <= math.exp(3.0) <= high
    assert 0.92 < hits / 400 < 0.98


def test_an_empty_text_counts_with_its_weight_of_nothing_and_no_interval_reaches_below_1():
    score = score_log_likelihoods([-40.0, -1.0], [10.0, 0.0], WEIGHTED_PERPLEXITY)
    assert score.value == pytest.approx(math.exp(4.1)) and score.stderr > 0
    low, _ = score_log_likelihoods([-0.1, -9.0, -0.2], [1.0, 3.0, 1.0], WEIGHTED_PERPLEXITY).interval
    assert low == 1


def test_one_text_has_no_error_and_a_text_without_words_no_score():
    assert score_log_likelihoods([-3.0], [2.0], BITS_PER_BYTE).stderr is None
    assert math.isinf(score_log_likelihoods([-3000.0], [2.0], WEIGHTED_PERPLEXITY).value)
    with pytest.raises(ValueError, match="none with words"):
        score_log_likelihoods([-3.0], [0.0], WEIGHTED_PERPLEXITY)
