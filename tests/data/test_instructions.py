"""Instruction sets are read in the columns and the files that their authors publish, and their own system messages stay."""

import gzip
import json
from collections import Counter

import pytest
from containers import CONTAINERS, PACKINGS, TABLES
from published_instructions import DRAWN, FIVE, OWN, PUBLISHED

from orca_bench import row_texts
from orca_bench.data import column_shapes, instructions
from orca_bench.data.conversion import convert_to_records
from orca_bench.errors import UserError
from orca_bench.system_messages import SYSTEM_MESSAGES


def converted(tmp_path, rows, **options):
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = convert_to_records([path], tmp_path / "out.jsonl", **options)
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()], report


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("container", [*CONTAINERS, *TABLES])
@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_shape_is_read_from_every_container_and_compression(tmp_path, name, container, packing):
    rows, texts, system = PUBLISHED[name]
    path = tmp_path / ("set.csv" if container in TABLES else "set")
    path.write_bytes(PACKINGS[packing]((CONTAINERS | TABLES)[container](rows)))
    report = convert_to_records([path], tmp_path / "out.jsonl")
    record = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (record["instruction"], record["input"], record["response"]) == texts
    counts = {DRAWN: report.assigned_system_count, OWN: report.row_system_count, FIVE: report.default_system_count}
    assert counts == {kind: 2 if kind == system else 0 for kind in counts}
    if system == OWN:
        assert record["system"] == "Explain." and record["system_id"] is None
    elif system == FIVE:
        assert record["system"] == SYSTEM_MESSAGES[5] and record["system_id"] == 5
    else:
        assert record["system"] == SYSTEM_MESSAGES[record["system_id"]]


def test_records_pass_as_they_are(tmp_path):
    rows = [
        {
            "id": f"x-{n}",
            "source": "mine",
            "teacher": "gpt",
            "system_id": 7,
            "system": "S",
            "instruction": "I",
            "input": "None",
            "response": "R",
            "temperature": 0.7,
        }
        for n in range(3)
    ]
    assert converted(tmp_path, rows)[0] == rows
    again = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert again == rows[0]


def test_a_message_of_the_paper_is_known_by_its_id_and_an_empty_one_stays_empty(tmp_path):
    rows = [
        {"system": SYSTEM_MESSAGES[7], "instruction": "a", "output": "b"},
        {"system": "", "instruction": "c", "output": "d"},
        {"system": None, "instruction": "e", "output": "f"},
    ]
    records, report = converted(tmp_path, rows)
    assert [record["system_id"] for record in records[:2]] == [7, 1]
    assert (report.row_system_count, report.empty_system_count, report.assigned_system_count) == (2, 1, 1)


def test_the_draw_depends_on_seed_and_texts_and_neither_on_order_nor_on_selection(tmp_path):
    rows = [{"instruction": f"Do {n}", "output": f"done {n}"} for n in range(300)]
    system_ids = {r["instruction"]: r["system_id"] for r in converted(tmp_path, rows)[0]}
    assert set(system_ids.values()) == set(range(2, 17))
    part = {r["instruction"]: r["system_id"] for r in converted(tmp_path, rows[::-3])[0]}
    assert all(system_ids[instruction] == system_id for instruction, system_id in part.items())
    other = {r["instruction"]: r["system_id"] for r in converted(tmp_path, rows, seed=1)[0]}
    assert 0 < sum(system_ids[i] == other[i] for i in system_ids) < 60
    chosen = Counter(r["system_id"] for r in converted(tmp_path, rows, assigned_system_ids=[5, 7])[0])
    assert set(chosen) == {5, 7} and 110 < chosen[5] < 190


def test_chosen_messages_are_drawn_for_ones_own_rows_too_but_never_replace_a_rows_own(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b", "system": "S"}]
    assert [r["system"] for r in converted(tmp_path, rows, assigned_system_ids=[9])[0]] == [SYSTEM_MESSAGES[9], "S"]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (["user", "assistant", "user", "assistant"], "of several turns"),
        (["user", "assistant", "user"], "of several turns"),
        (["user"], "without an answer"),
        (["system", "user"], "without an answer"),
        (["assistant", "user"], "that begin with the answer"),
        (["user", "tool", "assistant"], "with a message of 'tool'"),
        (["user", "system", "assistant"], "with a system message between the turns"),
        (["system", "system", "user", "assistant"], "with a system message between the turns"),
        ([], "without messages"),
    ],
)
def test_conversations_that_are_no_exchange_are_left_out_by_name(tmp_path, messages, reason):
    good = PUBLISHED["messages"][0][0]
    row = {"messages": [{"role": role, "content": "x"} for role in messages]}
    records, report = converted(tmp_path, [good, row, row])
    assert len(records) == 1 and report.left_out_count_by_reason == {reason: 2}
    assert report.first_location_by_reason == {reason: f"{tmp_path / 'set.jsonl'}:2"}
    with pytest.raises(UserError, match=f"set.jsonl:2: --strict allows no rows {reason}"):
        converted(tmp_path, [good, row], refuses_incomplete_rows=True)
    with pytest.raises(UserError, match=f"no record is left: 1 row {reason}"):
        converted(tmp_path, [row])


