"""Items are read in a thread, a few ahead, in order; errors reach the caller, and nothing is left behind."""

import threading
import time

import pytest
from waiting import eventually

from orca_bench.train.read_ahead import ReadAhead


def read_ahead_threads():
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not read_ahead_threads()


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_all_items_come_in_their_order(capacity):
    with ReadAhead(iter(range(100)), capacity) as items:
        assert list(items) == list(range(100))
        assert list(items) == []  # as with any iterator
    with ReadAhead([], capacity) as items:
        assert list(items) == []


@pytest.mark.parametrize("capacity", [2, 5])
def test_no_more_items_are_ahead_than_said(capacity):
    numbers = []

    def items():
        for number in range(20):
            numbers.append(number)
            yield number

    with ReadAhead(items(), capacity) as ahead:
        eventually(lambda: len(numbers) >= capacity)
        time.sleep(0.05)
        assert len(numbers) == capacity
        assert next(ahead) == 0
        eventually(lambda: len(numbers) >= capacity + 1)
        time.sleep(0.05)
        assert len(numbers) == capacity + 1


def test_items_are_read_while_the_caller_works():
    threads = []

    def items():
        for number in range(3):
            threads.append(threading.current_thread())
            yield number

    with ReadAhead(items()) as ahead:
        eventually(lambda: len(threads) >= 2)  # before the caller takes the first one
        assert list(ahead) == [0, 1, 2]
    assert threading.current_thread() not in threads


def test_an_error_comes_after_the_items_before_it_and_stays():
    def items():
        yield 1
        yield 2
        raise FileNotFoundError("ids.npy")

    with ReadAhead(items()) as ahead:
        assert [next(ahead), next(ahead)] == [1, 2]
        for _ in range(2):
            with pytest.raises(FileNotFoundError, match=r"ids\.npy"):
                next(ahead)


def test_an_error_of_the_caller_stops_the_reading_and_passes_on():
    numbers = []

    def items():
        for number in range(10_000):
            numbers.append(number)
            yield number

    with pytest.raises(ZeroDivisionError), ReadAhead(items(), 3) as ahead:
        for item in ahead:
            1 / (5 - item)
    assert not read_ahead_threads() and len(numbers) <= 5 + 1 + 3 + 1


def test_closing_may_be_repeated_and_no_item_comes_after_it():
    ahead = ReadAhead(iter(range(100)))
    ahead.close()
    ahead.close()
    with pytest.raises(ValueError, match="after their block has ended"):
        next(ahead)
