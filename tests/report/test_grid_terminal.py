"""What a terminal of a given width shows: scores always, decoration where there is room, and what was left out."""

import io

from result_contents import result_content
from rich.console import Console

from orca_bench.report.grid import SHORTER_TEXTS, Grid, TextCell
from orca_bench.report.grid_terminal import to_rich
from orca_bench.report.notes import ALL_KINDS, Note, NotedNumber
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.result_tables import result_grids
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile

LONG_NAME = "org__a-very-long-name-of-a-fine-tune-with-many-parts-"


def terminal_lines(grid, width, **options):
    """The lines that a terminal of this width shows."""
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(to_rich(grid, **options))
    return console.file.getvalue().splitlines()


def a_result(tmp_path, name, **options):
    """A result without questions, of a model of this name."""
    content = result_content(protocol="leaderboard", **options)
    content["model"]["name"] = name
    return ResultFile(tmp_path / f"{abs(hash(name))}.json", name, migrate_result(Result.from_file_content(content)))


def grids(*files, **options):
    """The grids of these results beside the reported scores."""
    return result_grids(files, read_reported_scores(), **options)


def a_grid(**options):
    """A grid whose columns can be left out."""
    cells = [TextCell("a task"), TextCell("5"), TextCell("34.17 ± 4.35", shorter_texts=("34.2±4.4", "34.17"))]
    return Grid(["Task", "Shots", "model"], [cells], narrowing_steps=("Shots", SHORTER_TEXTS, SHORTER_TEXTS), **options)


def test_decoration_goes_before_errors_and_errors_before_scores():
    assert "Shots" in terminal_lines(a_grid(), 40)[0] and "left out" not in " ".join(terminal_lines(a_grid(), 40))
    middle, narrow = terminal_lines(a_grid(), 22), terminal_lines(a_grid(), 14)
    assert "34.17 ± 4.35" in middle[2] and "Shots" not in middle[0]
    assert "left out at 22" in " ".join(middle) and "Shots" in " ".join(middle)
    assert "34.17" in narrow[2] and "±" not in narrow[2]


def test_legends_and_notes_explain_only_what_is_shown():
    notes = [Note("of shots", column="Shots"), Note("of it", numbers=(NotedNumber("m", "mmlu"),))]
    legends = {"±": "± standard error"}
    assert "± standard error" in " ".join(terminal_lines(a_grid(title="t", legends=legends, notes=notes), 60))
    assert "• of shots" in terminal_lines(a_grid(notes=notes), 60)
    narrow = " ".join(terminal_lines(a_grid(title="t", legends=legends, notes=notes), 14))
    assert "standard" not in narrow and "of shots" not in narrow and "of it" not in narrow


def test_at_most_five_lines_stand_below_a_table_and_warnings_first():
    notes = [Note("careful", "warning"), *(Note(f"remark {i}") for i in range(9)), Note("a hash", "provenance")]
    lines = terminal_lines(a_grid(notes=notes), 60)[3:]
    assert lines[0] == "• careful" and len(lines) == 5 and lines[-1] == "… 6 more notes: --notes"
    all_lines = terminal_lines(a_grid(notes=notes), 60, kinds=ALL_KINDS, all_notes=True)
    assert "• a hash" in all_lines and "more note" not in " ".join(all_lines)


def test_notes_that_are_always_shown_stand_beside_the_five_lines():
    names = ("mmlu", "gsm8k", "drop", "winogrande", "hellaswag", "arc_challenge", "truthfulqa_mc")
    notes = [Note(f"overlap of {name}", "warning", is_always_shown=True) for name in names]
    notes += [Note(f"remark {i}") for i in range(9)]
    lines = terminal_lines(a_grid(notes=notes), 60)[3:]
    assert lines[:7] == [f"• overlap of {name}" for name in names]
    assert lines[7:] == [*(f"• remark {i}" for i in range(4)), "… 5 more notes: --notes"]


def test_a_note_is_wrapped_below_its_own_text():
    lines = terminal_lines(a_grid(notes=[Note("a sentence that is longer than the line is wide")]), 30)
    assert lines[3].startswith("• a sentence") and lines[4].startswith("  ") and max(map(len, lines)) <= 30


def test_a_badge_stands_on_its_number_and_before_its_note():
    number = NotedNumber("m", "mmlu")
    grid = Grid(["Task", "m"], [[TextCell("MMLU"), TextCell("1.00", number=number)]], [Note("why", numbers=(number,))])
    lines = terminal_lines(grid, 60)
    assert lines[2].rstrip().endswith("1.00 ᵃ") and lines[3] == "a why"


def test_one_task_is_one_line_without_a_mean(tmp_path):
    lines = terminal_lines(grids(a_result(tmp_path, "m", names=["mmlu"]))[0], 100)
    text = "\n".join(lines)
    assert lines[0].startswith("m scores 50.0 % on MMLU") and "Mean" not in text and "GSM8K" not in text


def test_two_tasks_have_a_mean_of_two_tasks(tmp_path):
    grid = grids(a_result(tmp_path, "m", names=["mmlu", "gsm8k"]))[0]
    assert [row[0].text for row in grid.rows] == ["MMLU", "GSM8K", "Mean of 2 tasks"]
    assert grid.rule_after_row == 1 and grid.rows[-1][grid.headings.index("Reported")].text == "17.71"
    everything = grids(a_result(tmp_path, "m", names=["mmlu", "gsm8k"]), all_tasks=True)[0]
    assert len(everything.rows) == 8 and everything.rows[0][-2].text == "–"


def test_a_model_that_answered_nothing_has_an_empty_table_and_a_sentence(tmp_path):
    text = "\n".join(terminal_lines(grids(a_result(tmp_path, "m", names=[]))[0], 80))
    assert "m has no finished task" in text and "MMLU" not in text


def test_twenty_models_with_long_names_keep_every_score(tmp_path):
    files = [a_result(tmp_path, f"{LONG_NAME}{i}", value=0.31 + i / 100) for i in range(20)]
    for layout in ("models", "tasks"):
        for width in (80, 160):
            lines = terminal_lines(grids(*files, layout=layout)[0], width)
            assert max(map(len, lines)) <= width
            assert all(" ".join(lines).count(f"{31 + i}.0") >= 7 for i in range(20))


def test_right_to_left_names_are_isolated_and_control_characters_are_not_printed(tmp_path):
    names = ["נועה-מודל", "نموذج عربي", "a\x1b[31mred\u202eevil"]
    text = "\n".join(terminal_lines(grids(*(a_result(tmp_path, name) for name in names))[0], 100))
    assert "\u2068נועה-מודל\u2069" in text and "\u2068نموذج عربي\u2069" in text
    assert "\x1b" not in text and "\u202e" not in text and "a\ufffd[31mred\ufffdevil" in text


def test_suites_and_protocols_have_tables_of_their_own(tmp_path):
    content = result_content(comparable=False, protocol="leaderboard")
    mini = ResultFile(tmp_path / "mini.json", "mini", migrate_result(Result.from_file_content(content)))
    parts = grids(mini, a_result(tmp_path, "m"), a_result(tmp_path, "o"), layout="models")
    assert [grid.title for grid in parts] == [
        "open-llm-leaderboard-v1, protocol leaderboard: percent",
        "mini, protocol leaderboard: percent",
    ]
    assert [row[0].text for row in parts[0].rows] == ["m", "o", "orca_mini_13b (reported)"]
    assert [row[0].text for row in parts[1].rows] == ["m"]  # reported scores are not ranked beside the mini suite
