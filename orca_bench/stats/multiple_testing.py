"""The p-values of several tests in, corrected ones out, so that the family-wise error rate holds.

The family-wise error rate is the probability that at least one of all tests shows a difference where there is none. Its own
module because every report that gives more than one verdict needs it, whatever its tests are.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The family-wise error rate of all verdicts of one report.
SIGNIFICANCE_LEVEL = 0.05


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm's step-down method, in the order of `ps` (Holm 1979, Scand. J. Stat. 6:65)."""
    corrected_ps, largest_p = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest_p = max(largest_p, min(1.0, (len(ps) - rank) * ps[index]))
        corrected_ps[index] = largest_p
    return corrected_ps
