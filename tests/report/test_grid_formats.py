"""The leaderboard's table and its forms, and the pictures: what is bold, what is escaped, what is drawn."""

import json
import re
from xml.etree import ElementTree

import pytest
from made_results import drawn

from orca_bench.errors import UserError
from orca_bench.evaluate.tasks import SUITE
from orca_bench.report import grid_formats, leaderboard, pictures, table

SAME = {task.name: 0.5 for task in SUITE}


def test_only_a_significantly_best_score_is_bold(tmp_path):
    good = drawn(tmp_path, "good", SAME | {"hellaswag": 0.95, "arc_challenge": 0.52}, seed=1)
    grid = leaderboard.build([drawn(tmp_path, "plain", SAME, seed=2), good, drawn(tmp_path, "third", SAME, seed=3)])
    bold = {
        (row[0].text, heading)
        for row in grid.rows
        for cell, heading in zip(row, grid.headings, strict=True)
        if cell.bold
    }
    assert bold == {("good", "HellaSwag")}


def test_a_reported_row_stands_among_the_others_and_can_be_best(tmp_path):
    weak = drawn(tmp_path, "weak", 0.1)
    grid = leaderboard.build([weak], [table.read_reported()])
    assert [(row[0].text, row[1].text) for row in grid.rows] == [("orca_mini_13b", "reported"), ("weak", "leaderboard")]
    bold = {
        (row[0].text, heading)
        for row in grid.rows
        for cell, heading in zip(row, grid.headings, strict=True)
        if cell.bold
    }
    assert {("orca_mini_13b", "HellaSwag"), ("orca_mini_13b", "MMLU")} <= bold
    assert ("orca_mini_13b", "Mean of 7") not in bold  # of whose error nothing is known


def test_a_result_of_few_tasks_stands_last_and_mini_is_not_compared_with_reported(tmp_path):
    part = drawn(tmp_path, "part", 0.9, tasks=["gsm8k"], comparable=False)
    grid = leaderboard.build([part, drawn(tmp_path, "whole", 0.2, comparable=False)], [table.read_reported()])
    assert [row[0].text for row in grid.rows] == ["orca_mini_13b", "whole", "part"]
    assert any("numbers of two kinds" in note for note in grid.notes)
    assert not any(cell.bold for row in grid.rows for cell in row if row[1].text == "reported")


def test_every_form_escapes_what_it_must():
    grid = grid_formats.Grid(
        ["a_b", "50 % | x"],
        [[grid_formats.Cell("<b>&", bold=True), grid_formats.Cell("1 ± 2 | \\")]],
        ["n & m"],
        "t <i>",
    )
    assert "**<b>&** | 1 ± 2 \\| \\ |" in grid_formats.to_markdown(grid) and "50 % \\| x" in grid_formats.to_markdown(
        grid
    )
    latex = grid_formats.to_latex(grid)
    assert r"a\_b & 50 \% | x" in latex and r"\textbf{$<$b$>$\&} & 1 $\pm$ 2 | \textbackslash{}" in latex
    assert ElementTree.fromstring(f"<x>{grid_formats.to_html(grid)}</x>").find("table/tbody/tr/td/b").text == "<b>&"


def test_the_command_takes_a_folder_and_every_form(tmp_path, command):
    for number, label in enumerate(("a", "b", "c")):
        drawn(tmp_path, label, 0.3 + 0.1 * number, seed=number)
    (tmp_path / "other.json").write_text("{}")
    shown = command("table", ".", env={"COLUMNS": "250"})
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.index("reported") and all(f"\n{label} " in shown.stdout for label in "abc")
    assert command("table", ".", "--layout", "tasks", "--format", "markdown").stdout.count("\n| ") >= 9
    assert r"\bottomrule" in command("table", ".", "--format", "latex").stdout
    assert len(json.loads(command("table", ".", "--format", "json").stdout)["lines"]) == 9
    assert "it has a line for each number" in command.refused("table", ".", "--layout", "models", "--format", "csv")
    (tmp_path / "empty").mkdir()
    assert "no result in this folder" in command.refused("table", "empty")


