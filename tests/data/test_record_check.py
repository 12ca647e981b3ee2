"""What is in records is found, counted and placed; and the report is the same in whatever way they are read."""

import gzip
import json
import os
import random
import subprocess
import sys

import pytest
from containers import CONTAINERS
from planted_records import (
    ARC_QUESTION,
    GSM8K_QUESTIONS,
    plain_record,
    planted_records,
    sentence,
    write_benchmarks,
    write_lines,
)

from orca_bench import prompt
from orca_bench.data import record_check
from orca_bench.data.column_shapes import shape_of_options
from orca_bench.data.record_check import CheckOptions, check_records
from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_questions import load_benchmark_questions
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, system_message
from orca_bench.tokenizers import load_tokenizer
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import Record

ONE = CheckOptions(worker_count=1)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return load_benchmark_questions(write_benchmarks(tmp_path_factory.mktemp("benchmarks")))


def lines_of(finding):
    return [int(place.rpartition(":")[2]) for place in finding.examples]


def test_each_fault_is_counted_at_its_place(tmp_path, questions):
    report = check_records([write_lines(tmp_path / "a.jsonl", planted_records())], questions, ONE)
    assert report.records == 300 and report.files[0].rows == 300
    assert {key: (finding.records, lines_of(finding)) for key, finding in report.findings.items()} == {
        "unknown_columns": (1, [8]),
        "empty_instruction": (1, [7]),
        "empty_response": (1, [6]),
        "placeholder_response": (1, [10]),
        "placeholder_input": (1, [9]),
        "refusal": (1, [11]),
        "truncated_response": (1, [12]),
        "exact_duplicate": (1, [13]),
        "near_duplicate": (1, [14]),
    }
    assert report.findings["exact_duplicate"].originals == [f"{tmp_path / 'a.jsonl'}:4"]
    assert report.findings["near_duplicate"].originals == [f"{tmp_path / 'a.jsonl'}:5"]
    assert (report.exact_duplicates, report.near_duplicates) == (1, 1)
    overlap = report.overlap["gsm8k"]
    assert overlap.questions == {"test": 2, "training": 1, "relative": 0} == overlap.records
    assert [(hit.kind, hit.row, int(hit.record.rpartition(":")[2])) for hit in report.hits] == [
        ("test", 0, 15),
        ("test", 1, 16),
        ("training", 0, 17),
    ]


def test_of_many_faults_the_first_five_are_named(tmp_path):
    rows = [plain_record(number) | {"input": "n/a"} for number in range(30)]
    report = check_records([write_lines(tmp_path / "a.jsonl", rows)], options=ONE)
    assert report.findings["placeholder_input"].records == 30
    assert lines_of(report.findings["placeholder_input"]) == [1, 2, 3, 4, 5]
    assert report.suite is None and report.overlap == {} and report.tokens is None


def test_order_of_files_workers_and_hash_seed_change_nothing(tmp_path, questions, monkeypatch):
    monkeypatch.setattr(record_check, "_ROWS_IN_BATCH", 23)
    rows = planted_records(240)
    write_lines(tmp_path / "b.jsonl", rows[:100])
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(CONTAINERS["json"](rows[100:130])))
    (tmp_path / "c.parquet").write_bytes(CONTAINERS["parquet"](rows[130:]))
    files = [tmp_path / name for name in ("b.jsonl", "a.json.gz", "c.parquet")]
    expected = check_records(files, questions, ONE).to_json()
    assert expected["records"] == 240 and len(expected["hits"]) == 3
    for workers, order in ((3, files), (2, files[::-1]), (1, files[1:] + files[:1])):
        assert check_records(order, questions, CheckOptions(worker_count=workers)).to_json() == expected
    assert check_records([tmp_path / "*.json*", files[2]], questions, ONE).to_json() == expected


def test_workers_can_be_forked_after_a_check_in_this_process_with_threads(tmp_path):
    """rensa's threads are not in a forked process; a worker that waits for one never ends."""
    write_lines(tmp_path / "a.jsonl", [plain_record(number) for number in range(4500)])
    program = """
from pathlib import Path
from orca_bench.data.record_check import CheckOptions, check_records
reports = [check_records([Path("a.jsonl")], options=CheckOptions(worker_count=workers)) for workers in (1, 2)]
print(reports[0] == reports[1])
"""
    environment = os.environ | {"RAYON_NUM_THREADS": "4"}
    words = [sys.executable, "-c", program]
    process = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert process.stdout == "True\n", process.stderr


