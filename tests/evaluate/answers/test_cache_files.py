"""Files of cached answers: whether an evaluation has one open, and their removal."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.evaluate.answers.cache_files import (
    answer_cache_bytes,
    answer_caches,
    has_unfinished_evaluation,
    is_in_use,
    remove_answer_cache,
)


@pytest.fixture
def cache_path(tmp_path):
    (tmp_path / "results" / "step-5").mkdir(parents=True)
    return tmp_path / "results" / "step-5" / "answers.sqlite"


@pytest.fixture
def evaluation(cache_path):
    """Another process that has the file open, with an answer that is not yet in the database itself."""
    program = f"""
from pathlib import Path
from orca_bench.evaluate.answers.answer_cache import AnswerCache
cache = AnswerCache(Path({str(cache_path)!r}), "identity")
cache.put([1], [2])
print("open", flush=True)
input()
cache.close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_file_that_an_evaluation_has_open_is_in_use_and_stays(cache_path, tmp_path, evaluation):
    assert answer_caches(tmp_path) == [cache_path] and is_in_use(cache_path)
    with pytest.raises(UserError, match="an evaluation is writing it"):
        remove_answer_cache(cache_path)
    evaluation.communicate("\n")
    assert not is_in_use(cache_path) and answer_cache_bytes(cache_path) >= cache_path.stat().st_size
    remove_answer_cache(cache_path)
    assert list(cache_path.parent.iterdir()) == []


def test_a_killed_evaluation_continues_from_its_file(cache_path, evaluation):
    evaluation.kill()
    evaluation.wait()
    before = contents(cache_path.parent)
    assert not is_in_use(cache_path) and has_unfinished_evaluation(cache_path)
    with pytest.raises(UserError, match="an unfinished evaluation continues from it"):
        remove_answer_cache(cache_path)
    assert contents(cache_path.parent) == before and len(before) == 3
    AnswerCache(cache_path, "identity").close()
    assert not has_unfinished_evaluation(cache_path)


def test_an_evaluation_has_begun_until_it_has_finished(cache_path):
    for other in ("identity", "another"):
        cache = AnswerCache(cache_path, other)
        cache.begin_evaluation(["orca.json", None])
        cache.begin_evaluation(["orca.json", None])
        cache.close()
    assert has_unfinished_evaluation(cache_path)
    for other, is_unfinished in (("identity", True), ("another", False)):
        cache = AnswerCache(cache_path, other)
        cache.finish_evaluation(["orca.json", 5])
        cache.finish_evaluation(["orca.json", None])
        cache.close()
        assert has_unfinished_evaluation(cache_path) == is_unfinished


def test_a_file_that_was_written_before_evaluations_were_is_not_needed(cache_path):
    AnswerCache(cache_path, "identity").close()
    with sqlite3.connect(cache_path) as connection:
        connection.execute("DROP TABLE unfinished")
    connection.close()
    assert not has_unfinished_evaluation(cache_path)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_looking_changes_nothing(cache_path, mode):
    AnswerCache(cache_path, "identity").close()
    connection = sqlite3.connect(cache_path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.close()
    a_day_ago = time.time() - 86400
    os.utime(cache_path, (a_day_ago, a_day_ago))
    before = contents(cache_path.parent)
    assert not is_in_use(cache_path) and not has_unfinished_evaluation(cache_path)
    assert contents(cache_path.parent) == before


def test_the_empty_files_of_a_killed_evaluation_go_with_its_companions(cache_path):
    AnswerCache(cache_path, "identity").close()
    for suffix in ("-wal", "-shm"):
        cache_path.with_name(cache_path.name + suffix).write_bytes(b"")
    remove_answer_cache(cache_path)
    assert list(cache_path.parent.iterdir()) == []


def test_a_file_without_wal_is_in_use_for_a_while_after_it_was_written(cache_path):
    AnswerCache(cache_path, "identity", partitions=[]).close()
    with sqlite3.connect(cache_path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    assert is_in_use(cache_path)
    an_hour_ago = time.time() - 3600
    os.utime(cache_path, (an_hour_ago, an_hour_ago))
    assert not is_in_use(cache_path)


def test_a_file_that_is_no_database_is_in_nobody_s_use(cache_path):
    cache_path.write_text("something else, of some length, so that it has a header")
    assert not is_in_use(cache_path)
    remove_answer_cache(cache_path)
    assert not cache_path.exists()
