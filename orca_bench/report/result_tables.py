"""Results of any suites and protocols in, the tables to read out: one grid for each suite and protocol, each with its sentence.

Two results or fewer stand side by side, task by task; more become rows of a leaderboard. Its own module because `table`, `eval`
and the published folder choose and part the tables alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.grid import Grid
from orca_bench.report.leaderboard import build_leaderboard
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.result_groups import group_by_setting, group_protocol_titles, relabel_groups
from orca_bench.report.score_table import build_score_table
from orca_bench.report.score_table_formats import to_grid
from orca_bench.results.reading import ResultFile

TableLayout: TypeAlias = Literal["auto", "tasks", "models"]
_MOST_RESULTS_SIDE_BY_SIDE = 2


def result_grids(
    result_files: Sequence[ResultFile],
    reported_scores: ReportedScores | None,
    layout: TableLayout = "auto",
    all_tasks: bool = False,
    keep_labels: bool = False,
) -> list[Grid]:
    """The grids of some results, headed by their labels where `keep_labels`, else by what tells those of a grid apart.

    Where their questions were read, the sentences rest on paired tests. `all_tasks` shows tasks that no result has, too.
    """
    groups = group_by_setting(result_files)
    if not keep_labels:
        groups = relabel_groups(groups)
    titles = group_protocol_titles(groups)
    return [
        _grid(group, title, reported_scores, layout, all_tasks) for group, title in zip(groups, titles, strict=True)
    ]


def _grid(
    result_files: Sequence[ResultFile],
    protocol_title: str,
    reported_scores: ReportedScores | None,
    layout: TableLayout,
    all_tasks: bool,
) -> Grid:
    conclusion = scores_sentence(result_files, reported_scores, protocol_title)
    if layout == "models" or (layout == "auto" and len(result_files) > _MOST_RESULTS_SIDE_BY_SIDE):
        return build_leaderboard(
            result_files, [] if reported_scores is None else [reported_scores], conclusion, protocol_title
        )
    table = build_score_table(
        [(file.label, file.result) for file in result_files], reported_scores, conclusion, protocol_title
    )
    return to_grid(table, all_tasks)