def test_contents_of_messages_in_parts_are_joined_and_others_left_out(tmp_path):
    def row(content):
        return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}]}

    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    records, report = converted(tmp_path, [row(texts), row([*texts, {"type": "image_url"}]), row(None)])
    assert [r["instruction"] for r in records] == ["ab"]
    assert report.left_out_count_by_reason == {
        "with content that is no text": 1,
        "without an instruction": 1,
    }


def test_prompt_and_completion_may_be_messages(tmp_path):
    row = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}
    assert converted(tmp_path, [row])[0][0]["response"] == "a"


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path):
    rows = [
        {"question": "q", "answer": "2", "chain_of_thought": "c"},
        {"question": "q", "answer": "", "chain_of_thought": "c"},
        {"question": "q", "answer": None, "chain_of_thought": "c"},
        {"question": " ", "answer": "2", "chain_of_thought": "c"},
        {"question": "q", "answer": "2", "chain_of_thought": None},
    ]
    records, report = converted(tmp_path, rows)
    assert [r["response"] for r in records] == ["c\nThe answer is 2", "The answer is 2"]
    assert report.left_out_count_by_reason == {"without an answer": 2, "without an instruction": 1}


def test_numbers_become_texts_and_other_types_are_refused(tmp_path):
    for value, text in ((18, "18"), (18.0, "18"), (0.5, "0.5"), (-3, "-3")):
        assert converted(tmp_path, [{"question": "q", "answer": value}])[0][0]["response"] == text
    for value in (True, [1], {"a": 1}):
        with pytest.raises(UserError, match=r"set.jsonl:1: 'answer' is a (bool|list|dict), not a text"):
            converted(tmp_path, [{"question": "q", "answer": value}])


def test_inputs_of_white_space_and_placeholders_are_none(tmp_path):
    values = [
        "  \n",
        "<noinput>",
        "No input",
        "no input.",
        '"<noinput>"',
        "N/A",
        "None",
        "No input required.",
        "no-input",
        None,
    ]
    rows = [{"instruction": "Do", "input": value, "output": "x"} for value in values]
    rows += [{"instruction": "Do", "input": value, "output": "x"} for value in ("Nonesuch", "No", "-", "China")]
    records, report = converted(tmp_path, rows)
    assert [r["input"] for r in records] == [""] * len(values) + ["Nonesuch", "No", "-", "China"]
    assert report.placeholder_input_count == len(values) - 2


def test_placeholders_for_an_answer_are_left_out(tmp_path):
    rows = [
        {"instruction": "Draw", "output": value}
        for value in ("<nooutput>", "No Output", "x", "None", "No output appears.")
    ]
    records, report = converted(tmp_path, rows)
    assert [r["response"] for r in records] == ["x", "None", "No output appears."]
    assert report.left_out_count_by_reason == {"with a placeholder for an answer": 2}


def test_ids_are_unique(tmp_path):
    for name in ("a/train.jsonl", "b/train.jsonl", "a/part/train.jsonl", "x/a.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"instruction": "i", "output": "o"}) + "\n")
    record = {"id": "a-1", "teacher": "t", "system": "s", "instruction": "i", "response": "r"}
    (tmp_path / "mine.jsonl").write_text((json.dumps(record) + "\n") * 2)
    paths = [tmp_path / name for name in ("a/train.jsonl", "b/train.jsonl", "x/a.jsonl", "mine.jsonl")]
    report = convert_to_records(paths, tmp_path / "out.jsonl")
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert ids == ["a-1", "b-1", "a-2", "a-1-2", "a-1-3"] and report.changed_id_count == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"foo": "x"}, "columns foo are those of no known instruction set; say which columns to read: --map"),
        ({}, "are those of no known instruction set"),
        ({"instruction": "a", "output": "b", "response": "c"}, "can be read as .* or "),
        ({"messages": [], "conversations": []}, "can be read as .* or "),
        ({"prompt": "a", "completion": "b", "response": "c"}, "can be read as .* or "),
        (
            {"instruction": "a", "input": "b", "context": "c", "output": "d"},
            "columns input and context can be read as one",
        ),
        (
            {"prompt": "a", "completion": "b", "system": "c", "system_prompt": "d"},
            "columns system and system_prompt can be",
        ),
        ({"question": "a", "choices": ["b"], "answer": 1}, "column 'choices' would be left out"),
        ({"question": "a", "passage": "b", "answer": "c"}, "column 'passage' would be left out"),
        ({"messages": "no json"}, "not JSON"),
        ({"messages": 3}, "a int, not a list of messages"),
        ({"messages": ["x"]}, "a str, not a message"),
        ({"messages": [{"content": "x"}]}, "a message without a role"),
        ({"messages": [{"role": "user", "content": 3}]}, "a message's content is a int"),
    ],
)
def test_columns_of_no_shape_or_of_several_are_refused(tmp_path, row, message):
    with pytest.raises(UserError, match=rf"set.jsonl:1: .*{message}" if row else message):
        converted(tmp_path, [row])


