"""The pictures: what is drawn, that it has room, and that the same results give the same bytes."""

import re
from xml.etree import ElementTree

import pytest
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.report.pictures import draw_pictures, draw_scores, draw_steps, draw_subjects
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.suite import ALL_TASKS


def texts(svg):
    return {
        "".join(node.itertext()).strip() for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    }


@pytest.mark.filterwarnings("error:.*layout")  # matplotlib warns of a picture whose parts have no room
@pytest.mark.parametrize("name", ["one", "a_result_of_a_long_name_" * 3])
@pytest.mark.parametrize("task", ["winogrande", "mmlu"])
def test_a_picture_of_one_task_has_room_for_all_its_parts(tmp_path, task, name):
    result = random_result(tmp_path, name, 0.5, tasks=[task])
    picture = draw_scores([result], read_reported_scores(), tmp_path / "p")
    assert picture.png.is_file() and picture.svg.is_file()


def test_pictures_have_every_task_every_result_and_the_same_bytes_again(tmp_path):
    pair = [random_result(tmp_path, "one", 0.4), random_result(tmp_path, "two", 1.0, seed=1)]
    picture = draw_scores(pair, read_reported_scores(), tmp_path / "p")
    png, svg, words = picture.png, picture.svg, texts(picture.svg)
    assert {"one", "two", "chance", "reported, orca_mini_13b"} <= words
    assert all(any(task.title in text for text in words) for task in ALL_TASKS)
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 20_000
    before = svg.read_bytes()
    assert draw_scores(pair, read_reported_scores(), tmp_path / "p").svg.read_bytes() == before
    # Told apart without colour: another marker for each result.
    paths = re.findall(r'<g id="line2d_\d+">\s*<defs>\s*<path id="(m[0-9a-f]+)"', before.decode())
    assert len(set(paths)) >= 4


def test_mmlu_is_sorted_and_has_its_mean(tmp_path):
    result = random_result(tmp_path, "m", 0.6)
    words = texts(draw_subjects(result, tmp_path).svg)
    assert {f"subject {n} (20)" for n in range(4)} <= words and any("mean of 4 subjects" in text for text in words)
    with pytest.raises(UserError, match="no MMLU subjects"):
        draw_subjects(random_result(tmp_path, "none", 0.5, tasks=["drop"]), tmp_path)


def test_steps_come_from_the_names_or_from_the_caller(tmp_path):
    named = [random_result(tmp_path, f"m{n}", 0.2 * n, path=f"runs/x/step-{100 * n}") for n in (2, 1, 3)]
    assert "MMLU (acc)" in texts(draw_steps(named, None, tmp_path).svg)
    bare = [random_result(tmp_path, label, 0.5) for label in ("u", "v")]
    with pytest.raises(UserError, match="no step in the name"):
        draw_steps(bare, None, tmp_path)
    with pytest.raises(UserError, match="1 steps for 2 results"):
        draw_steps(bare, [1], tmp_path)
    assert draw_steps(bare, [1, 2], tmp_path).png.is_file()


def test_results_that_know_their_run_and_step_are_drawn_over_steps_a_line_a_protocol(tmp_path):
    checkpoints = [
        random_result(
            tmp_path, "m", 0.2 + 0.1 * n, file=f"{protocol}{n}.json", protocol=protocol, run="m", step=100 * n
        )
        for n in (1, 2)
        for protocol in ("orca", "leaderboard")
    ]
    pictures = draw_pictures(checkpoints, read_reported_scores(), tmp_path / "p")
    assert [picture.caption for picture in pictures] == [
        "scores by task",
        "MMLU by subject",
        "scores over the steps of the run",
    ]
    assert {"orca", "leaderboard", "chance"} <= texts(pictures[2].svg)
    assert len(draw_pictures(checkpoints[:2], None, tmp_path / "q")) == 2  # of one step
    shorter = random_result(tmp_path, "m", 0.5, file="limit.json", protocol="orca", run="m", step=100, limit=80)
    assert len(draw_pictures([*checkpoints, shorter], None, tmp_path / "q")) == 2  # which of two is step 100's?
    with pytest.raises(UserError, match="two results of step 100"):
        draw_steps([checkpoints[0], checkpoints[0]], None, tmp_path)


def test_the_legend_names_reported_scores_only_where_some_are_drawn(tmp_path):
    other_rows = random_result(tmp_path, "m", 0.5, rows="other")
    words = texts(draw_scores([other_rows], read_reported_scores(), tmp_path).svg)
    assert "chance" in words and not any("reported" in text for text in words)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_subject_whose_value_lies_outside_its_interval_is_drawn(tmp_path, value):
    result = random_result(tmp_path, "edited", 0.5, tasks=["mmlu"])
    subject_result = next(iter(result.result.tasks["mmlu"].subjects.values()))
    subject_result.value, subject_result.interval = value, (0.4, 0.6)
    assert draw_subjects(result, tmp_path / "p").png.is_file()
