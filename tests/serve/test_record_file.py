"""A file of records: what is added to it is whole or not there, whoever adds it and whatever it holds."""

import errno
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from file_sizes import no_room_for

from orca_bench.errors import UserError, WriteError
from orca_bench.prompt import Turn
from orca_bench.serve import record_file as record_file_module
from orca_bench.serve.record_file import RecordFile, turn_record

RECORD = turn_record("Be brief.", Turn("Where?", None, "Here. 日本"), "model", was_cut=False)


def test_records_that_threads_add_at_once_are_whole_lines_and_each_is_told_its_own_number(tmp_path):
    record_file = RecordFile(tmp_path / "new" / "records.jsonl")
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda number: record_file.append(RECORD | {"id": number}), range(200)))
    lines = (tmp_path / "new" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(numbers) == list(range(1, 201))
    assert [json.loads(lines[line_number - 1])["id"] for line_number in numbers] == list(range(200))


def test_lines_that_another_program_adds_or_removes_are_counted(tmp_path):
    path = tmp_path / "records.jsonl"
    record_file = RecordFile(path)
    assert [record_file.append(RECORD) for _ in range(2)] == [1, 2]
    with path.open("a") as handle:
        handle.write('{"a": 1}\n{"b": 2}')  # without an end
    assert record_file.append(RECORD) == 5
    path.unlink()
    assert record_file.append(RECORD) == 1
    path.write_text("")
    assert record_file.append(RECORD) == 1


@pytest.mark.parametrize("content", [b"# My notes\n", b"\x1f\x8b\x08\x00", b"[1]\n"])
def test_a_file_of_something_else_stays_as_it_is(tmp_path, content):
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(UserError, match="notes:1"):
        RecordFile(tmp_path / "notes").append(RECORD)
    assert (tmp_path / "notes").read_bytes() == content


def test_a_line_for_which_the_disk_has_no_room_is_not_there_in_part(tmp_path):
    path = tmp_path / "records.jsonl"
    record_file = RecordFile(path)
    long_record = RECORD | {"response": "x" * 100_000}
    record_file.append(long_record)
    content = path.read_bytes()
    with no_room_for(150_000), pytest.raises(WriteError, match="cannot write: File too large"):
        record_file.append(long_record)
    assert path.read_bytes() == content
    assert record_file.append(RECORD) == 2


def test_a_line_that_another_program_adds_during_a_failing_write_stays(tmp_path, monkeypatch):
    path, other_line = tmp_path / "records.jsonl", b'{"other": 1}\n'
    path.write_bytes(b'{"a": 1}\n')

    class FullDisk(io.FileIO):
        """Takes ten bytes; then another program adds its line and the disk is full."""

        def write(self, line):
            if self.tell() == len(b'{"a": 1}\n'):
                return super().write(line[:10])
            with open(path, "ab") as other_program:
                other_program.write(other_line)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_on_full_disk(path, mode, buffering=-1):
        return FullDisk(path, mode) if mode == "ab" else open(path, mode, buffering)

    monkeypatch.setattr(record_file_module, "open", open_on_full_disk, raising=False)
    with pytest.raises(WriteError, match="No space left"):
        RecordFile(path).append(RECORD)
    assert path.read_bytes().endswith(other_line)


def test_a_file_that_is_edited_to_the_same_number_of_bytes_is_read_again(tmp_path):
    path = tmp_path / "records.jsonl"
    record_file = RecordFile(path)
    record_file.append(RECORD)
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b" ")
    later_ns = path.stat().st_mtime_ns + 1_000_000_000  # as by an editor, after more than a tick of the system's clock
    os.utime(path, ns=(later_ns, later_ns))
    assert record_file.append(RECORD) == 2
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [RECORD] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [("a" * 300, "File name too long; choose a shorter name"), ("a\0b", "a NUL character in the path")],
)
def test_a_name_that_no_file_can_have_is_an_error_of_the_user(tmp_path, name, message):
    for path in (tmp_path / name, tmp_path / name / "records.jsonl"):
        with pytest.raises(WriteError, match=f"cannot write: {message}"):
            RecordFile(path).append(RECORD)
