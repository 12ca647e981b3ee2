"""The p-values of several tests in, corrected ones out, so that the family-wise error rate holds.

The family-wise error rate is the probability that at least one of all tests shows a difference where there is none. Its own
module because every report that gives more than one verdict needs it, whatever its tests are.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The family-wise error rate of all verdicts of one report.
SIGNIFICANCE_LEVEL = 0.05


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm's step-down method, in the order of `p_values` (Holm 1979, Scand. J. Stat. 6:65)."""
    corrected_p_values, largest_corrected_p = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest_corrected_p = max(largest_corrected_p, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected_p_values[index] = largest_corrected_p
    return corrected_p_values


def levels_of_holm(corrected_p_values: Sequence[float], level: float = SIGNIFICANCE_LEVEL) -> list[float]:
    """By test, the level at which Holm's method would have tested it next, in the order of `corrected_p_values`.

    Holm tests the smallest of the p that are left at `level` divided by their number. So a test that shows nothing would have
    been tested at `level` divided by the number of tests that show nothing, itself among them; and one that shows a difference
    likewise, if it had shown none.
    """
    open_count = sum(corrected_p >= level for corrected_p in corrected_p_values)
    return [level / (open_count + (corrected_p < level)) for corrected_p in corrected_p_values]
