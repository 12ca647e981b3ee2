"""Each process of a launcher notices that another was killed, is stopped, has failed or has ended its work."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import PATIENCE_S, eventually

from orca_bench.errors import UserError
from orca_bench.train import peer_watch
from orca_bench.train.peer_watch import Failure, watch_peers

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests/support/watched_process.py"


@pytest.fixture
def start_processes(tmp_path):
    """`start_processes(silence_s)`: three processes that watch one another, by rank; killed after the test."""
    processes = []

    def start(silence_s):
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "WORLD_SIZE": "3"}
        environment |= {"PYTHONPATH": str(ROOT)}
        for rank in range(3):
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), str(silence_s), str(tmp_path)],
                    env=environment | {"RANK": str(rank)},
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for process in processes:
            assert process.stdout.readline() == "watching\n"
        return processes

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("rank", [0, 2])
def test_a_process_that_is_killed_is_named_by_all_others_within_seconds(start_processes, rank):
    processes = start_processes(PATIENCE_S)
    processes[rank].kill()
    for other in (process for process in processes if process is not processes[rank]):
        last_line = other.communicate(timeout=PATIENCE_S)[0]
        assert last_line.startswith(f"ended: rank {rank} on node-{rank} was lost: it was killed"), last_line
        assert "the same command on all machines continues from the newest checkpoint" in last_line
        assert other.returncode == 1


def test_a_process_that_is_stopped_is_taken_for_lost_after_a_while(start_processes):
    processes = start_processes(15)
    processes[1].send_signal(signal.SIGSTOP)
    for other in (processes[0], processes[2]):
        assert "rank 1 on node-1 was lost: silent for 15 s: it is stopped" in other.communicate(timeout=PATIENCE_S)[0]


def test_processes_that_are_stopped_together_and_go_on_take_nobody_for_lost(start_processes):
    processes = start_processes(8)
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    time.sleep(10)
    for process in processes:
        process.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    assert [process.poll() for process in processes] == [None] * 3


class Watches:
    """The watches of three ranks in this process, and why each of them would have been ended."""

    def __init__(self, monkeypatch):
        from torch.distributed import HashStore

        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", "1")
        monkeypatch.setattr(peer_watch, "_END_TIMEOUT_S", 0.5)
        self.failure_by_rank, self.by_rank, store = {}, {}, HashStore()

        def watch(rank):
            def end_process(failure):
                self.failure_by_rank[rank] = failure

            self.by_rank[rank] = watch_peers(store, rank, 3, f"node-{rank}", end_process)

        threads = [threading.Thread(target=watch, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.fixture
def watches(monkeypatch):
    watches = Watches(monkeypatch)
    yield watches
    for watch in watches.by_rank.values():
        watch.close()


def test_the_error_of_one_process_is_that_of_all(watches):
    watches.by_rank[2].close(Failure("the disk is full", 2))
    failure = Failure("rank 2 on node-2: the disk is full", 2)
    eventually(lambda: watches.failure_by_rank == {0: failure, 1: failure})
    assert isinstance(failure.error(), UserError) and isinstance(Failure("x").error(), RuntimeError)


def test_a_process_whose_training_ends_by_itself_after_a_failure_is_not_ended(watches):
    watches.by_rank[0].close(Failure("x"))
    assert watches.by_rank[1].wait_for_failure(PATIENCE_S) == Failure("rank 0 on node-0: x")
    watches.by_rank[1].close()
    eventually(lambda: set(watches.failure_by_rank) == {2})


def test_a_process_that_has_ended_its_work_is_not_lost(watches):
    for rank in (2, 0):
        watches.by_rank[rank].close()
        watches.by_rank[rank].close()
    assert watches.by_rank[1].wait_for_failure(1.5) is None and not watches.failure_by_rank


def start_watch(store, rank, world_size):
    """A thread that connects rank and watches; a list of its watch, or of why there is none."""
    outcomes = []

    def watch():
        try:
            outcomes.append(watch_peers(store, rank, world_size, f"node-{rank}", lambda failure: None))
        except UserError as error:
            outcomes.append(error)

    threading.Thread(target=watch).start()
    return outcomes


@pytest.fixture
def store(monkeypatch):
    from torch.distributed import HashStore

    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    return HashStore()


def test_strangers_who_connect_are_no_processes_of_the_training_and_hold_nobody_up(store):
    first = start_watch(store, 0, 2)
    address = json.loads(store.get(peer_watch._ADDRESS_KEY))["address"]
    strangers = [socket.create_connection(address) for _ in range(5)]
    greetings = (b'{"secret": "guessed", "rank": 1, "host": "node-1"}\n', b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"{", b"")
    for stranger, greeting in zip(strangers, greetings, strict=True):
        stranger.sendall(greeting)
    second = start_watch(store, 1, 2)
    eventually(lambda: first and second)
    for stranger in strangers:
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""  # it is closed
        stranger.close()
    for (watch,) in (first, second):
        assert watch.failure is None
        watch.close()


def test_a_rank_that_does_not_connect_is_named_to_those_that_have(store, monkeypatch):
    monkeypatch.setattr(peer_watch, "_CONNECT_TIMEOUT_S", 5)
    first, second = start_watch(store, 0, 3), start_watch(store, 1, 3)
    eventually(lambda: first and second)
    assert "rank 0 on node-0 cannot connect with the other ranks (no connection in 5 s from rank 2)" in str(first[0])
    failure = second[0].wait_for_failure(PATIENCE_S)
    assert failure == Failure("rank 0 on node-0: no connection in 5 s from rank 2", 2)
    second[0].close()


@pytest.mark.parametrize("notices_stopped", [True, False])
def test_a_silent_process_is_waited_for_where_all_are_on_one_machine(store, monkeypatch, notices_stopped):
    monkeypatch.setattr(peer_watch, "_SILENCE_S", 1)
    monkeypatch.setattr(peer_watch, "_BEAT_INTERVAL_S", 0.2)
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(watch_peers(store, 0, 2, "node-0", outcomes.append, notices_stopped))
    )
    thread.start()
    silent_connection = peer_watch._connect(store, 1, "node-1")
    thread.join()
    failure = outcomes[0].wait_for_failure(PATIENCE_S if notices_stopped else 2)
    assert (failure is not None) == notices_stopped
    outcomes[0].close()
    silent_connection.socket.close()


def test_what_is_no_message_is_a_failure_and_does_not_end_the_watch_silently(watches):
    watches.by_rank[1]._connections()[0].socket.sendall(b"no message\n")
    failure = watches.by_rank[0].wait_for_failure(PATIENCE_S)
    assert failure.message.startswith("rank 1 on node-1 sent what is no message")
