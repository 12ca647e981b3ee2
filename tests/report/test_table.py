"""The table: reported beside measured, and in plain words what may not be compared."""

import csv
import io
import json

import pytest

from orca_bench.errors import UserError
from orca_bench.report import leaderboard, table
from orca_bench.results import reading
from orca_bench.results.reading import ResultFile
from orca_bench.suite import BY_NAME

NAMES = list(BY_NAME)
TITLES = {name: task.title for name, task in BY_NAME.items()}


def result(comparable=True, limit=None, protocol="orca", names=NAMES, value=0.5):
    tasks = {
        n: {
            "title": TITLES[n],
            "metric": "acc",
            "value": value,
            "stderr": 0.01,
            "n": 100,
            "rows": 100,
            "full_size": 100,
        }
        for n in names
    }
    whole = {"value": value, "stderr": 0.004} if len(names) == 7 else {"value": None, "stderr": None}
    return {
        "format": "orca-bench result 1",
        "complete": True,
        "suite": {"name": "open-llm-leaderboard-v1" if comparable else "mini", "comparable": comparable},
        "protocol": {"name": protocol},
        "model": {"name": "m"},
        "limit": limit,
        "tasks": tasks,
        "averages": {"all seven": whole, "six without DROP": whole},
    }


def built(*results):
    return table.build(list(zip(table.labels(list(results)), results, strict=True)), table.read_reported())


def test_the_reported_averages_are_the_means_of_the_reported_scores():
    reported = table.read_reported()
    scores = [reported["tasks"][name] for name in NAMES]
    assert round(sum(scores) / 7, 2) == reported["averages"]["all seven"] == 37.06
    assert round(sum(scores[:6]) / 6, 2) == reported["averages"]["six without DROP"] == 41.36


def test_a_difference_is_measured_minus_reported_in_percent():
    line = built(result()).lines[0]
    assert (line.reported, line.cells[0].value, line.cells[0].stderr) == (42.06, 50.0, 1.0)
    assert line.cells[0].difference == pytest.approx(7.94)


def test_the_mini_suite_gets_no_difference_and_says_why():
    made = built(result(comparable=False))
    assert all(line.cells[0].difference is None for line in made.lines)
    assert any("not comparable" in note for note in made.notes)
    assert "Δ" not in table.to_markdown(made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 10}, "only the first 10 questions"),
        ({"protocol": "orca"}, "mixes model and protocol"),
        ({"protocol": "plain"}, "lm-eval"),
    ],
)
def test_what_makes_a_comparison_unfair_is_said(options, said):
    assert any(said in note for note in built(result(**options)).notes)


def test_a_missing_task_is_a_dash_and_has_no_average():
    made = built(result(names=["gsm8k"]))
    assert made.lines[0].cells[0].value is None and made.lines[-1].cells[0].value is None
    assert "–" in table.to_markdown(made)


def test_rows_that_are_missing_are_said():
    one = result()
    one["tasks"]["drop"]["warnings"] = ["100 rows here and 9,536 in full"]
    assert "m DROP: 100 rows here and 9,536 in full" in built(one).notes


def test_other_rows_than_the_leaderboards_get_no_difference(tmp_path):
    one = result()
    one["tasks"]["gsm8k"] |= {"rows": 10, "row_check": {"test": "other", "train": "true"}}
    table_ = built(one)
    differences = {line.name: line.cells[0].difference for line in table_.lines}
    assert [name for name, difference in differences.items() if difference is None] == [
        *("gsm8k", "all seven", "six without DROP")
    ]
    assert any("m GSM8K: other rows than the leaderboard's" in note for note in table_.notes)
    grid = leaderboard.build([ResultFile(tmp_path, "m", one)], [table.read_reported()])
    assert any("m GSM8K: other rows than the leaderboard's" in note for note in grid.notes)


def test_results_of_earlier_versions_have_rows_that_are_not_verified():
    assert any("rows not verified: the result is of an earlier version" in note for note in built(result()).notes)
    one = result()
    one["tasks"]["drop"]["full_size"] = 9536
    assert any("m DROP: other rows" in note for note in built(one).notes)


def test_an_unfinished_result_says_what_was_ordered_and_not_run():
    one = result(names=["gsm8k"]) | {"complete": False, "order": ["gsm8k", "drop"]}
    assert any("unfinished; ordered and not run: DROP" in note for note in built(one).notes)


def test_contexts_that_were_cut_are_counted_task_by_task():
    one = result()
    one["tasks"]["drop"]["shortened"] = 12
    cut = [note for note in built(one).notes if "were cut" in note]
    assert cut == ["m DROP: contexts longer than the model's window, which were cut: 12"]


def test_csv_and_json_hold_what_the_table_shows():
    made = built(result(), result(protocol="plain", value=0.25))
    rows = list(csv.DictReader(io.StringIO(table.to_csv(made))))
    assert len(rows) == 18 and {row["result"] for row in rows} == {"orca", "plain"}
    assert float(rows[0]["measured"]) == 50 and float(rows[1]["difference"]) == pytest.approx(25 - 42.06)
    parsed = json.loads(table.to_json(made))
    assert parsed["lines"][6]["measured"]["plain"]["value"] == 25
    assert parsed["lines"][7]["title"] == "Mean of all seven"


def test_the_terminal_table_shows_every_task_and_both_averages():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=160)
    console.print(table.to_rich(built(result())))
    shown = console.file.getvalue()
    for said in (
        "ARC-Challenge",
        "DROP",
        "Mean of all seven",
        "37.06",
        "Mean without DROP",
        "41.36",
        "50.00 ± 1.00",
    ):
        assert said in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a JSON file"),
        ("[]", "not an orca-bench result"),
        ('{"format": "other"}', "not an orca-bench result"),
        ('{"format": "orca-bench result 1"}', "a result without 'suite'"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, text, said):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        reading.read_result(path)
