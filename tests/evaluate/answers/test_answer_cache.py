"""The file of cached answers: what is found in it, where it lies, and what is said where it cannot be used."""

import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.answers import answer_cache
from orca_bench.evaluate.answers.answer_cache import AnswerCache, file_system_type


class Partition(NamedTuple):
    """A mounted file system."""

    mountpoint: str
    fstype: str


def mode(path):
    return sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()[0]


def test_what_is_put_is_found_by_its_identity_and_requests(tmp_path):
    path = tmp_path / "a.sqlite"
    first = AnswerCache(path, {"model": "a"})
    first.put([[1, 2], 1], [[-0.1, True]])
    assert first.get([[1, 2], 1]) == [[-0.1, True]] and first.get([[1, 2], 2]) is None
    assert first.has([[1, 2], 1]) and not first.has([[1, 2], 2])
    assert AnswerCache(path, {"model": "b"}).get([[1, 2], 1]) is None
    fresh = AnswerCache(path, {"model": "a"}, ignores_cached_answers=True)
    assert fresh.get([[1, 2], 1]) is None and not fresh.has([[1, 2], 1])
    number = 0.1 + 0.2
    first.put([[3]], [number])
    assert AnswerCache(path, {"model": "a"}).get([[3]]) == [number]  # to the last bit


def test_answers_of_another_format_are_never_found(tmp_path, monkeypatch):
    AnswerCache(tmp_path / "a.sqlite", 0).put([1], [2])
    monkeypatch.setattr(answer_cache, "KEY_FORMAT", "orca-bench answers 0")
    assert AnswerCache(tmp_path / "a.sqlite", 0).get([1]) is None


@pytest.mark.parametrize("system", ["nfs4", "cifs", "fuse.sshfs", "9p", "lustre"])
def test_on_a_networks_file_system_a_rollback_journal_is_used_and_said(tmp_path, system):
    folder = tmp_path / "a share"
    folder.mkdir()
    partitions = [Partition("/", "ext4"), Partition(str(folder), system), Partition(f"{folder}d", "ext4")]
    before = AnswerCache(folder / "a.sqlite", 0)  # of an evaluation that did not know of the network
    before.put([1], [2])
    before.close()
    store = AnswerCache(folder / "a.sqlite", 0, partitions=partitions)
    assert f"rollback journal, because it lies on a {system} file system" in store.journal_note
    assert mode(folder / "a.sqlite") == "delete" and store.get([1]) == [2]
    store.put([3], [4])
    assert AnswerCache(folder / "a.sqlite", 0, partitions=partitions).get([3]) == [4]
    assert (
        AnswerCache(tmp_path / "b.sqlite", 0, partitions=partitions).journal_note is None
        and mode(tmp_path / "b.sqlite") == "wal"
    )


def test_the_file_system_is_that_of_the_innermost_latest_mount(tmp_path):
    mounted = {"/": "ext4", "/data": "nfs", "/data/local": "xfs"}
    partitions = [*(Partition(*pair) for pair in mounted.items()), Partition("/data", "nfs4")]
    expected = {"/data/a": "nfs4", "/data/local/b": "xfs", "/database/a": "ext4", "/a": "ext4"}
    assert {path: file_system_type(Path(path), partitions) for path in expected} == expected
    assert file_system_type(Path("/a"), []) is None
    assert isinstance(file_system_type(tmp_path), str)  # as psutil lists them


def test_a_file_that_is_no_store_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_text("something else, and long enough to be looked at " * 20)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"this is not a file of cached answers; move it away \(mv a.sqlite "):
        AnswerCache(path, 0)
    assert path.read_bytes() == before
    sqlite3.connect(tmp_path / "b.sqlite").execute("CREATE TABLE portions (other TEXT)")
    with pytest.raises(UserError, match="damaged .*no such column.*move it away"):
        AnswerCache(tmp_path / "b.sqlite", 0).get([1])


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_a_damaged_file_ends_in_one_line_or_gives_whole_answers(tmp_path, place):
    path = tmp_path / "a.sqlite"
    store = AnswerCache(path, 0)
    for number in range(300):
        store.put([number], [["x" * 50, None]])
    store.close()
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + 6000] = b"\xff" * 6000
    path.write_bytes(data)
    try:
        store = AnswerCache(path, 0)
        for number in range(300):
            assert store.get([number]) in (None, [["x" * 50, None]])
    except UserError as error:
        assert "damaged" in str(error) and "move it away" in str(error)
    else:
        pytest.fail("the damage was not seen")


def test_an_answer_that_is_no_json_is_damage(tmp_path):
    store = AnswerCache(tmp_path / "a.sqlite", 0)
    store.put([1], [2])
    sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None).execute("UPDATE portions SET answers = '[2'")
    with pytest.raises(UserError, match="the cached answers are damaged; move it away"):
        store.get([1])


def test_a_file_that_another_process_holds_is_said_to_be_held(tmp_path):
    store = AnswerCache(tmp_path / "a.sqlite", 0, max_lock_wait_s=0.1)
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="another process has been writing the cached answers for 0 s; wait until"):
        store.put([1], [2])
    other.execute("ROLLBACK")
    store.put([1], [2])


def test_a_folder_in_the_files_place_is_named(tmp_path):
    (tmp_path / "a.sqlite").mkdir()
    with pytest.raises(UserError, match="a.sqlite: cannot cache answers: unable to open database file"):
        AnswerCache(tmp_path / "a.sqlite", 0)


def test_a_file_whose_journal_another_process_is_about_to_change_is_waited_for(tmp_path):
    """There SQLite gives up at once, whatever its timeout; the other process must be waited for all the same."""
    path = tmp_path / "a.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    end.start()
    AnswerCache(path, {}, probe_log_probability=1.0).close()
    end.join()
    assert mode(path) == "wal"
