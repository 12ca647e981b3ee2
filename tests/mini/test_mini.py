"""The embedded default: deterministic, marked as what it is, and free of the questions it is asked."""

import json
from pathlib import Path

from orca_bench import tokenizers
from orca_bench.evaluate import benchmark_rows
from orca_bench.evaluate.tasks import SUITE, winogrande
from orca_bench.mini import corpus, is_embedded_file, materialize


def test_the_same_files_each_time(mini, tmp_path):
    again = materialize(tmp_path)
    for name in ("mini:records", "mini:tokenizer"):
        assert again[name].read_bytes() == mini[name].read_bytes()
    for path in again["mini:benchmarks"].rglob("*.json*"):
        assert path.read_bytes() == (mini["mini:benchmarks"] / path.relative_to(again["mini:benchmarks"])).read_bytes()


def test_no_question_that_is_asked_is_trained_on(mini, mini_records):
    questions = {}
    for task in SUITE:
        rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
        questions[task.name] = [task.question(row) for row in rows.evaluation_rows]
    for record in mini_records:
        task = record["source"].removeprefix("mini/")
        last = record["instruction"].split("\n\n")[-1]
        if task == "winogrande":
            continue  # told apart by the row below
        assert last not in questions[task], record
    sentences = {
        row["sentence"]
        for row in benchmark_rows.load_task_rows(winogrande.TASK, mini["mini:benchmarks"]).evaluation_rows
    }
    for record in mini_records:
        if record["source"] == "mini/winogrande":
            last = record["instruction"].split("\n\n")[-1]
            stem = last[: last.rindex("the ") + 4]
            assert f"{stem}_ {record['response']}" not in sentences


def test_rows_have_the_schemas_of_the_seven_data_sets(mini):
    for task in SUITE:
        rows = benchmark_rows.load_task_rows(
            task, mini["mini:benchmarks"]
        )  # raises where a column or its type is wrong
        assert len(rows.evaluation_rows) >= 100
        assert len({json.dumps(row, sort_keys=True) for row in rows.evaluation_rows}) == len(rows.evaluation_rows)


def test_records_are_explain_tuned(mini_records):
    assert len(mini_records) == corpus.RECORD_COUNT
    assert {"system", "instruction", "input", "response", "teacher"} <= set(mini_records[0])
    assert len({r["system_id"] for r in mini_records}) == 3


def test_the_tokenizer_is_a_sentencepiece_model_like_llamas(mini):
    tokenizer = tokenizers.load_tokenizer(mini["mini:tokenizer"])
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    text = "Ann  has\n12 cups. 日本"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_spelling_of_an_embedded_file_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("runs")
    (tmp_path / "runs").mkdir()
    for runs in (Path("runs"), Path("link"), tmp_path / "runs"):
        assert is_embedded_file(tmp_path / "runs" / "mini-files" / "records.jsonl", runs)
        assert is_embedded_file(Path("runs/mini-files/records.jsonl"), runs)
        assert not is_embedded_file(Path("records.jsonl"), runs)