def test_a_narrow_terminal_leaves_errors_out_before_it_cuts_any_number(tmp_path, command):
    for protocol in ("orca", "leaderboard"):
        for share in (0.3, 0.6):
            drawn(tmp_path, f"a-model-at-{share}", share, file=f"{protocol}{share}.json", protocol=protocol)
    wide, middle, narrow = (command("table", ".", env={"COLUMNS": str(n)}).stdout for n in (200, 120, 80))
    assert "±" in wide.split("•")[0] and "reported" in wide
    for shown in (middle, narrow):
        rows = shown.split("•")[0]
        assert "±" not in rows and "…" not in rows and "42.06" in rows and "WinoG" in rows
        assert max(map(len, rows.splitlines())) <= 120
    assert max(len(line) for line in narrow.split("•")[0].splitlines()) <= 80
    assert "leaderboard" in middle.split("•")[0] and "leaderboard" in narrow.split("•")[0]  # still told apart


def texts(svg):
    return {
        "".join(node.itertext()).strip() for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    }


@pytest.mark.filterwarnings("error")  # matplotlib warns of a picture whose parts have no room
@pytest.mark.parametrize("name", ["one", "a_result_of_a_long_name_" * 3])
@pytest.mark.parametrize("task", ["winogrande", "mmlu"])
def test_a_picture_of_one_task_has_room_for_all_its_parts(tmp_path, task, name):
    result = drawn(tmp_path, name, 0.5, tasks=[task])
    assert all(file.is_file() for file in pictures.scores([result], table.read_reported(), tmp_path / "p"))


def test_pictures_have_every_task_every_result_and_the_same_bytes_again(tmp_path):
    pair = [drawn(tmp_path, "one", 0.4), drawn(tmp_path, "two", 1.0, seed=1)]
    png, svg = pictures.scores(pair, table.read_reported(), tmp_path / "p")
    said = texts(svg)
    assert {"one", "two", "chance", "reported, orca_mini_13b"} <= said
    assert all(any(title in text for text in said) for title in (task.title for task in SUITE))
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 20_000
    before = svg.read_bytes()
    assert pictures.scores(pair, table.read_reported(), tmp_path / "p")[1].read_bytes() == before
    # Told apart without colour: another marker for each result.
    paths = re.findall(r'<g id="line2d_\d+">\s*<defs>\s*<path id="(m[0-9a-f]+)"', before.decode())
    assert len(set(paths)) >= 4


def test_mmlu_is_sorted_and_has_its_mean(tmp_path):
    result = drawn(tmp_path, "m", 0.6)
    said = texts(pictures.mmlu(result, tmp_path)[1])
    assert {f"subject {n} (20)" for n in range(4)} <= said and any("mean of 4 subjects" in text for text in said)
    with pytest.raises(UserError, match="no MMLU subjects"):
        pictures.mmlu(drawn(tmp_path, "none", 0.5, tasks=["drop"]), tmp_path)


def test_steps_are_read_off_the_names_or_given(tmp_path):
    named = [drawn(tmp_path, f"m{n}", 0.2 * n, path=f"runs/x/step-{100 * n}") for n in (2, 1, 3)]
    assert "MMLU (acc)" in texts(pictures.steps(named, None, tmp_path)[1])
    bare = [drawn(tmp_path, label, 0.5) for label in ("u", "v")]
    with pytest.raises(UserError, match="no step in the name"):
        pictures.steps(bare, None, tmp_path)
    with pytest.raises(UserError, match="1 steps for 2 results"):
        pictures.steps(bare, [1], tmp_path)
    assert pictures.steps(bare, [1, 2], tmp_path)[0].is_file()


def test_results_that_know_their_run_and_step_are_drawn_over_steps_a_line_a_protocol(tmp_path):
    known = [
        drawn(tmp_path, "m", 0.2 + 0.1 * n, file=f"{protocol}{n}.json", protocol=protocol, run="m", step=100 * n)
        for n in (1, 2)
        for protocol in ("orca", "leaderboard")
    ]
    captions = {caption: files for caption, files in pictures.draw(known, table.read_reported(), tmp_path / "p")}
    assert list(captions) == ["scores by task", "MMLU by subject", "scores over the steps of the run"]
    assert {"orca", "leaderboard", "chance"} <= texts(captions["scores over the steps of the run"][1])
    assert len(pictures.draw(known[:2], None, tmp_path / "q")) == 2  # of one step
    shorter = drawn(tmp_path, "m", 0.5, file="limit.json", protocol="orca", run="m", step=100, limit=80)
    assert len(pictures.draw([*known, shorter], None, tmp_path / "q")) == 2  # which of two is step 100's?
    with pytest.raises(UserError, match="two results of step 100"):
        pictures.steps([known[0], known[0]], None, tmp_path)
