"""Workers that the system does not start: the records are checked all the same, and no process is left."""

import contextlib
import errno
import mmap
import multiprocessing
import os
import signal
import threading

import pytest
from planted_records import planted_records, write_lines

from orca_bench.data import record_check
from orca_bench.data.record_check import CheckOptions, check_records


@pytest.fixture
def records_file(tmp_path, monkeypatch):
    """A file of three batches."""
    monkeypatch.setattr(record_check, "_ROWS_IN_BATCH", 100)
    return write_lines(tmp_path / "a.jsonl", planted_records())


def report_of(records_file, worker_count):
    return check_records([records_file], options=CheckOptions(worker_count=worker_count)).to_json()


@contextlib.contextmanager
def reserved_memory():
    """More memory than the machine has, of which nothing is used; skips the test where a process can be forked beside it.

    Linux looks at one mapping at a time, so it takes quarters; those that lie side by side become one.
    """
    quarter_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    with contextlib.ExitStack() as mappings:
        try:
            for _ in range(6):
                mapping = mmap.mmap(-1, quarter_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                mappings.enter_context(contextlib.closing(mapping))
        except OSError:
            pytest.skip("this system does not let a process reserve more memory than there is")
        with contextlib.suppress(OSError):
            if (process_id := os.fork()) == 0:
                os._exit(0)
            os.waitpid(process_id, 0)
            pytest.skip("this system forks a process that has reserved more memory than there is")
        yield


def test_a_process_that_has_reserved_more_memory_than_there_is_checks_the_records_itself(records_file, caplog):
    expected = report_of(records_file, worker_count=1)
    with reserved_memory():
        assert report_of(records_file, worker_count=2) == expected
    assert "Cannot allocate memory" in caplog.text


def test_where_the_second_worker_is_not_started_the_first_one_is_ended(records_file, monkeypatch):
    expected, fork, process_ids = report_of(records_file, worker_count=1), os.fork, []

    def fork_once():
        if process_ids:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        process_ids.append(fork())
        return process_ids[0]

    monkeypatch.setattr(os, "fork", fork_once)
    earlier_children = multiprocessing.active_children()
    assert report_of(records_file, worker_count=2) == expected
    assert multiprocessing.active_children() == earlier_children
    with pytest.raises(ProcessLookupError):
        os.kill(process_ids[0], 0)


def test_where_the_thread_of_the_workers_is_not_started_they_are_ended(records_file, monkeypatch, caplog):
    expected = report_of(records_file, worker_count=1)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    earlier_children = multiprocessing.active_children()
    assert report_of(records_file, worker_count=2) == expected
    assert multiprocessing.active_children() == earlier_children
    assert "can't start new thread" in caplog.text


@pytest.mark.parametrize("fork_limit", [1, 2])
def test_an_interrupt_while_the_workers_are_started_ends_them_before_it_is_raised(
    records_file, monkeypatch, fork_limit
):
    fork, process_ids = os.fork, []

    def fork_at_interrupt():
        signal.raise_signal(signal.SIGINT)
        if len(process_ids) == fork_limit:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        process_ids.append(fork())
        return process_ids[-1]

    monkeypatch.setattr(os, "fork", fork_at_interrupt)
    earlier_children = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        report_of(records_file, worker_count=2)
    assert multiprocessing.active_children() == earlier_children, interrupt  # whose traceback holds the executor
