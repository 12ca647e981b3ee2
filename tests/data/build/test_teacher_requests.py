"""The requests of a data recipe: their order, their ids, their system messages, and which rows are asked."""

import json
from collections import Counter

import pytest
from data_recipes import ALPACA_ROWS, DOLLY_ROWS, write_build_inputs

from orca_bench.data.build.data_recipe_file import read_data_recipe
from orca_bench.data.build.teacher_requests import RecipeRequests, hash_request
from orca_bench.errors import UserError
from orca_bench.system_messages import SYSTEM_MESSAGES


def requests_of(folder, *overrides):
    return RecipeRequests(read_data_recipe(folder / "recipe.yaml", overrides))


@pytest.fixture
def folder(tmp_path):
    write_build_inputs(tmp_path)
    return tmp_path


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_requests_have_the_order_of_the_sources_and_rows(folder):
    requests = list(requests_of(folder))
    assert [request.row_id for request in requests] == [
        *(f"alpaca-{number}" for number in range(1, len(ALPACA_ROWS) + 1)),
        *(f"dolly-{number}" for number in range(1, len(DOLLY_ROWS) + 1)),
    ]
    third = requests[2]
    assert third.messages == [
        {"role": "system", "content": SYSTEM_MESSAGES[third.system_id]},
        {"role": "user", "content": "Name 3 rivers.\n\nof Europe"},
    ]
    assert 2 <= third.system_id <= 16 and third.input == "of Europe"


def test_an_iteration_can_be_repeated_and_counts_what_it_gives(folder):
    requests = requests_of(folder)
    counts = requests.count()
    assert list(requests) == list(requests)
    assert counts.requests_by_source == {"alpaca": 12, "dolly": 8} and counts.request_count == 20
    assert counts.characters_by_source.total() == sum(request.character_count for request in requests)
    assert counts.ids_sha256 == requests_of(folder).count().ids_sha256


def test_an_id_depends_on_messages_model_parameters_and_repeat_alone():
    messages = [{"role": "user", "content": "é\ud800"}]
    first_id = hash_request(messages, "m", {"a": 1, "b": 2})
    assert first_id == hash_request(messages, "m", {"b": 2, "a": 1})
    other_ids = {
        hash_request([{"role": "user", "content": "e"}], "m", {"a": 1, "b": 2}),
        hash_request([{"role": "system", "content": "é\ud800"}], "m", {"a": 1, "b": 2}),
        hash_request(messages, "n", {"a": 1, "b": 2}),
        hash_request(messages, "m", {"a": 1, "b": 3}),
        hash_request(messages, "m", {"a": 1, "b": 2}, 1),
    }
    assert len(other_ids | {first_id}) == 6


def test_equal_rows_have_ids_of_their_own(folder):
    write_rows(folder / "dolly.jsonl", [DOLLY_ROWS[0]] * 5)
    requests = requests_of(folder)
    dolly = [request for request in requests if request.source == "dolly"]
    assert len(dolly) == len({request.request_id for request in dolly}) == 5
    assert list(requests) == list(requests)


def test_neither_order_nor_other_rows_change_a_rows_message_or_id(folder):
    before = {request.instruction: (request.request_id, request.system_id) for request in requests_of(folder)}
    write_rows(folder / "dolly.jsonl", [*reversed(DOLLY_ROWS), {"instruction": "New?", "context": "", "response": "x"}])
    after = {request.instruction: (request.request_id, request.system_id) for request in requests_of(folder)}
    assert {text: after[text] for text in before} == before


def test_a_sample_is_part_of_a_larger_one_and_keeps_messages(folder):
    all_requests = {request.request_id for request in requests_of(folder)}
    numbers = [r.row_number for r in requests_of(folder, "sources.alpaca.sample=4") if r.source == "alpaca"]
    assert numbers == [3, 4, 6, 12], "other rows than those of earlier builds"
    four = {r.request_id for r in requests_of(folder, "sources.alpaca.sample=4") if r.source == "alpaca"}
    seven = {r.request_id for r in requests_of(folder, "sources.alpaca.sample=7") if r.source == "alpaca"}
    assert len(four) == 4 and len(seven) == 7 and four < seven < all_requests
    assert {r.request_id for r in requests_of(folder, "sources.alpaca.sample=4", "seed=4")} != four


def test_of_each_task_so_many_rows_are_asked(folder):
    rows = [{"instruction": f"{task} {n}", "output": "x", "task": task} for n in range(20) for task in ("a", "b", "c")]
    write_rows(folder / "dolly.jsonl", rows[:-19])  # a: 14, b: 14, c: 13
    words = ["sources.dolly.task_column=task", "sources.dolly.most_per_task=5"]
    tasks = Counter(r.instruction[0] for r in requests_of(folder, *words) if r.source == "dolly")
    assert tasks == {"a": 5, "b": 5, "c": 5}
    both = [r.row_number for r in requests_of(folder, *words, "sources.dolly.sample=7") if r.source == "dolly"]
    assert both == [2, 13, 15, 18, 24, 27, 34], "other rows than those of earlier builds"


