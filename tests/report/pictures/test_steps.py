"""Scores over training steps: where the steps come from, and that all panels can be compared."""

import pytest
from picture_checks import check_layout, texts
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.report.pictures import build_pictures, build_step_pictures
from orca_bench.report.pictures.drawing import Line, Role
from orca_bench.suite import ALL_TASKS


def checkpoint(folder, step, protocol="orca", run="m", **heading):
    return random_result(
        folder, f"{run}-{step}", 0.2 + step / 1000, file=f"{run}-{protocol}-{step}.json",
        protocol=protocol, run=run, step=step, **heading,
    )  # fmt: skip


def test_results_that_say_their_run_and_step_are_drawn_a_picture_for_each_protocol(tmp_path):
    results = [checkpoint(tmp_path, step, protocol) for protocol in ("orca", "leaderboard") for step in (200, 100, 300)]
    steps = [picture for picture in build_pictures(results) if picture.kind == "steps"]
    assert [picture.name for picture in steps] == ["steps-orca", "steps-leaderboard"]
    for drawing in (steps[0].wide, steps[0].narrow):
        check_layout(drawing)
        assert texts(drawing).count("300") == len(ALL_TASKS) and "m" in texts(drawing)
        assert any("all panels have the same axes" in text for text in texts(drawing)) or drawing is steps[0].narrow


def test_all_panels_have_the_same_axes(tmp_path):
    picture = build_step_pictures([checkpoint(tmp_path, step) for step in (100, 200)])[0]
    grids = [
        [line for line in group.shapes if isinstance(line, Line) and line.paint == Role.GRID]
        for group in picture.wide.shapes
        if getattr(group, "task", None)
    ]
    widths = {line.positions[1][0] - line.positions[0][0] for lines in grids for line in lines}
    assert len(grids) == len(ALL_TASKS) and len({len(lines) for lines in grids}) == 1
    assert max(widths) - min(widths) < 0.01


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_no_cell_is_empty(tmp_path, count, layout):
    names = [task.name for task in ALL_TASKS[:count]]
    picture = build_step_pictures([checkpoint(tmp_path, step, tasks=names) for step in (1, 2000)])[0]
    drawing = getattr(picture, layout)
    check_layout(drawing)
    tops = [group.shapes[0].top for group in drawing.shapes if getattr(group, "task", None)]
    rows = [tops.count(top) for top in sorted(set(tops))]
    assert len(rows) == 1 or rows[-1] >= rows[0] - 1
    legend = next(shape for shape in drawing.all_shapes() if getattr(shape, "text", "") == "m")
    assert (legend.y > tops[-1]) == (rows[-1] < rows[0])  # the last cell has the legend


def test_many_steps_have_as_many_numbers_as_have_room_and_the_last_one(tmp_path):
    results = [checkpoint(tmp_path, 1000 * step, tasks=["drop", "gsm8k"]) for step in range(1, 21)]
    for drawing in (build_step_pictures(results)[0].wide, build_step_pictures(results)[0].narrow):
        check_layout(drawing)
        assert "20,000" in texts(drawing) and "1,000" in texts(drawing)


def test_several_runs_are_a_line_each(tmp_path):
    results = [checkpoint(tmp_path, step, run=run) for run in ("a", "b") for step in (1, 2)]
    picture = build_step_pictures(results)[0]
    assert picture.title == "a and b: scores over training steps"
    check_layout(picture.wide)


def test_a_run_with_two_results_of_one_step_is_left_out_and_refused_where_it_is_wanted(tmp_path):
    results = [checkpoint(tmp_path, step) for step in (100, 200)]
    shorter = random_result(tmp_path, "m", 0.5, file="limit.json", protocol="orca", run="m", step=100, limit=80)
    assert "steps" in [picture.kind for picture in build_pictures(results)]
    assert "steps" not in [picture.kind for picture in build_pictures([*results, shorter])]
    assert "steps" not in [picture.kind for picture in build_pictures(results[:1])]
    with pytest.raises(UserError, match="two results of step 100"):
        build_step_pictures([*results, shorter])


def test_steps_come_from_the_names_or_from_the_caller(tmp_path):
    named = [random_result(tmp_path, f"m{n}", 0.2 * n, path=f"runs/x/step-{100 * n}") for n in (2, 1, 3)]
    assert {"100", "200", "300"} <= set(texts(build_step_pictures(named)[0].wide))
    bare = [random_result(tmp_path, label, 0.5) for label in ("u", "v")]
    with pytest.raises(UserError, match="no step in the name"):
        build_step_pictures(bare)
    with pytest.raises(UserError, match="1 steps for 2 results"):
        build_step_pictures(bare, [1])
    assert build_step_pictures(bare, [1, 2])[0].kind == "steps"
