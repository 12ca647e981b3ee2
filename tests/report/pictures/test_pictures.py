"""The pictures of some results: which there are, what stands in them, that nothing is cut, and that bytes are the same again."""

import itertools
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from picture_checks import check_layout, model_styles, texts
from synthetic_results import random_result

from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.html_page import page_pieces
from orca_bench.report.model_colors import name_styles
from orca_bench.report.page.page_groups import group_results
from orca_bench.report.page.score_lines import score_lines
from orca_bench.report.pictures import build_pictures, build_step_pictures, write_picture
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.stats.estimates import wilson_interval
from orca_bench.suite import ALL_TASKS

HEBREW, ARABIC = "מודל-קטן", "نموذج صغير (٣)"
HOSTILE = 'x"><script>alert(1)</script>\x1b[31m \u202egpj $\\frac{1}{2}$'


def draw_pictures(result_files, reported_scores, folder):
    return [write_picture(picture, folder) for picture in build_pictures(result_files, reported_scores)]


def kinds(pictures):
    return [picture.kind for picture in pictures]


def test_one_result_has_scores_and_subjects_and_two_have_differences_first(tmp_path):
    one, two = (random_result(tmp_path, label, 0.4, seed=seed) for seed, label in enumerate(("one", "two")))
    assert kinds(build_pictures([one])) == ["scores", "subjects"]
    assert kinds(build_pictures([one, two])) == ["differences", "scores", "subjects"]
    assert build_pictures([]) == []


def of_another_task(result_file, is_alone):
    """The result with a task that the suite does not have, beside its own or alone."""
    tasks = {"elsewhere": result_file.result.tasks["mmlu"]}
    tasks |= {} if is_alone else result_file.result.tasks
    result = result_file.result.model_copy(update={"tasks": tasks})
    result.forget_file_content()
    return replace(result_file, result=result, questions_by_task={})


@pytest.mark.parametrize("is_other_alone", [False, True])
def test_a_task_that_the_suite_does_not_have_is_in_no_picture(tmp_path, is_other_alone):
    results = [random_result(tmp_path, f"m{step}", 0.4, tasks=["mmlu"], run="m", step=step) for step in (1, 2)]
    others = [of_another_task(results[0], is_other_alone), of_another_task(results[1], True)]
    assert kinds(build_pictures(others)) == ([] if is_other_alone else ["scores", "subjects"])
    assert len(build_step_pictures(others)) == (0 if is_other_alone else 1)
    [group] = group_results(others)
    assert len(group.part.styled_results) == (0 if is_other_alone else 1)
    page = "".join(page_pieces("title", others, None, [None, None]))
    assert ("<figure" in page) is not is_other_alone and "page-end" in page


def test_picture_page_and_sentence_give_a_score_of_clustered_questions_the_same_interval(tmp_path):
    one = random_result(tmp_path, "one", 0.0, tasks=["drop"])
    one.result.tasks["drop"].interval = None
    low, high = (100 * bound for bound in wilson_interval(0.0, 40))
    [score] = [line for line in score_lines(group_results([one])[0], None, None) if line.name == "drop"][0].scores
    assert score.interval == (low, high)
    assert f"95 percent interval {low:.1f} to {high:.1f}" in build_pictures([one])[0].description
    assert f"between {low:.1f} and {high:.1f}" in scores_sentence([one])


def test_title_models_suite_protocol_and_n_stand_in_every_picture(tmp_path):
    pair = [random_result(tmp_path, label, 0.4, seed=seed, limit=80) for seed, label in enumerate(("one", "two"))]
    for picture in build_pictures(pair, read_reported_scores()):
        n = "80 questions" if picture.kind == "subjects" else "560 questions"
        for drawing in (picture.wide, picture.narrow):
            words = " ".join(texts(drawing))
            assert {"one", "two"} <= set(re.findall(r"\w+", words))
            assert picture.title in words and "suite s" in words and "protocol leaderboard v1" in words
            assert f"{n} (at most 80 of a task or subject)" in words
            assert "95 %" in words
            check_layout(drawing)