def test_sets_that_were_joined_are_read_by_the_columns_that_have_values(tmp_path):
    rows = [
        {"instruction": "a", "output": "b", "messages": None},
        {"instruction": None, "output": None, "messages": PUBLISHED["messages"][0][0]["messages"]},
    ]
    assert [r["response"] for r in converted(tmp_path, rows)[0]] == ["b", "Hello"]


def test_map_says_which_columns_to_read(tmp_path):
    rows = [{"Q": "q", "A": "a", "hint": "h", "role": "s", "output": "?"}]
    for options in (
        ["instruction=Q,response=A,input=hint,system=role"],
        ["instruction=Q", "response=A,input=hint", "system=role"],
    ):
        (record,), report = converted(tmp_path, rows, column_shape=column_shapes.shape_of_options(options))
        assert [record[key] for key in ("instruction", "input", "response", "system")] == ["q", "h", "a", "s"]
        assert report.row_system_count == 1
    (record,), report = converted(
        tmp_path, rows, column_shape=column_shapes.shape_of_options(["instruction=Q,response=A"])
    )
    assert record["system_id"] == 5 and record["input"] == "" and report.default_system_count == 1
    chat = [{"dialogue": PUBLISHED["messages"][0][0]["messages"]}]
    assert (
        converted(tmp_path, chat, column_shape=column_shapes.shape_of_options(["messages=dialogue"]))[0][0]["response"]
        == "Hello"
    )
    with pytest.raises(UserError, match="set.jsonl:1: no column 'q', which --map names"):
        converted(tmp_path, rows, column_shape=column_shapes.shape_of_options(["instruction=q,response=A"]))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("instruction", "does not say where something is"),
        ("instruction=", "does not say where something is"),
        ("instructon=a,response=b", "did you mean 'instruction'"),
        ("instruction=a", "instruction and response are needed"),
        ("instruction=a,response=b,response=c", "'response' twice"),
        ("messages=a,response=b", "messages hold instruction and response already"),
    ],
)
def test_a_map_that_is_none_is_refused(option, message):
    with pytest.raises(UserError, match=f"--map: .*{message}"):
        column_shapes.shape_of_options([option])


# --- the real files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alpaca(shared):
    with gzip.open(shared / "instructions" / "alpaca" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_the_real_alpaca_file_as_it_is_published(alpaca, tmp_path):
    (tmp_path / "alpaca_data.json").write_text(json.dumps(alpaca, indent=4), encoding="utf-8")
    report = convert_to_records([tmp_path / "alpaca_data.json"], tmp_path / "out.jsonl")
    assert report.left_out_count_by_reason == {
        "without an answer": 28,
        "with a placeholder for an answer": 37,
    }
    assert report.record_count == 52002 - 28 - 37 == report.assigned_system_count
    placeholders = [row["input"] for row in alpaca if row_texts.is_placeholder_input(row["input"])]
    assert len(placeholders) == 673
    for value in set(placeholders):  # none of them says anything
        assert not set(row_texts._normalize_placeholder(value).split()) - {
            "no",
            "noinput",
            "input",
            "required",
            "needed",
            "none",
            "n/a",
            "na",
        }


def test_the_real_sets_give_the_same_records_from_parquet(shared, tmp_path):
    for name in ("dolly", "flan_v2_cot", "alpaca_seed_tasks"):
        with gzip.open(shared / "instructions" / name / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line, _ in zip(lines, range(3000), strict=False)]
        texts = []
        for container in ("jsonl", "parquet", "json", "csv"):
            folder = tmp_path / container / name
            folder.mkdir(parents=True)
            (folder / "train").write_bytes((CONTAINERS | TABLES)[container](rows))
            convert_to_records([folder / "train"], tmp_path / "out.jsonl")
            texts.append((tmp_path / "out.jsonl").read_bytes())
        assert len(set(texts)) == 1


def test_rows_without_outputs_are_said_by_their_columns(shared, tmp_path):
    with pytest.raises(
        UserError, match="columns idx, Skill, Difficulty, Instruction are those of no known instruction set"
    ):
        list(instructions.read_instructions(shared / "instructions" / "wizardlm" / "train.jsonl.gz"))
