"""The leaderboard's table: which score is bold, where reported rows stand, and what a narrow terminal leaves out."""

import json

from synthetic_results import random_result

from orca_bench.report.leaderboard import build_leaderboard
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.result_tables import result_grids
from orca_bench.suite import ALL_TASKS

SAME = {task.name: 0.5 for task in ALL_TASKS}


def bold_cells(grid):
    """(model, heading) of every cell in bold."""
    return {
        (row[0].text, heading)
        for row in grid.rows
        for cell, heading in zip(row, grid.headings, strict=True)
        if cell.bold
    }


def test_only_a_significantly_best_score_is_bold(tmp_path):
    good = random_result(tmp_path, "good", SAME | {"hellaswag": 0.95, "arc_challenge": 0.52}, seed=1)
    grid = build_leaderboard(
        [random_result(tmp_path, "plain", SAME, seed=2), good, random_result(tmp_path, "third", SAME, seed=3)]
    )
    assert bold_cells(grid) == {("good", "HellaSwag")}


def test_a_reported_row_stands_among_the_others_and_can_be_best(tmp_path):
    weak = random_result(tmp_path, "weak", 0.1)
    grid = build_leaderboard([weak], [read_reported_scores()])
    assert [row[0].text for row in grid.rows] == ["orca_mini_13b (reported)", "weak"]
    bold = bold_cells(grid)
    assert {("orca_mini_13b (reported)", "HellaSwag"), ("orca_mini_13b (reported)", "MMLU")} <= bold
    assert ("orca_mini_13b (reported)", "Mean of 7") not in bold  # of whose error nothing is known


def test_reported_scores_stand_apart_from_rows_that_may_not_be_compared_with_them(tmp_path):
    files = [random_result(tmp_path, "high", 0.9), random_result(tmp_path, "low", 0.1)]
    grid = build_leaderboard(files, [read_reported_scores()])
    assert [row[0].text for row in grid.rows] == ["high", "orca_mini_13b (reported)", "low"]
    assert grid.rule_after_row is None
    for task_result in files[0].result.tasks.values():
        task_result.row_check = dict.fromkeys(("test", "validation", "train"), "other")
    grid = build_leaderboard(files, [read_reported_scores()])
    assert [row[0].text for row in grid.rows] == ["high", "low", "orca_mini_13b (reported)"]
    assert grid.rule_after_row == 1


def test_rows_stand_in_the_order_of_the_mean_that_the_sentence_names(tmp_path):
    good_at_drop = random_result(tmp_path, "good-at-drop", SAME | {"drop": 0.99, "mmlu": 0.4}, seed=1)
    bad_at_drop = random_result(tmp_path, "bad-at-drop", SAME | {"drop": 0.01}, seed=2)
    third = random_result(tmp_path, "third", 0.1, seed=3)
    [grid] = result_grids([bad_at_drop, good_at_drop, third], None)
    assert "good-at-drop has the highest mean of all seven" in grid.conclusion
    assert grid.headings[1] == "Mean of 7" and grid.rows[0][0].text == "good-at-drop"
    tasks = ["gsm8k", "mmlu"]
    two_tasks = [
        random_result(tmp_path, f"two-{share}", share, file=f"{share}.json", tasks=tasks) for share in (0.1, 0.5, 0.9)
    ]
    [grid] = result_grids(two_tasks, None)
    assert "two-0.9 has the highest mean of 2 tasks" in grid.conclusion
    assert grid.headings[1] == "Mean of 2" and [row[0].text for row in grid.rows] == ["two-0.9", "two-0.5", "two-0.1"]


def test_rows_are_not_ranked_by_means_over_different_tasks(tmp_path):
    easy = SAME | {"hellaswag": 0.95, "drop": 0.1}
    whole = random_result(tmp_path, "whole", easy | {"mmlu": 0.9, "winogrande": 0.9}, seed=1)
    part = random_result(tmp_path, "part", easy, seed=2, tasks=["drop", "arc_challenge", "gsm8k"])
    part.result.tasks["gsm8k"].value = 0.99
    grid = build_leaderboard([whole, part, random_result(tmp_path, "low", 0.1, seed=3)])
    assert grid.headings[1:4] == ["Mean of 3", "Mean of 7", "Mean w/o DROP"]
    assert [row[0].text for row in grid.rows] == ["part", "whole", "low"]  # over all its tasks whole has more


def test_a_result_of_few_tasks_stands_last_and_mini_stands_not_among_reported(tmp_path):
    part = random_result(tmp_path, "part", 0.9, tasks=["gsm8k"], comparable=False)
    grid = build_leaderboard([part, random_result(tmp_path, "whole", 0.2, comparable=False)], [read_reported_scores()])
    assert [row[0].text for row in grid.rows] == ["whole", "part"]


def test_the_command_takes_a_folder_and_every_form(tmp_path, command):
    for number, label in enumerate(("a", "b", "c")):
        random_result(tmp_path, label, 0.3 + 0.1 * number, seed=number)
    (tmp_path / "other.json").write_text("{}")
    process = command("table", ".", env={"COLUMNS": "250"})
    assert process.returncode == 0, process.stderr
    assert "reported" in process.stdout and all(f"\n{label} " in process.stdout for label in "abc")
    assert command("table", ".", "--layout", "tasks", "--format", "markdown").stdout.count("\n| ") >= 9
    assert r"\bottomrule" in command("table", ".", "--format", "latex").stdout
    assert len(json.loads(command("table", ".", "--format", "json").stdout)["lines"]) == 9
    assert "it has a line for each number" in command.refused("table", ".", "--layout", "models", "--format", "csv")
    (tmp_path / "empty").mkdir()
    assert "no result in this folder" in command.refused("table", "empty")


def test_a_narrow_terminal_leaves_errors_out_before_it_cuts_any_number(tmp_path, command):
    for protocol in ("orca", "leaderboard"):
        for share in (0.3, 0.6, 0.5):
            random_result(tmp_path, f"a-model-at-{share}", share, file=f"{protocol}{share}.json", protocol=protocol)
    wide, middle, narrow = (command("table", ".", env={"COLUMNS": str(n)}).stdout for n in (200, 120, 80))
    assert "± standard error" in wide and "reported" in wide and "±" in middle and "±" not in narrow
    for columns, output in ((200, wide), (120, middle), (80, narrow)):
        assert max(map(len, output.splitlines())) <= columns
        assert ("42.1" if columns == 120 else "42.06") in output
        assert output.count("(reported)") == 2 == " ".join(output.split()).count("has the highest mean")
        assert output.index("protocol leaderboard: percent") > 0 < output.index("protocol orca: percent")
    assert "left out at 80 columns: Mean w/o DROP, n" in narrow and "left out" not in wide