def test_results_of_several_protocols_and_suites_have_a_picture_each_and_keep_their_colours(tmp_path):
    results = [
        random_result(tmp_path, model, 0.5, file=f"{model}-{protocol}.json", protocol=protocol, tasks=["drop"])
        for protocol in ("leaderboard", "orca")
        for model in ("a", "b")
    ]
    other_suite = random_result(tmp_path, "a", 0.5, file="other.json", tasks=["drop"])
    other_suite.result.suite.name = "mini/../x"
    pictures = build_pictures(results)
    names = [picture.name for picture in pictures]
    assert names == ["differences-leaderboard", "scores-leaderboard", "differences-orca", "scores-orca"]
    styles = name_styles(["a", "b"])
    assert all(model_styles(picture.wide) == {*styles.values()} for picture in pictures)
    parted = [picture for picture in build_pictures([*results, other_suite]) if picture.kind == "scores"]
    assert [picture.name for picture in parted] == [
        "scores-leaderboard-s",
        "scores-orca-s",
        "scores-leaderboard-mini-..-x",
    ]
    assert model_styles(parted[2].wide) == {styles["a"]}
    assert (
        len({*map(str, itertools.chain(*((f.png, f.svg) for f in draw_pictures(results, None, tmp_path / "p"))))}) == 8
    )


def test_a_picture_is_a_title_and_its_numbers_in_words_for_who_does_not_see_it(tmp_path):
    pair = [random_result(tmp_path, label, 0.4, seed=seed) for seed, label in enumerate(("one", "two"))]
    differences, scores, subjects = build_pictures(pair, read_reported_scores())
    drop = pair[0].result.tasks["drop"]
    low, high = (100 * end for end in drop.interval)
    assert f"one {100 * drop.value:.2f} percent, 95 percent interval {low:.1f} to {high:.1f}" in scores.description
    assert "reported, orca_mini_13b 11.23 percent" in scores.description
    assert all(task.title in scores.description and task.title in differences.description for task in ALL_TASKS)
    assert re.search(
        r"DROP: [+-]\d+\.\d\d points, 95 percent interval [+-]\d+\.\d to [+-]\d+\.\d, no differ",
        differences.description,
    )
    assert (
        "subject" in subjects.description
        and f"mean {100 * pair[0].result.tasks['mmlu'].value:.2f}" in subjects.description
    )


def test_the_same_results_give_the_same_bytes(tmp_path):
    pair = [random_result(tmp_path, label, 0.4, seed=seed) for seed, label in enumerate(("one", "two"))]
    first = draw_pictures(pair, read_reported_scores(), tmp_path / "p")
    again = draw_pictures(pair, read_reported_scores(), tmp_path / "q")
    assert [files.svg.read_bytes() for files in first] == [files.svg.read_bytes() for files in again]
    assert [files.png.read_bytes() for files in first] == [files.png.read_bytes() for files in again]
    assert [files.png.name for files in first] == ["differences.png", "scores.png", "mmlu.png"]


def test_one_task_of_one_question_and_a_model_that_answered_nothing_are_drawn(tmp_path):
    for tasks in (["winogrande"], ["mmlu"], ["gsm8k", "drop"]):
        results = [random_result(tmp_path, label, share, tasks=tasks) for label, share in (("none", 0.0), ("all", 1.0))]
        for picture in build_pictures(results, read_reported_scores()):
            check_layout(picture.wide)
            check_layout(picture.narrow)
        write_picture(build_pictures(results)[0], tmp_path / "p")
    from synthetic_results import listed_result

    one = listed_result(tmp_path / "single.json", "single", [("winogrande", 0, 1.0, 0, [])])
    (picture,) = build_pictures([one])
    assert "1 question" in texts(picture.wide) or any("1 question" in text for text in texts(picture.wide))
    check_layout(picture.wide)


