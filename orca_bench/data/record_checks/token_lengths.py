"""Lengths of training examples in, their histogram out; and the same of two histograms.

Its own module because a check counts lengths as they come, and a merge of shards adds their counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orca_bench.results.data_report import TokenLengths

_BINS_UP_TO_MAX_LENGTH = 16
_BINS = 4 * _BINS_UP_TO_MAX_LENGTH


def bin_width_for(max_length: int) -> int:
    """The width of a bin, in tokens: 16 bins reach to `max_length`."""
    return -(-max_length // _BINS_UP_TO_MAX_LENGTH)


class TokenLengthCounter:
    """Counts the lengths of examples, in tokens."""

    def __init__(self, tokenizer_sha256: str, max_length: int) -> None:
        self._tokenizer_sha256, self._max_length = tokenizer_sha256, max_length
        self._histogram: np.ndarray = np.zeros(_BINS, np.int64)
        self._cut_count = self._total = self._longest = 0

    def add(self, lengths: np.ndarray) -> None:
        """Count some lengths, int [examples]."""
        bins = np.minimum((lengths - 1) // bin_width_for(self._max_length), _BINS - 1)
        self._histogram += np.bincount(bins, minlength=_BINS)
        self._cut_count += int((lengths > self._max_length).sum())
        self._total += int(lengths.sum(dtype=np.int64))
        self._longest = max(self._longest, int(lengths.max(initial=0)))

    def token_lengths(self) -> TokenLengths:
        """All that was counted."""
        return TokenLengths(
            tokenizer_sha256=self._tokenizer_sha256,
            max_length=self._max_length,
            cut=self._cut_count,
            total=self._total,
            longest=self._longest,
            bin_width=bin_width_for(self._max_length),
            histogram=_without_last_zeros(self._histogram.tolist()),
        )


def merge_token_lengths(parts: Sequence[TokenLengths]) -> TokenLengths:
    """The lengths of all parts, which have one tokenizer and one `max_length`."""
    histogram = [0] * max(len(part.histogram) for part in parts)
    for part in parts:
        for index, count in enumerate(part.histogram):
            histogram[index] += count
    return parts[0].model_copy(
        update={
            "cut": sum(part.cut for part in parts),
            "total": sum(part.total for part in parts),
            "longest": max(part.longest for part in parts),
            "histogram": histogram,
        }
    )


def _without_last_zeros(counts: list[int]) -> list[int]:
    while counts and not counts[-1]:
        counts.pop()
    return counts