def test_the_hash_seed_of_python_changes_nothing(tmp_path):
    write_lines(tmp_path / "a.jsonl", planted_records(120))
    write_benchmarks(tmp_path / "benchmarks")
    reports = []
    for seed in ("1", "2"):
        words = ["data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--workers", "1", "--report", f"{seed}.json"]
        process = subprocess.run(
            [sys.executable, "-m", "orca_bench", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        reports.append((tmp_path / f"{seed}.json").read_bytes())
    assert reports[0] == reports[1]


def test_shuffled_records_have_the_same_counts(tmp_path, questions):
    rows = planted_records(200)
    first = check_records([write_lines(tmp_path / "a.jsonl", rows)], questions, ONE)
    random.Random(0).shuffle(rows)
    second = check_records([write_lines(tmp_path / "b.jsonl", rows)], questions, ONE)
    assert {key: finding.records for key, finding in first.findings.items()} == {
        key: finding.records for key, finding in second.findings.items()
    }
    assert first.overlap == second.overlap


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("workers", [1, 2])
def test_lengths_are_those_of_training(tmp_path, mini, byte_level, monkeypatch, kind, workers):
    """Training and the check count the same tokens, and the same examples are cut."""
    monkeypatch.setattr(record_check, "_ROWS_IN_BATCH", 15)
    tokenizer_path = mini["mini:tokenizer"] if kind == "file" else byte_level
    rows = [
        {"system": system_message(5), "instruction": sentence(n, 5 + 3 * n), "input": "x" * (n % 3), "response": "yes"}
        for n in range(40)
    ]
    tokenizer = load_tokenizer(tokenizer_path)
    options = CheckOptions(tokenizer_path=tokenizer_path, max_length=300, worker_count=workers)
    tokens = check_records([write_lines(tmp_path / "a.jsonl", rows)], options=options).tokens
    records = [Record(row["system"], row["instruction"], row["input"], row["response"]) for row in rows]
    examples, _ = encode_records(records, tokenizer, 10_000)
    _, report = encode_records(records, tokenizer, 300)
    assert (tokens.total, tokens.longest) == (int(examples.lengths.sum()), int(examples.lengths.max()))
    assert 0 < tokens.cut == report.truncated_count < 40
    assert tokens.tokenizer_sha256 == tokenizer.fingerprint


def test_a_row_without_a_system_message_has_the_length_that_its_conversion_has(tmp_path, mini):
    rows = [{"prompt": "Say yes.", "completion": "yes"}]
    options = CheckOptions(tokenizer_path=mini["mini:tokenizer"], worker_count=1)
    tokens = check_records([write_lines(tmp_path / "a.jsonl", rows)], options=options).tokens
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    text = prompt.render(system_message(DEFAULT_SYSTEM_ID), "Say yes.")
    assert tokens.total == len(tokenizer.encode(text)) + len(tokenizer.encode("yes")) + 2


def test_a_record_of_ten_megabytes_with_a_question_in_its_middle(tmp_path, questions):
    filler = [sentence(number, 30_000) for number in range(2)]
    long_record = plain_record(1) | {"output": f"{filler[0] * 22} {GSM8K_QUESTIONS[0]} {filler[1] * 22}"}
    assert len(long_record["output"]) > 10_000_000
    file = write_lines(tmp_path / "a.jsonl", [plain_record(0), long_record, long_record])
    report = check_records([file], questions, ONE)
    assert report.exact_duplicates == 1
    assert [hit.record for hit in report.hits] == [f"{file}:2", f"{file}:3"]
    assert len(json.dumps(report.to_json())) < 20_000


def test_records_in_another_language_than_the_benchmarks(tmp_path, questions):
    rows = [
        {"instruction": "请介绍一下中国的长城。", "output": "长城是中国古代的军事防御工程。" * 9},
        {"instruction": "日本の首都はどこですか。", "output": "東京です。"},
        {"instruction": "Расскажите о Волге.", "output": "Волга — самая длинная река Европы."},
        {"instruction": "ما هي عاصمة مصر؟", "output": "القاهرة"},
        {"instruction": "请介绍一下中国的长城。", "output": "长城是中国古代的军事防御工程。" * 9},
        {"instruction": "请介绍一下中国的长城！", "output": "长城是中国古代的军事防御工程。" * 9 + "好"},
    ]
    report = check_records([write_lines(tmp_path / "a.jsonl", rows)], questions, ONE)
    assert report.hits == [] and set(report.findings) == {"exact_duplicate", "near_duplicate"}
    assert lines_of(report.findings["near_duplicate"]) == [6]


def test_records_that_differ_in_the_system_message_or_have_no_words_are_no_duplicates(tmp_path):
    row = {"system": "Be brief.", "instruction": plain_record(0)["instruction"], "response": "Yes, of course."}
    rows = [row, row | {"system": "Explain like I am five."}, dict(row), row | {"response": "Yes - of course!"}]
    rows += [{"instruction": "\U0001f600", "response": response} for response in ("?", "!", "\u2764\ufe0f")]
    report = check_records([write_lines(tmp_path / "a.jsonl", rows)], options=ONE)
    assert {key: lines_of(finding) for key, finding in report.findings.items()} == {
        "exact_duplicate": [3],
        "near_duplicate": [4],
    }


def test_columns_of_ones_own(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"ask": "Open when?", "reply": "I'm sorry, but I cannot answer."}])
    options = CheckOptions(column_shape=shape_of_options(["instruction=ask,response=reply"]), worker_count=1)
    assert set(check_records([file], options=options).findings) == {"refusal"}
    with pytest.raises(UserError, match=r"a\.jsonl:1: columns ask, reply are those of no known instruction set"):
        check_records([file], options=ONE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.jsonl: no rows"),
        ('{"instruction": "a", "output": "b"}\n{"instruction": "a", "out\n', r"a\.jsonl:2: not JSON"),
        ("[1, 2]", r"a\.jsonl:1 row 1: a int, not a JSON object"),
        ('{"x": "a"}\n{"x": "b"}\n', r"a\.jsonl:1: columns x are those of no known instruction set"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_files_without_records_are_errors_at_their_place(tmp_path, content, message, workers):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        check_records([tmp_path / "a.jsonl"], options=CheckOptions(worker_count=workers))


def test_a_broken_line_behind_many_good_ones_ends_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(record_check, "_ROWS_IN_BATCH", 10)
    file = write_lines(tmp_path / "a.jsonl", [plain_record(number) for number in range(200)])
    with file.open("a") as handle:
        handle.write("{broken\n")
    with pytest.raises(UserError, match=r"a\.jsonl:201: not JSON"):
        check_records([file], options=CheckOptions(worker_count=2))


def test_a_file_is_named_once_and_is_a_file(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [plain_record(1)])
    with pytest.raises(UserError, match="named twice; name each file of records once"):
        check_records([file, tmp_path / "*.jsonl"], options=ONE)
    (tmp_path / "link.jsonl").symlink_to(file)
    for spelling in (tmp_path / "." / ".." / tmp_path.name / "a.jsonl", tmp_path / "link.jsonl"):
        with pytest.raises(UserError, match="named twice, also as .*; name each file of records once"):
            check_records([file, spelling], options=ONE)
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(UserError, match=r"pipe\.jsonl: not a file; records are read more than once"):
        check_records([tmp_path / "pipe.jsonl"], options=ONE)
    with pytest.raises(UserError, match="no such file"):
        check_records([tmp_path / "absent.jsonl"], options=ONE)


def test_records_of_one_line_have_places_of_their_own(tmp_path, questions):
    rows = planted_records(20)
    (tmp_path / "a.json").write_text("".join(json.dumps(row) for row in rows))
    report = check_records([tmp_path / "a.json"], questions, ONE)
    assert [(hit.kind, hit.record) for hit in report.hits] == [
        ("test", f"{tmp_path / 'a.json'}:1 row 15"),
        ("test", f"{tmp_path / 'a.json'}:1 row 16"),
        ("training", f"{tmp_path / 'a.json'}:1 row 17"),
    ]
    assert report.overlap["gsm8k"].records == {"test": 2, "training": 1, "relative": 0}


def test_a_benchmark_of_choices(tmp_path):
    write_lines(tmp_path / "b" / "arc_challenge" / "test.jsonl", [ARC_QUESTION])
    (tmp_path / "b" / "suite.json").write_text('{"name": "small"}')
    messages = []
    questions = load_benchmark_questions(tmp_path / "b", show_message=messages.append)
    assert len(messages) == 1 and "the split 'train' of arc_challenge" in messages[0]
    shuffled = f"{ARC_QUESTION['question']}\n" + "\n".join(reversed(ARC_QUESTION["choices"]["text"]))
    rows = [plain_record(0), plain_record(1) | {"instruction": shuffled, "output": "its magnetite crystals"}]
    hits = check_records([write_lines(tmp_path / "a.jsonl", rows)], questions, ONE).hits
    assert [(hit.kind, hit.choices, hit.answer) for hit in hits] == [("test", 1.0, 1.0)]