@pytest.mark.parametrize("count", [3, 5, 20])
def test_many_models_with_long_names_are_readable_and_nothing_is_cut(tmp_path, count):
    names = [
        f"organisation-{n:02}/a-very-long-model-name-with-many-words-and-no-end-{'x' * n * 2}" for n in range(count)
    ]
    results = [random_result(tmp_path, name, n / count, seed=n, file=f"{n}.json") for n, name in enumerate(names)]
    scores, subjects = build_pictures(results, read_reported_scores())
    for picture in (scores, subjects):
        for drawing in (picture.wide, picture.narrow):
            check_layout(drawing)
            joined = "".join(texts(drawing)).replace(" ", "")
            assert all(name in joined for name in names)
    assert f"{count} models" in scores.title
    assert len({(style.color, style.marker) for style in model_styles(scores.wide)}) == count


@pytest.mark.filterwarnings("error")
def test_names_in_right_to_left_script_and_hostile_names_stay_text(tmp_path):
    pair = [
        random_result(tmp_path, name, 0.5, seed=n, file=f"{n}.json", tasks=["drop", "mmlu"])
        for n, name in enumerate((f"{HEBREW} 7B", HOSTILE))
    ]
    third = random_result(tmp_path, ARABIC, 0.5, file="2.json", tasks=["drop"])
    for picture in [*build_pictures(pair), *build_pictures([*pair, third])]:
        check_layout(picture.wide)
        files = write_picture(picture, tmp_path / "p")
        for xml in (files.svg.read_text(), f"<x>{picture.html('p')}</x>"):
            root = ElementTree.fromstring(xml)
            assert not [node for node in root.iter() if node.tag.rpartition("}")[2] == "script"]
            joined = "".join("".join(root.itertext()).split())
            assert HEBREW in joined and "<script>alert(1)</script>" in joined
            assert not {"\x1b", "\u202e"} & set(joined)
            # The direction of a name ends with the name.
            assert joined.count("\u2068") == joined.count("\u2069") > 0
    assert isolate("plain") == "plain" and isolate(HEBREW) == f"\u2068{HEBREW}\u2069"


def test_reported_scores_stand_only_where_they_may_be_compared(tmp_path):
    other_rows = random_result(tmp_path, "m", 0.5, rows="other")
    words = texts(build_pictures([other_rows], read_reported_scores())[0].wide)
    assert "chance" in words and not any("reported" in text for text in words)


def test_reported_scores_beside_another_protocol_name_theirs(tmp_path):
    words = {}
    for protocol in ("leaderboard", "orca"):
        result = random_result(tmp_path, "m", 0.5, file=f"{protocol}.json", protocol=protocol, tasks=["drop"])
        words[protocol] = texts(build_pictures([result], read_reported_scores())[0].wide)
    assert "reported, orca_mini_13b" in words["leaderboard"]
    assert "reported, orca_mini_13b (protocol leaderboard)" in words["orca"]


def test_results_without_their_questions_are_compared_by_their_scores_as_on_the_page(tmp_path):
    pair = [random_result(tmp_path, label, share) for label, share in (("a", 0.3), ("b", 0.6))]
    without = [replace(pair[0], questions_by_task={}), pair[1]]
    differences, *others = build_pictures(without)
    assert differences.kind == "differences" and kinds(others) == ["scores", "subjects"]
    assert "not by question" in " ".join(texts(differences.wide))
    intervals = re.findall(r"interval [+-][\d.]+ to [+-][\d.]+", differences.description)
    page = "".join(page_pieces("title", without, None, [None, None]))
    assert len(intervals) == 9 and all(interval in page for interval in intervals)
    other_tasks = random_result(tmp_path, "c", 0.5, tasks=["drop"])
    only_mmlu = random_result(tmp_path, "d", 0.5, tasks=["mmlu"])
    assert kinds(build_pictures([other_tasks, only_mmlu])) == ["scores", "subjects"]
    assert json.dumps(kinds(build_step_pictures(pair, [1, 2]))) == '["steps"]'


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_subject_whose_value_lies_outside_its_interval_is_drawn(tmp_path, value):
    result = random_result(tmp_path, "edited", 0.5, tasks=["mmlu"])
    subject_result = next(iter(result.result.tasks["mmlu"].subjects.values()))
    subject_result.value, subject_result.interval = value, (0.4, 0.6)
    for files in draw_pictures([result], None, tmp_path / "p"):
        assert files.png.is_file()
