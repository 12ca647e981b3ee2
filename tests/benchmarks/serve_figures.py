"""Seconds and sizes of a server under load in, what the record says of them out."""

from __future__ import annotations

from collections.abc import Sequence


def memory_growth(sizes: Sequence[float]) -> float:
    """How much larger the largest of the second half of some sizes is than that of the first half, as a share of it."""
    middle = (len(sizes) + 1) // 2
    first, second = max(sizes[:middle]), max(sizes[middle:], default=0.0)
    return (second - first) / first if first and second else 0.0


def seconds_sentence(seconds: Sequence[float]) -> str:
    """How long answers took."""
    if not seconds:
        return "No answer was waited for."
    ordered = sorted(seconds)
    return f"An answer takes {ordered[len(ordered) // 2]:.1f} s (median), at most {ordered[-1]:.1f} s."
