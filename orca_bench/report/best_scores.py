"""Scores by column in, of each column the one that is significantly the best out.

Its own module because the leaderboard and the page print the best in bold by the same test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orca_bench.report.comparison import compare_line
from orca_bench.results.reading import ResultFile
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL, correct_by_holm


def significantly_best(
    scores_by_column: Mapping[str, Mapping[int, float]], p_value: Callable[[int, int, str], float]
) -> dict[str, int]:
    """By column, the index of the score that is significantly better than each other one; columns without one are left out.

    `scores_by_column` has the scores of a column by index, `p_value(other, best, column)` is the p of no difference between
    two. Of the tests against the others the largest p counts (an intersection of tests); Holm's correction is over columns.
    """
    best_indices: dict[str, int] = {}
    p_values: dict[str, float] = {}
    for column, scores in scores_by_column.items():
        if len(scores) < 2:
            continue
        best_index = max(scores, key=lambda index: scores[index])
        best_indices[column] = best_index
        p_values[column] = max(p_value(index, best_index, column) for index in scores if index != best_index)
    corrected_ps = dict(zip(p_values, correct_by_holm(list(p_values.values())), strict=True))
    return {column: index for column, index in best_indices.items() if corrected_ps[column] < SIGNIFICANCE_LEVEL}


def paired_p_value(other: ResultFile, best: ResultFile, name: str) -> float:
    """The p of no difference between two results in a task or average, by question; 1 where they cannot be compared so."""
    if not (other.questions_by_task and best.questions_by_task):
        return 1.0
    line = compare_line(other, best, name)
    return 1.0 if line is None or line.difference is None else line.difference.p
