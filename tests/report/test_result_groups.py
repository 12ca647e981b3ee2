"""Which results may stand in one ranking: the same in tables, sentences, pictures and pages."""

from pathlib import Path

import pytest
from result_contents import result_content

from orca_bench.report.conclusions import scores_sentence
from orca_bench.report.model_colors import result_styles
from orca_bench.report.page.page_groups import group_results
from orca_bench.report.pictures.parts import split_into_parts
from orca_bench.report.result_groups import group_by_setting, limit_text, protocol_titles, setting_text
from orca_bench.report.result_tables import result_grids
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.system_messages import SYSTEM_MESSAGES


def a_result(label, comparable=True, limit=None, **protocol):
    """A small result without questions, of a protocol with these values."""
    result = migrate_result(Result.from_file_content(result_content(comparable=comparable, limit=limit)))
    values = {"version": 2, "system": SYSTEM_MESSAGES[5]} | protocol
    return ResultFile(
        Path(f"{label}.json"), label, result.model_copy(update={"protocol": result.protocol.model_copy(update=values)})
    )


@pytest.mark.parametrize(
    "changed, title",
    [
        ({"system": "Be evil."}, "orca v2 (system message 'Be evil.')"),
        (
            {"system": "\x1b[31m" + "long " * 20},
            "orca v2 (system message '\ufffd[31mlong long long long long long long…')",
        ),
        ({"version": 1}, "orca v1"),
        ({"max_new_tokens": {"gsm8k": 9}}, "orca v2 (most new tokens gsm8k 9)"),
        ({"name": "plain"}, "plain v2"),
    ],
)
def test_results_of_protocols_that_say_something_else_are_ranked_nowhere(changed, title):
    files = [a_result("a"), a_result("b", **changed), a_result("c")]
    assert [[file.label for file in group] for group in group_by_setting(files)] == [["a", "c"], ["b"]]
    assert [[styled.result_file.label for styled in part.styled_results] for part in split_into_parts(files)] == [
        ["a", "c"],
        ["b"],
    ]
    page_groups = group_results(files)
    assert [group.indices for group in page_groups] == [[0, 2], [1]]
    assert len({group.protocol_name for group in page_groups}) == 2 and page_groups[1].protocol_name == title
    assert [part.protocol for part in split_into_parts(files)] == [group.protocol_name for group in page_groups]
    assert len({part.name_suffix for part in split_into_parts(files)}) == 2
    grids = result_grids(files, None)
    assert len({grid.title for grid in grids}) == 2 == len(grids)
    text = scores_sentence(files)
    assert "different protocols" in text and "highest" not in text and "better" not in text
    assert result_styles(files)[0] == result_styles(files)[1] != result_styles(files)[2]


def test_the_model_s_window_and_unknown_tasks_part_no_results():
    files = [a_result("a", max_length=2048), a_result("b", max_length=1024, max_new_tokens={"unknown": 5})]
    assert len(group_by_setting(files)) == 1


def test_suites_part_results_and_comparable_ones_stand_first():
    files = [a_result("a", comparable=False), a_result("b")]
    assert [group[0].label for group in group_by_setting(files)] == ["b", "a"]
    assert [group.indices for group in group_results(files)] == [[1], [0]]


def test_titles_tell_protocols_apart_and_say_no_more():
    one, other = a_result("a").result.protocol, a_result("b", system="").result.protocol
    assert protocol_titles([one, one]) == ["orca", "orca"]
    assert protocol_titles([one], with_versions=True) == ["orca v2"]
    assert protocol_titles([one, other]) == ["orca v2 (system message 5)", "orca v2 (no system message)"]


def test_the_page_names_the_results_that_have_a_limit():
    files = [a_result("part", limit=10), a_result("whole")]
    [group] = group_results(files)
    assert "first 10 or all questions of each task" in scores_sentence([*files, a_result("c")])
    [grid] = result_grids([*files, a_result("c")], None)
    assert [row[0].text.rpartition(" ")[2] for row in grid.rows] == ["whole", "c", "part"]
    assert (
        group.limit_text.endswith("first 10 questions of each task")
        and group.limit_text != "first 10 questions of each task"
    )
    [group] = group_results([a_result("a", limit=10), a_result("b", limit=10)])
    assert group.limit_text == "first 10 questions of each task"
    [group] = group_results([a_result("a", limit=1), a_result("b", limit=1)])
    assert group.limit_text == "first question of each task"
    assert limit_text([a_result("a", limit=1), a_result("b")]) == "first 1 or all questions of each task"


def test_a_group_is_the_same_whatever_the_order_of_results():
    files = [a_result("a"), a_result("b", version=1), a_result("c", version=1), a_result("d")]
    for order in (files, files[::-1]):
        assert sorted(sorted(file.label for file in group) for group in group_by_setting(order)) == [
            ["a", "d"],
            ["b", "c"],
        ]


def test_a_setting_has_closed_quotes_and_closed_direction_marks_where_it_is_cut():
    assert setting_text("a  b\nc", 40) == "'a b c'" and setting_text({"gsm8k": 9, "drop": 8}, 40) == "gsm8k 9, drop 8"
    text = setting_text("שלום " * 30, 40)
    assert text.endswith("…'") and text.count("\u2068") + text.count("\u2067") == text.count("\u2069") > 0
