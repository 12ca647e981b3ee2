"""`data build` in batches, in processes of its own: what is written, what a kill or a signal leaves, what the screen says."""

import os
import random
import re
import signal
import time

import pytest
from batch_server import BatchServer
from data_recipes import RECIPE, manifest_of, records_of, write_build_inputs
from teacher_server import running_teacher_server
from waiting import PATIENCE_S, eventually

KILL_COUNT = int(os.environ.get("ORCA_BENCH_KILLS", "50"))
COUNT = 20
#: Of the recipe's 20 requests: 3 batches, and looks that are far enough apart for a call that is under way at a kill.
BATCH_WORDS = ("-o", "teacher.batch.most_requests=8", "-o", "teacher.batch.poll_seconds=0.5")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def serving(**settings):
    return running_teacher_server(server_class=BatchServer, keeps_bodies=False, **settings)


def words_for(command, server, *words):
    recipe = write_build_inputs(command.folder, RECIPE, server.base_url)
    return ("data", "build", recipe, "-o", "output=out", *words)


def records_bytes(command):
    return (command.folder / "out" / "records.jsonl").read_bytes()


@pytest.fixture
def online_bytes(command):
    """The records of a build that asked one request at a time."""
    with serving() as server:
        assert command(*words_for(command, server)).returncode == 0
    content = records_bytes(command)
    for file in (command.folder / "out").iterdir():
        file.unlink()
    return content


def test_the_records_are_those_of_single_requests_at_half_the_price(command, online_bytes):
    with serving() as server:
        process = command(*words_for(command, server, *BATCH_WORDS))
        assert process.returncode == 0, process.stderr
        dollars = 0.5 * (server.prompt_tokens + 2 * server.completion_tokens) / 1e6
    assert records_bytes(command) == online_bytes and len(records_of(command.folder)) == COUNT
    assert manifest_of(command.folder)["spending"]["dollars"] == pytest.approx(dollars, abs=1e-6)
    assert "batch-1: created, 8 requests" in process.stderr
    assert "batch-3: completed: 4 of 4 requests answered" in process.stderr
    assert not (command.folder / "out" / ".batches").exists()


def check_kills(command, expected_bytes, kill_count, pause_of, batch_delay_s):
    """Kill a build again and again, let it finish, and check what it wrote, asked and paid.

    Returns the server's newest call at each kill.
    """
    with serving(batch_delay_s=batch_delay_s, call_delay_s=0.1) as server:
        calls_at_kills = []
        while len(calls_at_kills) < kill_count:
            call_count = server.calls.total()
            process = command.start(*words_for(command, server, *BATCH_WORDS))
            eventually(lambda: server.calls.total() > call_count or process.poll() is not None)  # noqa: B023
            if process.poll() is not None:
                break  # everything was answered
            time.sleep(pause_of(len(calls_at_kills)))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            calls_at_kills.append(server.newest_call)
        process = command.process(*words_for(command, server, *BATCH_WORDS))
        assert process.returncode == 0, process.stderr
        assert server.billed.total() == COUNT == len(server.billed)
        assert len(server.batches) == 3
    assert records_bytes(command) == expected_bytes
    manifest = manifest_of(command.folder)
    assert manifest["is_complete"] and manifest["spending"]["unknown_attempts"] == 0
    assert (manifest["spending"]["prompt_tokens"], manifest["spending"]["completion_tokens"]) == (
        server.prompt_tokens,
        server.completion_tokens,
    )
    return calls_at_kills


def test_a_build_that_is_killed_in_any_step_asks_no_request_twice(command, online_bytes):
    generator = random.Random(0)
    pause_of = lambda kill: generator.uniform(0, 0.6)  # noqa: E731
    calls = check_kills(command, online_bytes, 6, pause_of, batch_delay_s=1.0)
    assert len(calls) >= 3 and len(set(calls)) > 1


@pytest.mark.long
def test_builds_that_are_killed_many_times_at_random_ask_no_request_twice(command, online_bytes):
    generator = random.Random(1)
    calls: list[str] = []
    while len(calls) < KILL_COUNT:
        calls += check_kills(command, online_bytes, 8, lambda kill: generator.uniform(0, 0.6), batch_delay_s=0.5)
        for file in (command.folder / "out").iterdir():
            file.unlink()
    assert KILL_COUNT < 50 or {"upload", "create", "retrieve", "download"} <= set(calls)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_says_what_stays_open_and_collects_it_later(command, signal_number):
    with serving(batch_delay_s=3600) as server:
        process = command.start(*words_for(command, server, *BATCH_WORDS))
        eventually(lambda: server.calls["retrieve"] >= 3)
        process.send_signal(signal_number)
        _, error_text = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130 and "Traceback" not in error_text, error_text
        assert re.search(r"3 batches of at most \$0\.0\d+ not collected yet", error_text), error_text
        assert "0 of 20 requests are answered" in error_text.splitlines()[-1]
        for batch in server.batches.values():
            batch["ends_at"] = 0
        process = command(*words_for(command, server, *BATCH_WORDS))
        assert "batch-1: goes on, 8 requests" in process.stderr and process.returncode == 0
        assert server.billed.total() == COUNT and len(server.batches) == 3


def test_a_dry_run_says_what_is_in_batches(command):
    with serving(batch_delay_s=3600) as server:
        process = command.start(*words_for(command, server, *BATCH_WORDS, "-o", "sources.dolly.sample=3"))
        eventually(lambda: server.calls["retrieve"] >= 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
        process = command(*words_for(command, server, *BATCH_WORDS, "--dry-run"))
    assert re.search(r"source +rows +requests +characters +answered +in batches +to ask", process.stdout)
    assert re.search(r"alpaca +12 +12 +[\d,]+ +0 +12 +0\n", process.stdout)
    assert re.search(r"dolly +8 +8 +[\d,]+ +0 +3 +5\n", process.stdout)
    assert "0 requests answered, 15 are in batches at the server, for at most $0.0" in process.stdout


def test_single_requests_are_refused_while_batches_are_open(command):
    with serving(batch_delay_s=3600) as server:
        process = command.start(*words_for(command, server, *BATCH_WORDS))
        eventually(lambda: server.calls["retrieve"])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
        process = command(*words_for(command, server))
        assert process.returncode == 2 and "error: teacher.batch: 3 batches of this build are open" in process.stderr
        assert server.billed.total() == COUNT


def test_an_estimate_in_batches_is_not_paid_twice(command):
    with serving() as server:
        process = command(*words_for(command, server, *BATCH_WORDS, "--estimate", 6))
        assert process.returncode == 0 and server.billed.total() == 6, process.stderr
        assert command(*words_for(command, server, *BATCH_WORDS)).returncode == 0
        assert server.billed.total() == COUNT


def test_the_answers_that_were_collected_are_written_when_a_batch_ends_the_build(command):
    with serving(batch_fault_of=lambda number: "failed" if number == 3 else None) as server:
        process = command(*words_for(command, server, *BATCH_WORDS))
    assert process.returncode == 2 and "error: teacher.batch: the batch failed: line 1: This line" in process.stderr
    assert len(records_of(command.folder)) == 16 and not manifest_of(command.folder)["is_complete"]


def test_a_wrong_key_ends_in_one_line_without_the_key(command):
    with serving(call_fault_of=lambda call, number: "wrong key") as server:
        process = command(*words_for(command, server, *BATCH_WORDS))
    assert process.returncode == 2 and process.stderr.count("error: ") == 1, process.stderr
    assert "the server answered 401" in process.stderr and "sk-test" not in process.stderr + process.stdout
