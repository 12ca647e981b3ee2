"""Comparison with reported scores, of which only the number is known."""

from dataclasses import replace
from pathlib import Path

from changed_results import change_result, no_change
from result_contents import result_content
from synthetic_results import random_result

from orca_bench.report.comparison_formats import to_grid
from orca_bench.report.conclusions import comparison_sentence
from orca_bench.report.grid_formats import to_markdown
from orca_bench.report.reported_comparison import (
    compare_two_where_possible,
    compare_where_possible,
    compare_with_reported,
)
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.results import reading
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile


def test_against_reported_scores_the_comparison_is_unpaired_and_says_so(in_results_folder):
    folder = in_results_folder.folder

    def be_comparable(result):
        result["suite"].update(comparable=True, name="x")
        for entry in result["tasks"].values():
            entry["row_check"] = {}

    change_result(folder, "good.json", "real.json", no_change, be_comparable)
    output = in_results_folder("compare", "real.json", "--reported", "orca_mini_13b", env={"COLUMNS": "200"}).stdout
    assert "the reported orca_mini_13b" in output and "is not by question, and weaker" in " ".join(output.split())
    error = in_results_folder.refused("compare", "good.json", "--reported", "orca_mini_13b")
    assert "which no reported score is of" in error
    assert "nothing to compare with" in in_results_folder.refused("compare", "good.json")
    comparison = compare_with_reported(reading.read_with_questions(folder / "real.json"), read_reported_scores())
    gsm8k = comparison.line("gsm8k").difference
    assert gsm8k.low < gsm8k.value < gsm8k.high and gsm8k.test == "unpaired z"


def test_a_reason_that_all_tasks_share_stands_once_and_without_a_table():
    content = result_content(protocol="leaderboard")
    for entry in content["tasks"].values():
        entry["row_check"] = dict.fromkeys(("test", "validation"), "other")
    result = migrate_result(Result.from_file_content(content))
    comparison = compare_with_reported(ResultFile(None, "m", result), read_reported_scores())
    grid = to_grid(comparison)
    assert grid.conclusion == "m and reported orca_mini_13b cannot be compared (all 7 tasks: other rows)."
    assert not grid.headings and to_markdown(grid).strip() == grid.conclusion


def test_one_right_answer_is_not_better_than_a_reported_score():
    content = result_content(protocol="leaderboard", value=1.0)
    for entry in content["tasks"].values():
        entry |= {"n": 1, "stderr": None}
    result = migrate_result(Result.from_file_content(content))
    lines = compare_with_reported(ResultFile(None, "m", result), read_reported_scores()).lines
    assert {line.verdict for line in lines} == {"no difference shown"}


def test_two_results_without_their_questions_are_compared_by_their_scores():
    low, high, twin = (
        ResultFile(Path(f"{label}.json"), label, migrate_result(Result.from_file_content(result_content(value=value))))
        for label, value in (("low", 0.3), ("high", 0.5), ("twin", 0.5))
    )
    text = comparison_sentence(*compare_where_possible(low, [high]))
    assert text.startswith("high is better than low on all 7 tasks. The files of questions are not beside the results")
    assert "No difference between twin and high" in comparison_sentence(*compare_where_possible(high, [twin]))


def test_two_results_that_have_nothing_to_compare_have_no_comparison(tmp_path):
    low, high = (random_result(tmp_path, label, share) for label, share in (("low", 0.1), ("high", 0.9)))
    comparison = compare_two_where_possible(low, high)
    assert comparison == compare_where_possible(low, [high])[0] and comparison.is_paired
    without_questions = replace(low, questions_by_task={})
    assert compare_two_where_possible(low, low) is None
    assert compare_two_where_possible(without_questions, without_questions) is None
