"""The numbers of a divergence: means with clustered errors, percentiles, shares and perplexities."""

import math
from dataclasses import replace

import numpy as np
import pytest

from orca_bench.stats.token_divergences import TokenDivergences, summarize_divergences


def _divergences(record_lengths, seed=0):
    """Random divergences of records with so many tokens each."""
    generator = np.random.default_rng(seed)
    count = sum(record_lengths)
    return TokenDivergences(
        generator.exponential(0.1, count),
        -generator.exponential(2, count),
        -generator.exponential(2, count),
        generator.random(count) < 0.9,
        np.repeat(np.arange(len(record_lengths)), record_lengths),
    )


def test_means_have_the_standard_error_of_records_as_clusters():
    divergences = _divergences([3, 5, 1, 8])
    summary = summarize_divergences(divergences)
    kl = divergences.kl_divergences
    sums = [float((kl - kl.mean())[divergences.record_labels == record].sum()) for record in range(4)]
    assert summary.mean_kl.value == pytest.approx(kl.mean())
    assert summary.mean_kl.stderr == pytest.approx(math.sqrt(sum(s * s for s in sums) * 4 / 3) / 17)
    assert (summary.token_count, summary.record_count) == (17, 4)


def test_tokens_that_say_the_same_again_make_nothing_more_certain():
    once = _divergences([4, 4, 4])
    arrays = [np.repeat(getattr(once, name), 50) for name in TokenDivergences.__dataclass_fields__]
    summary, repeated = summarize_divergences(once), summarize_divergences(TokenDivergences(*arrays))
    assert repeated.token_count == 50 * summary.token_count
    assert repeated.mean_kl.stderr == pytest.approx(summary.mean_kl.stderr)
    assert repeated.perplexity_ratio.stderr == pytest.approx(summary.perplexity_ratio.stderr)


def test_percentiles_and_perplexities_are_those_of_numpy():
    divergences = _divergences([100] * 40)
    summary = summarize_divergences(divergences)
    assert summary.kl_percentiles == pytest.approx(np.percentile(divergences.kl_divergences, [50, 99, 99.9]))
    assert summary.largest_kl == divergences.kl_divergences.max()
    change = divergences.log_probabilities - divergences.reference_log_probabilities
    assert summary.log_probability_change.value == pytest.approx(change.mean())
    assert summary.perplexity.value == pytest.approx(math.exp(-divergences.log_probabilities.mean()))
    assert summary.reference_perplexity.value == pytest.approx(
        math.exp(-divergences.reference_log_probabilities.mean())
    )
    assert summary.perplexity_ratio.value == pytest.approx(
        summary.perplexity.value / summary.reference_perplexity.value
    )
    assert summary.perplexity_ratio.stderr == pytest.approx(
        summary.perplexity_ratio.value * summary.log_probability_change.stderr
    )
    assert summary.same_top_share.value == pytest.approx(divergences.has_same_top.mean())


def test_a_share_of_all_tokens_has_an_interval():
    divergences = _divergences([50, 50, 50])
    all_same = TokenDivergences(
        divergences.kl_divergences,
        divergences.log_probabilities,
        divergences.reference_log_probabilities,
        np.ones(150, dtype=bool),
        divergences.record_labels,
    )
    share = summarize_divergences(all_same).same_top_share
    assert share.value == 1 and share.interval_low < 1 == share.interval_high


def test_a_single_record_has_no_standard_error():
    summary = summarize_divergences(_divergences([9]))
    assert summary.mean_kl.stderr is None and summary.perplexity.stderr is None


def test_a_perplexity_that_no_number_holds_is_infinite():
    divergences = _divergences([3, 5, 1, 8])
    broken = replace(divergences, log_probabilities=divergences.log_probabilities - 2000)
    summary = summarize_divergences(broken)
    for estimate in (summary.perplexity, summary.perplexity_ratio):
        assert estimate.value == math.inf and estimate.stderr is None
    assert math.isfinite(summary.reference_perplexity.value)
    assert summary.log_probability_change.value < -1900


def test_no_tokens_are_refused():
    with pytest.raises(ValueError, match="no tokens"):
        summarize_divergences(_divergences([]))
