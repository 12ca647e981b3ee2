"""`data show` prints records by number, source and system message, of files of any published set."""

import json

import pytest

from orca_bench.system_messages import SYSTEM_MESSAGES


@pytest.fixture
def folder(command):
    records = [
        {
            "id": f"{source}-{number}",
            "source": source,
            "teacher": "t",
            "system_id": system_id,
            "system": SYSTEM_MESSAGES[system_id],
            "instruction": f"Question {number} of {source}?",
            "input": "",
            "response": f"First line {number}.\nSecond \x1b[31mline.",
        }
        for source, system_id in (("alpaca", 5), ("dolly", 7))
        for number in range(1, 5)
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (command.folder / "r.jsonl").write_text(lines, encoding="utf-8")
    rows = [{"instruction": "Name a river.", "input": "of Europe", "output": "The Rhine."}]
    (command.folder / "alpaca.json").write_text(json.dumps(rows), encoding="utf-8")
    return command.folder


def test_the_first_three_records_with_their_texts_and_columns(command, folder):
    process = command("data", "show", "r.jsonl")
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[0] == "r.jsonl:1 · id alpaca-1 · source alpaca · teacher t · system_id 5"
    assert lines[1:3] == ["system:", f"  {SYSTEM_MESSAGES[5]}"]
    assert lines[3:5] == ["instruction:", "  Question 1 of alpaca?"] and "input:" not in lines
    assert lines[5:7] == ["response:", "  First line 1."] and "\x1b" not in process.stdout
    assert process.stdout.count("response:") == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--index", "2", "--index", "5"], ["alpaca-2", "dolly-1"]),
        (["--source", "dolly", "--limit", "2"], ["dolly-1", "dolly-2"]),
        (["--system", "7", "--limit", "9"], ["dolly-1", "dolly-2", "dolly-3", "dolly-4"]),
        (["--system", SYSTEM_MESSAGES[5], "--limit", "1"], ["alpaca-1"]),
        (["--source", "dolly", "--index", "6"], ["dolly-2"]),
    ],
)
def test_records_are_chosen_by_number_source_and_message(command, folder, words, expected):
    lines = command("data", "show", "r.jsonl", *words).stdout.splitlines()
    assert [line.split(" · ")[1].removeprefix("id ") for line in lines if " · id " in line] == expected


def test_rows_of_a_published_set_are_shown_too(command, folder):
    lines = command("data", "show", "alpaca.json").stdout.splitlines()
    assert lines[1:] == ["instruction:", "  Name a river.", "input:", "  of Europe", "response:", "  The Rhine."]


@pytest.mark.parametrize(
    "row",
    [
        {"inputs": "Why is it so?", "targets": "It is."},
        {"question": "Why is it so?", "answer": "It is.", "chain_of_thought": "First, this."},
        {"Instruction": "Why is it so?", "Output": "It is.", "System_Prompt": "Be kind."},
    ],
)
def test_no_text_of_a_row_is_shown_twice(command, row):
    (command.folder / "row.json").write_text(json.dumps([{**row, "task": "t"}]), encoding="utf-8")
    process = command("data", "show", "row.json")
    assert process.stdout.splitlines()[0].endswith(" · task t"), process.stderr
    assert all(process.stdout.count(text) == 1 for text in row.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "flan"], "--source: no record is so"),
        (["--index", "9"], "--index: no record is so"),
        (["--system", "17"], "--system: 17 is not an id"),
    ],
)
def test_a_choice_without_a_record_is_said(command, folder, words, message):
    assert message in command.refused("data", "show", "r.jsonl", *words)
    assert "absent.jsonl: no such file" in command.refused("data", "show", "absent.jsonl")
