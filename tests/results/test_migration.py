"""What a result does not say of its rows is filled in, and a note says so."""

import pytest
from result_contents import result_content, score_table

from orca_bench.report.score_table_notes import task_notes
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result
from orca_bench.results.task_results import OTHER_ROWS, UNVERIFIED_ROWS


def content_without_row_status(**changes):
    """The JSON of a result of format 3 whose task says nothing of its rows."""
    content = result_content(names=("gsm8k",)) | {"format": "orca-bench result 3"}
    content["tasks"]["gsm8k"] |= changes
    return content


@pytest.mark.parametrize(("rows", "status"), [(100, UNVERIFIED_ROWS), (99, OTHER_ROWS)])
def test_a_result_of_todays_format_that_says_nothing_of_its_rows_is_judged_by_their_number(rows, status):
    result = migrate_result(Result.from_file_content(content_without_row_status(rows=rows)))
    assert result.tasks["gsm8k"].row_status("test") == status
    assert result.is_comparable("gsm8k") == (status != OTHER_ROWS)
    assert "row_check" not in result.file_content["tasks"]["gsm8k"]


def test_of_another_suite_todays_format_need_not_say_it():
    content = content_without_row_status() | {"suite": {"name": "mini", "comparable": False}}
    result = migrate_result(Result.from_file_content(content))
    assert result.tasks["gsm8k"].row_check is None and task_notes("m", result) == []


def test_rows_that_nothing_is_said_of_have_a_note():
    def note_texts(**options):
        return " ".join(note.text for note in score_table(content_without_row_status(**options)).notes)

    assert "rows not verified: the result does not say" in note_texts()
    texts = note_texts(rows=99)
    assert "other rows than the leaderboard's" in texts and "does not say" not in texts
    assert "not verified" not in note_texts(row_check={"test": "true"})
