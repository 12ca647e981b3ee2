"""Rows are taken out of files of any form, and those that stay keep their bytes."""

import json

import pytest
from containers import CONTAINERS, PACKINGS, TABLES

from orca_bench.errors import UserError
from orca_bench.files import open_decompressed
from orca_bench.row_files import read_rows
from orca_bench.row_files.row_removal import check_rows_can_be_removed, copy_without_rows

ROWS = [{"instruction": f"Say {n}, é or “x”.", "output": f'line {n}\nand, "quoted"\n\nend'} for n in range(12)]
WITH_OWN_BYTES = {
    name: write for name, write in CONTAINERS.items() if name not in ("parquet", "arrow", "json under data")
}
REMOVALS = [{1}, {12}, {1, 2, 3}, {11, 12}, {2, 5, 6, 12}, set(range(2, 12)), set()]


def rows_of(path):
    return [row for _, row in read_rows(path)]


def content(path):
    with open_decompressed(path) as stream:
        return stream.read()


@pytest.mark.parametrize("removed", REMOVALS, ids=str)
@pytest.mark.parametrize("name", [*WITH_OWN_BYTES, *TABLES])
def test_the_rows_go_and_the_others_stay_in_every_form(tmp_path, name, removed):
    source = tmp_path / ("rows.csv" if name in TABLES else "rows.json")
    source.write_bytes((WITH_OWN_BYTES | TABLES)[name](ROWS))
    copy_without_rows(source, tmp_path / "copy", removed)
    copied_rows = rows_of(tmp_path / "copy")
    assert copied_rows == [row for number, row in enumerate(rows_of(source), 1) if number not in removed]
    if not removed:
        assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_lines_keep_their_bytes_their_order_of_keys_their_escapes_and_blank_lines(tmp_path):
    lines = ['{"b": 1,"a":  "\\u00e9"}\r\n', "\n", '{"a": "x", "b": 2.0}\n', '  {"a": "é"}  \n', '{"a": "last"}']
    source = tmp_path / "rows.jsonl"
    source.write_bytes("".join(lines).encode())
    copy_without_rows(source, tmp_path / "copy", {2})
    assert (tmp_path / "copy").read_bytes() == "".join([lines[0], lines[1], lines[3], lines[4]]).encode()


def test_what_stands_around_an_array_stays(tmp_path):
    source = tmp_path / "rows.json"
    source.write_text('\ufeff [\n  {"a": 1} ,\n\n  {"a": 2},\n  {"a":3}\n]\n\n', encoding="utf-8")
    copy_without_rows(source, tmp_path / "copy", {1})
    assert (tmp_path / "copy").read_text(encoding="utf-8") == '\ufeff [\n  {"a": 2},\n  {"a":3}\n]\n\n'
    copy_without_rows(source, tmp_path / "copy", {1, 2, 3})
    assert json.loads((tmp_path / "copy").read_text(encoding="utf-8-sig")) == []


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_compression_stays_and_the_bytes_are_the_same_each_time(tmp_path, packing):
    source = tmp_path / "rows"
    source.write_bytes(PACKINGS[packing](CONTAINERS["jsonl"](ROWS)))
    copy_without_rows(source, tmp_path / "copy", {3})
    first_bytes = (tmp_path / "copy").read_bytes()
    assert first_bytes[:2] == source.read_bytes()[:2]
    lines = content(source).splitlines(keepends=True)
    assert content(tmp_path / "copy") == b"".join(lines[:2] + lines[3:])
    copy_without_rows(source, tmp_path / "copy", {3})
    assert (tmp_path / "copy").read_bytes() == first_bytes


@pytest.mark.parametrize("name", ["parquet", "arrow", "json under data"])
def test_files_whose_rows_have_no_bytes_of_their_own_are_refused(tmp_path, name):
    source = tmp_path / "rows"
    source.write_bytes(CONTAINERS[name](ROWS))
    with pytest.raises(UserError, match=r"rows: rows cannot be taken out of .*; write the records as JSON Lines first"):
        check_rows_can_be_removed(source)
    with pytest.raises(UserError):
        copy_without_rows(source, tmp_path / "copy", {1})
    assert not (tmp_path / "copy").exists()


def test_a_copy_that_the_disk_does_not_take_leaves_nothing(tmp_path):
    source = tmp_path / "rows.jsonl"
    source.write_bytes(CONTAINERS["jsonl"](ROWS))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="name a file, not a folder"):
        copy_without_rows(source, tmp_path / "folder", {1})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "rows.jsonl"]


@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
def test_a_file_with_other_rows_than_were_read_is_not_copied(tmp_path, name):
    source = tmp_path / ("rows.csv" if name == "csv" else "rows.json")
    source.write_bytes((CONTAINERS | TABLES)[name](ROWS))
    copy_without_rows(source, tmp_path / "copy", {1}, len(ROWS))
    (tmp_path / "copy").unlink()
    with pytest.raises(UserError, match="12 rows while it was copied, 13 while it was read"):
        copy_without_rows(source, tmp_path / "copy", {1}, len(ROWS) + 1)
    assert not (tmp_path / "copy").exists()
