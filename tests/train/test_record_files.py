"""Training reads records and the Orca sets as they are published, and reports the rows that it leaves out."""

import json

import pytest
from containers import CONTAINERS, PACKINGS, TABLES
from published_instructions import PUBLISHED

from orca_bench import files
from orca_bench.errors import UserError
from orca_bench.files import write_json_lines
from orca_bench.train import record_files
from orca_bench.train.record_files import Record


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("container", [*CONTAINERS, *TABLES])
@pytest.mark.parametrize("name", ["Orca sets", "records"])
def test_training_reads_records_from_every_container(tmp_path, name, container, packing):
    rows, (instruction, context, response), _ = PUBLISHED[name]
    path = tmp_path / ("set.csv" if container in TABLES else "set")
    path.write_bytes(PACKINGS[packing]((CONTAINERS | TABLES)[container](rows)))
    records, (source,) = record_files.read_records([str(path)])
    assert records == [Record("Explain.", instruction, context, response)] * 2
    assert source.rows == 2 and len(source.sha256) == 64 and not source.remarks


def test_training_leaves_rows_out_and_says_so(tmp_path):
    rows = [
        {"system": "s", "instruction": "i", "input": " ", "output": "o"},
        {"system": "s", "instruction": "i", "input": "<noinput>", "output": ""},
        {"system": None, "instruction": "i", "input": "<noinput>", "output": 3},
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, (source,) = record_files.read_records([str(path)])
    assert records == [Record("s", "i", "", "o"), Record("", "i", "", "3")]
    assert source.left_out == {"without an answer": 1} and source.without_system == 1 and source.rows == 2
    assert "left out: 1 row without an answer; the first is" in source.remarks[0] and len(source.remarks) == 2
    with pytest.raises(UserError, match="r.jsonl:2: data.strict allows no rows without an answer"):
        record_files.read_records([str(path)], refuses_incomplete_rows=True)


def test_training_refuses_a_row_of_two_answers(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([{"instruction": "i", "output": "a", "response": "b"}]))
    with pytest.raises(UserError, match="both 'response' and 'output'"):
        record_files.read_records([str(tmp_path / "r.json")])


@pytest.mark.parametrize("name", ["Dolly", "GSM8K", "messages", "OpenOrca"])
def test_training_sends_other_shapes_to_convert(tmp_path, name):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(PUBLISHED[name][0]))
    with pytest.raises(UserError, match=r"row 1: columns .* not those of records .*orca-bench data convert"):
        record_files.read_records([str(path)])


def test_training_reads_folders_and_patterns_file_by_file(tmp_path):
    for number in range(2):
        row = {"system": "s", "instruction": f"{number}", "output": "o"}
        (tmp_path / f"train-0000{number}-of-00002.parquet").write_bytes(CONTAINERS["parquet"]([row]))
    for name in (tmp_path, tmp_path / "train-*.parquet"):
        records, sources = record_files.read_records([str(name)])
        assert [r.instruction for r in records] == ["0", "1"]
        assert [s.name for s in sources] == sorted(map(str, tmp_path.glob("*.parquet")))


def test_a_file_that_is_read_twice_is_hashed_once(tmp_path, monkeypatch):
    write_json_lines(tmp_path / "a.jsonl", [{"instruction": "i", "output": "o"}])
    hashed_files = []
    monkeypatch.setattr(record_files, "file_sha256", lambda path: hashed_files.append(path) or files.file_sha256(path))
    reader = record_files.RecordReader([str(tmp_path / "a.jsonl")])
    assert list(reader) == list(reader) and hashed_files == [tmp_path / "a.jsonl"]
    assert reader.sources[0].sha256 == files.file_sha256(tmp_path / "a.jsonl")


def test_records_are_counted_by_their_source_and_their_teachers_named(tmp_path):
    rows = [{"instruction": "i", "output": "o", "source": name, "teacher": "t"} for name in ("a", "a", "b")]
    rows += [{"instruction": "i", "output": "o"}]
    path = tmp_path / "r.jsonl"
    write_json_lines(path, rows)
    _, (source,) = record_files.read_records([str(path)])
    assert (source.rows_by_source, source.teachers) == ({"a": 2, "b": 1}, ["t"])
    write_json_lines(path, [rows[0] | {"source": f"row {n}"} for n in range(60)])
    _, (source,) = record_files.read_records([str(path)])
    assert (source.rows_by_source, source.teachers) == ({}, ["t"])
