"""The table of scores: reported beside measured, and in plain words what may not be compared."""

import pytest
from result_contents import result_content, score_table

from orca_bench.models.model_warnings import in_full_precision, model_warnings
from orca_bench.report.grid_formats import to_markdown
from orca_bench.report.leaderboard import build_leaderboard
from orca_bench.report.notes import NotedNumber, note_line, select_notes
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.score_table_formats import to_grid
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile


def note_lines(table):
    """The notes of a table or grid, each as a line."""
    return [note_line(note) for note in table.notes]


def test_a_difference_is_measured_minus_reported_in_percent():
    line = score_table(result_content()).lines[0]
    assert (line.reported, line.scores[0].value, line.scores[0].stderr) == (42.06, 50.0, 1.0)
    assert line.scores[0].difference == pytest.approx(7.94)


def test_the_mini_suite_gets_no_difference_and_says_why():
    table = score_table(result_content(comparable=False))
    assert all(line.scores[0].difference is None for line in table.lines)
    (note,) = [note for note in note_lines(table) if "not comparable" in note]
    assert note.endswith("with the reported scores, so the column of differences is left out")
    assert "Δ" not in to_markdown(to_grid(table))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 10}, "only the first 10 questions of each task"),
        ({"limit": 1}, "only the first question of each task"),
        ({"protocol": "orca"}, "mixes model and protocol"),
        ({"protocol": "plain"}, "lm-eval"),
    ],
)
def test_the_notes_say_what_makes_a_comparison_unfair(options, message):
    assert any(message in note for note in note_lines(score_table(result_content(**options))))


def test_warnings_of_the_model_stand_first_and_that_on_its_prompt_before_that_on_its_bits():
    content = result_content(protocol="orca", limit=10)
    prompt, weights, bits = model_warnings(True, ["v_head"], 4.5, in_full_precision("GGUF"))
    content["model"]["warnings"] = [weights, bits, prompt]  # the order of older results
    content["tasks"]["drop"]["warnings"] = ["100 rows here and 9,536 in full"]
    texts = [note.text for note in to_grid(score_table(content)).notes]
    assert texts[:3] == [prompt, weights, bits] and "mixes model and protocol" in texts[3]
    selected = select_notes(to_grid(score_table(content)).notes, [NotedNumber("m", "drop")], ["m"])
    assert [note.text for note in selected][:3] == [prompt, weights, bits]


@pytest.mark.parametrize(("engine", "line"), [("vllm", "asked of a server: it rounds"), ("llamacpp", "it rounds")])
def test_what_a_server_does_otherwise_is_a_note(engine, line):
    content = result_content()
    content["model"]["engine"] = {"name": engine, "differences": ["it rounds"]}
    texts = [note.text for note in score_table(content).notes]
    assert line in texts and sum(text.endswith("it rounds") for text in texts) == 1


def test_a_missing_task_is_a_dash_and_has_no_average():
    table = score_table(result_content(names=["gsm8k"]))
    assert table.lines[0].scores[0].value is None and table.lines[-1].scores[0].value is None
    assert "–" in to_markdown(to_grid(table, all_tasks=True))
    assert "ARC" not in to_markdown(to_grid(table)) and "Mean" not in to_markdown(to_grid(table))


def test_the_warnings_of_a_task_stand_in_the_notes():
    content = result_content()
    content["tasks"]["drop"]["warnings"] = ["100 rows here and 9,536 in full"]
    assert "m DROP: 100 rows here and 9,536 in full" in note_lines(score_table(content))


def test_other_rows_than_the_leaderboards_get_no_difference(tmp_path):
    content = result_content()
    content["tasks"]["gsm8k"] |= {"rows": 10, "row_check": {"test": "other", "train": "true"}}
    table = score_table(content)
    differences = {line.name: line.scores[0].difference for line in table.lines}
    assert [name for name, difference in differences.items() if difference is None] == [
        *("gsm8k", "all seven", "six without DROP")
    ]
    assert "m GSM8K: other rows than the leaderboard's, so its difference is left out" in note_lines(table)
    file = ResultFile(tmp_path, "m", Result.from_file_content(content))
    grid = build_leaderboard([file], [read_reported_scores()])
    assert any("m GSM8K: other rows than the leaderboard's" in note for note in note_lines(grid))


def test_results_of_earlier_versions_have_rows_that_are_not_verified():
    assert any(
        "rows not verified: the result is of an earlier version" in note
        for note in note_lines(score_table(result_content()))
    )
    content = result_content()
    content["tasks"]["drop"]["full_size"] = 9536
    assert any("m DROP: other rows" in note for note in note_lines(score_table(content)))


def test_an_unfinished_result_says_what_was_ordered_and_not_run():
    content = result_content(names=["gsm8k"]) | {"complete": False, "order": ["gsm8k", "drop"]}
    assert any("unfinished; ordered and not run: DROP" in note for note in note_lines(score_table(content)))


def test_contexts_that_were_cut_are_counted_task_by_task():
    content = result_content()
    content["tasks"]["drop"]["shortened"] = 12
    cut = [note for note in note_lines(score_table(content)) if "were cut" in note]
    assert cut == ["m DROP: contexts longer than the model's window, which were cut: 12"]
