"""A valid result of any format in, the same result with what format 3 says besides out.

Format 1 has no intervals and no clusters, which stay unknown. Formats 1 and 2 do not say whether rows are the leaderboard's
own (`row_check`), hash rows otherwise, and have no hash of the whole; `Result.format_version` tells readers for whom that
matters. The JSON of the file stays as it is (`Result.file_content`). Its own module because all that is known of old formats
stands here, so that readers need no special case.
"""

from __future__ import annotations

from orca_bench.results.models import RESULT_FORMAT_VERSION, Result
from orca_bench.results.task_results import OTHER_ROWS, UNVERIFIED_ROWS, RowStatus
from orca_bench.suite import TASK_BY_NAME


def migrate_result(result: Result) -> Result:
    """Fill in what a result does not say of its rows; returns it. Today's format need not say it of another suite's rows.

    Of rows only their number is known: another number than the full one means other rows, else they are not verified.
    """
    if result.format_version == RESULT_FORMAT_VERSION and not result.suite.comparable:
        return result
    for task_name, entry in result.tasks.items():
        task_facts = TASK_BY_NAME.get(task_name)
        if task_facts is None or entry.row_check is not None:
            continue
        row_status: RowStatus = UNVERIFIED_ROWS
        if entry.rows is not None and entry.full_size is not None and entry.rows != entry.full_size:
            row_status = OTHER_ROWS
        entry.row_check = {
            split: row_status for split in (task_facts.evaluation_split, task_facts.few_shot_split) if split is not None
        }
    return result