def test_rows_are_taken_by_the_values_of_a_column(folder):
    rows = [
        {"inputs": f"q {n}", "targets": "x", "template_type": kind} for n in range(3) for kind in ("zs_opt", "fs_opt")
    ]
    write_rows(folder / "dolly.jsonl", rows)
    requests = requests_of(folder, "sources.dolly.where={template_type: [zs_opt]}", "sources.dolly.system_policy=cot")
    dolly = [request for request in requests if request.source == "dolly"]
    assert [request.row_number for request in dolly] == [1, 3, 5] and {r.system_id for r in dolly} <= {6, 11, 16}
    assert requests.sources[1].survey.filtered_count == 3
    with pytest.raises(
        UserError, match="no column 'template', which sources.dolly.where names; did you mean 'template_type'"
    ):
        list(requests_of(folder, "sources.dolly.where={template: [zs_opt]}"))
    with pytest.raises(UserError, match="no row of source 'dolly' passes its `where`"):
        list(requests_of(folder, "sources.dolly.where={template_type: [none]}"))


def test_a_rows_own_message_stays_and_a_list_of_ids_is_chosen_from(folder):
    rows = [
        {"instruction": "Own?", "output": "x", "system": "Be a pirate."},
        {"instruction": "Known?", "output": "x", "system": SYSTEM_MESSAGES[4]},
        {"instruction": "None?", "output": "x", "system": None},
        {"instruction": "Empty?", "output": "x", "system": " "},
    ]
    write_rows(folder / "dolly.jsonl", rows)
    dolly = [r for r in requests_of(folder, "sources.dolly.system_ids=[1]") if r.source == "dolly"]
    assert [(r.system_id, r.system) for r in dolly] == [
        (None, "Be a pirate."),
        (4, SYSTEM_MESSAGES[4]),
        (1, ""),
        (1, ""),
    ]
    assert dolly[2].messages == [{"role": "user", "content": "None?"}]


def test_a_row_without_a_reference_answer_is_asked_and_one_without_an_instruction_is_counted(folder):
    rows = [
        {"instruction": "Why?", "output": ""},
        {"instruction": "How?", "output": "<nooutput>"},
        {"instruction": " ", "output": "x"},
    ]
    write_rows(folder / "dolly.jsonl", rows)
    requests = requests_of(folder)
    assert [r.instruction for r in requests if r.source == "dolly"] == ["Why?", "How?"]
    survey = requests.sources[1].survey
    assert survey.left_out_by_reason == {"without an instruction": 1} and survey.row_count == 3
    assert survey.first_location_by_reason["without an instruction"].endswith("dolly.jsonl:3")


def test_columns_of_ones_own_need_no_answers(folder):
    write_rows(folder / "dolly.jsonl", [{"Instruction": "Add 2 and 2.", "Skill": "Math"}])
    requests = list(requests_of(folder, "sources.dolly.columns={instruction: Instruction}"))
    assert requests[-1].instruction == "Add 2 and 2."
    with pytest.raises(
        UserError, match="dolly.jsonl:1: columns Instruction, Skill are those of no known instruction set"
    ):
        list(requests_of(folder))


def test_a_bad_line_is_named(folder):
    with open(folder / "dolly.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"instruction": \n')
    with pytest.raises(UserError, match=r"dolly.jsonl:9: not JSON"):
        requests_of(folder).count()
    (folder / "dolly.jsonl").unlink()
    with pytest.raises(UserError, match="dolly.jsonl: no such file"):
        requests_of(folder)


def test_the_question_of_a_conversation_without_an_answer_is_asked(folder):
    turns = [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "So."},
    ]
    rows = [{"conversations": turns[1:2]}, {"conversations": turns[:2]}, {"conversations": turns[1:] * 2}]
    write_rows(folder / "dolly.jsonl", rows)
    requests = requests_of(folder)
    dolly = [request for request in requests if request.source == "dolly"]
    assert [(r.instruction, r.system == "Be kind.") for r in dolly] == [("Why?", False), ("Why?", True)]
    assert requests.sources[1].survey.left_out_by_reason == {"of several turns": 1}
    assert requests.sources[1].remarks() == [
        f"left out of dolly: 1 row of several turns; the first is {folder / 'dolly.jsonl'}:3"
    ]


def test_a_sample_that_is_larger_than_its_source_is_said(folder):
    requests = requests_of(folder, "sources.dolly.sample=500")
    requests.count()
    assert requests.sources[1].remarks() == ["dolly: a sample of 500, and there are only 8 rows"]


def test_a_column_that_the_recipe_names_and_a_row_lacks_is_named(folder):
    with pytest.raises(UserError, match="no column 'qq', which sources.dolly.columns names"):
        requests_of(folder, "sources.dolly.columns={instruction: qq}").count()
