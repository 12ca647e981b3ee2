"""Files of kept answers: whether an evaluation has one open, and their removal."""

import os
import time

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.evaluate.answers.stored_files import (
    answer_cache_bytes,
    answer_caches,
    is_in_use,
    remove_answer_cache,
)


@pytest.fixture
def cache_path(tmp_path):
    (tmp_path / "results" / "step-5").mkdir(parents=True)
    return tmp_path / "results" / "step-5" / "answers.sqlite"


def test_a_file_that_an_evaluation_has_open_is_in_use_and_stays(cache_path, tmp_path):
    cache = AnswerCache(cache_path, "identity")
    assert answer_caches(tmp_path) == [cache_path] and is_in_use(cache_path)
    with pytest.raises(UserError, match="an evaluation is writing it"):
        remove_answer_cache(cache_path)
    cache.close()
    assert not is_in_use(cache_path) and answer_cache_bytes(cache_path) >= cache_path.stat().st_size
    remove_answer_cache(cache_path)
    assert list(cache_path.parent.iterdir()) == []


def test_what_a_killed_evaluation_left_goes_with_its_companions(cache_path):
    AnswerCache(cache_path, "identity").close()
    for suffix in ("-wal", "-shm"):
        cache_path.with_name(cache_path.name + suffix).write_bytes(b"")
    remove_answer_cache(cache_path)
    assert list(cache_path.parent.iterdir()) == []


def test_a_file_without_wal_is_in_use_for_a_while_after_it_was_written(cache_path):
    AnswerCache(cache_path, "identity", partitions=[]).close()
    import sqlite3

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
