"""Groups of results in, their comparisons and the sentence above several tables out.

Its own module because `compare` and the report of `divergence` write the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orca_bench.report.comparison import Comparison
    from orca_bench.report.result_pairing import ResultGroup


def compare_groups(
    groups: Sequence[ResultGroup], reported: str | None = None, clean: bool = False
) -> tuple[list[Comparison], bool]:
    """The comparisons of all groups, corrected together, and whether all results have their questions beside them.

    With `reported`, the base of each group is compared with these scores too; with `clean`, questions that overlap with
    training records are left out. Raises UserError where results have nothing in common.
    """
    from orca_bench import api
    from orca_bench.report.comparison import correct_together
    from orca_bench.report.result_selection import result_labels

    comparisons: list[Comparison] = []
    has_all_questions = True
    files_of_groups = [[api.load_result(path) for path in (group.base_path, *group.other_paths)] for group in groups]
    # Labelled together, so that tables of several protocols say which they are of.
    labels = iter(result_labels([file.result for files in files_of_groups for file in files]))
    for files in files_of_groups:
        results = [replace(file, label=next(labels)) for file in files]
        has_all_questions = has_all_questions and all(result.questions_by_task for result in results)
        comparisons += api.compare(*results, reported=reported, clean=clean)
    return correct_together(comparisons), has_all_questions


def lead_sentence(comparisons: Sequence[Comparison]) -> str:
    """What all tables together say; empty where they have several bases."""
    from orca_bench.report.conclusions import comparisons_sentence

    has_one_base = len({comparison.base_label for comparison in comparisons}) == 1
    return comparisons_sentence(comparisons) if has_one_base else ""
