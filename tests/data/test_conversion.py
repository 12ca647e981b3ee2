"""`data convert` says what it read, what it left out and which system messages the records have."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from containers import CONTAINERS


@pytest.fixture
def faq(tmp_path):
    (tmp_path / "faq.csv").write_text(
        'Ask,Answer,Topic\n"Open, when?",At nine.,shop\nWhere?,,shop\n', encoding="utf-8-sig"
    )
    return tmp_path


def test_a_table_of_ones_own_by_map(command, faq):
    assert "say which columns to read: --map" in command.refused("data", "convert", "faq.csv", "--out", "r.jsonl")
    words = ["data", "convert", "faq.csv", "--map", "instruction=Ask,response=Answer", "--out", "r.jsonl"]
    process = command(*words)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [
        "1 record: r.jsonl",
        "left out: 1 row without an answer; the first is faq.csv:3",
        "system messages: 1 set to message 5 (--systems draws others)",
    ]
    assert process.stderr == "next: orca-bench train recipes/13b.yaml -o 'data.records=[\"r.jsonl\"]'\n"
    record = json.loads((faq / "r.jsonl").read_text())
    assert (record["instruction"], record["response"], record["system_id"]) == ("Open, when?", "At nine.", 5)
    assert "faq.csv:3: --strict allows no rows without an answer" in command.refused(*words, "--strict")


def test_the_next_command_trains_on_the_records_whatever_their_name(command, faq):
    out = "my, r\u00e9c: 'x'.jsonl"
    process = command("data", "convert", "faq.csv", "--map", "instruction=Ask,response=Answer", "--out", out)
    words = shlex.split(process.stderr.removeprefix("next: orca-bench "))
    (faq / out).unlink()
    dry_run = command(*words, "--dry-run")
    assert dry_run.returncode == 0 and f"cannot be computed here: {out}: no such file" in dry_run.stdout, dry_run


@pytest.mark.parametrize("files", [["a.jsonl"], ["./a.jsonl"], ["*.jsonl"], ["."], ["b/b.jsonl", "link.jsonl"]])
def test_a_file_that_is_read_is_never_written(command, tmp_path, files):
    row = '{"instruction": "a", "output": "b"}\n'
    (tmp_path / "b").mkdir()
    (tmp_path / "a.jsonl").write_text(row)
    (tmp_path / "b" / "b.jsonl").write_text(row)
    if "link.jsonl" in files:
        (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    line = command.refused("data", "convert", *files, "--out", "a.jsonl")
    assert "a.jsonl: " in line and " is an input, and writing would destroy it; name another file" in line
    assert (tmp_path / "a.jsonl").read_text() == row


@pytest.mark.parametrize("output", ["r/faq.jsonl", "r/new.jsonl"])
@pytest.mark.parametrize("name", ["mine/nothing.json", "r/faq.jsonl/x.json", "n" * 300, "mine/*.json"])
def test_an_absent_file_is_one_line_whether_or_not_the_output_is_there(command, tmp_path, output, name):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "faq.jsonl").write_text("earlier")
    assert command.refused("data", "convert", name, "--out", output).startswith(f"error: {name}: ")
    assert (tmp_path / "r" / "faq.jsonl").read_text() == "earlier"
    assert [file.name for file in (tmp_path / "r").iterdir()] == ["faq.jsonl"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--systems", "2,5"), "1 drawn from 2,5 with seed 0 (--systems 5 gives all one neutral message)"),
        (("--systems", "5-5"), "1 drawn from 5-5 with seed 0"),
        ((), "1 drawn from 2-16 with seed 0 (--systems 5 gives all one neutral message)"),
    ],
)
def test_where_messages_were_drawn_the_neutral_one_is_named(command, tmp_path, options, sentence):
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    process = command("data", "convert", "a.jsonl", "--out", "r.jsonl", *options)
    assert process.stdout.splitlines()[-1] == f"system messages: {sentence}"


@pytest.mark.parametrize(
    "ids", ["²", "2-²", "٣", "1-999999999999", "0", "17", "3-17", "9" * 5000, "5,,6", "-5", "5-", "9-2"]
)
def test_ids_of_system_messages_that_are_none(command, tmp_path, ids):
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    assert "--systems: " in command.refused("data", "convert", "a.jsonl", "--out", "r.jsonl", f"--systems={ids}")


def test_what_was_there_stays_where_a_conversion_fails(command, tmp_path):
    (tmp_path / "r.jsonl").write_text("earlier")
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output"\n')
    assert "a.jsonl:2: not JSON" in command.refused("data", "convert", "a.jsonl", "--out", "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text() == "earlier"


def test_parts_in_a_folder_and_the_orca_sets_own_messages(command, tmp_path):
    (tmp_path / "orca" / "data").mkdir(parents=True)
    for number in range(2):
        rows = [{"system": f"S{number}", "instruction": "a", "input": "No input", "output": "b"}]
        name = f"train-{number:05d}-of-00002-0123456789abcdef.parquet"
        (tmp_path / "orca" / "data" / name).write_bytes(CONTAINERS["parquet"](rows))
    process = command("data", "convert", "orca", "--out", "r.jsonl")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[1:] == [
        "inputs such as 'No input', taken as none: 2",
        "system messages: 2 kept from the rows",
    ]
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(r["id"], r["system"], r["input"]) for r in records] == [("orca-1", "S0", ""), ("orca-2", "S1", "")]


def test_rows_may_come_through_a_pipe(tmp_path):
    rows = CONTAINERS["json"]([{"instruction": "a", "output": "b"}] * 50)
    process = subprocess.run(
        [sys.executable, "-m", "orca_bench", "data", "convert", "/dev/stdin", "--out", "r.jsonl"],
        cwd=tmp_path,
        input=rows,
        capture_output=True,
        env=os.environ,
    )
    assert process.returncode == 0 and b"50 records" in process.stdout, process.stderr


def _write_questions(path, numbers):
    path.write_text("".join(json.dumps({"question": f"q{n}", "answer": f"a{n}"}) + "\n" for n in numbers))


def _converted(command, *words):
    result = command("data", "convert", *words, "--out", "r.jsonl")
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in (command.folder / "r.jsonl").read_text().splitlines()]
    return result.stdout.splitlines(), records


def test_a_sample_depends_on_seed_and_texts_alone(command, tmp_path):
    _write_questions(tmp_path / "up.jsonl", range(60))
    _write_questions(tmp_path / "down.jsonl", reversed(range(60)))
    lines, records = _converted(command, "up.jsonl", "--sample", "20", "--systems", "2-16")
    assert lines[:2] == ["20 records: r.jsonl", "sample: 20 of 60 rows, by seed 0"]
    assert lines[2].startswith("system messages: 20 drawn"), "counts are of the sample"
    instructions = [record["instruction"] for record in records]
    assert instructions == sorted(instructions, key=lambda text: int(text[1:])), "in the order of the file"
    assert records[0]["id"] == f"up-{int(instructions[0][1:]) + 1}", "a record has the number of its row"
    _, from_reversed_file = _converted(command, "down.jsonl", "--sample", "20", "--systems", "2-16")
    assert {(r["instruction"], r["system"]) for r in from_reversed_file} == {
        (r["instruction"], r["system"]) for r in records
    }
    _, smaller = _converted(command, "up.jsonl", "--sample", "10", "--systems", "2-16")
    assert {r["instruction"] for r in smaller} < set(instructions)
    numbers = [int(record["instruction"][1:]) for record in smaller]
    assert numbers == [0, 2, 8, 10, 15, 37, 38, 44, 48, 56], "recorded samples have these rows"
    _, other_seed = _converted(command, "up.jsonl", "--sample", "20", "--seed", "1")
    assert {r["instruction"] for r in other_seed} != set(instructions)
    _, all_records = _converted(command, "up.jsonl", "--systems", "2-16")
    assert len({r["system_id"] for r in records}) > 5, "sample and message are drawn independently of one another"
    assert {r["instruction"]: r["system"] for r in records}.items() <= {
        r["instruction"]: r["system"] for r in all_records
    }.items(), "a row has the message that it has without --sample"


def test_a_sample_of_fewer_rows_is_all_of_them(command, tmp_path):
    _write_questions(tmp_path / "rows.jsonl", range(3))
    lines, records = _converted(command, "rows.jsonl", "--sample", "20")
    assert len(records) == 3 and lines[1] == "sample: all 3 rows, as --sample 20 is not less"
    assert "0 is not in the range x>=1" in command.refused(
        "data", "convert", "rows.jsonl", "--sample", "0", "--out", "x.jsonl"
    )
