"""What a batch scheduler refuses, what it does where something fails, and requests that do not fit its engine."""

import random
import threading

import pytest
import torch
from token_receivers import TokenReceiver, random_ids, run, submit

from orca_bench.errors import UserError
from orca_bench.evaluate.engine import memory_budget
from orca_bench.serve import batch_scheduler
from orca_bench.serve.request_sequence import RequestSequence
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.sequence_cache import SequenceCache
from orca_bench.serve.token_requests import SchedulerClosed, TokenRequest

GREEDY = Sampling(greedy=True)


def test_a_receiver_that_fails_ends_its_own_request_alone(scheduler):
    def fail(event):
        raise RuntimeError("the connection is gone")

    other = submit(scheduler, [5, 6], 30, Sampling(seed=3))
    scheduler.submit(TokenRequest([5, 6, 7], 500, GREEDY), fail)
    assert other.wait().error is None
    assert run(scheduler, [5], 2, GREEDY).end.new_tokens == 2


def test_an_answer_is_delivered_also_where_there_is_no_memory_to_keep_it(open_scheduler, monkeypatch):
    def run_out_of_memory(*_):
        raise torch.OutOfMemoryError("no memory")

    scheduler, prompt_ids = open_scheduler(), list(range(5, 65))
    with monkeypatch.context() as patch:
        patch.setattr(SequenceCache, "copy_prefix", run_out_of_memory)
        receiver = submit(scheduler, prompt_ids, 900, GREEDY)  # its cache is larger than what is to be kept of it
        receiver.wait_for_tokens(1)
        receiver.handle.cancel()
        assert (receiver.wait().reason, receiver.end.error) == ("cancelled", None)
    end = run(scheduler, prompt_ids, 2, GREEDY).end
    assert (end.reason, end.error, end.cached_tokens) == ("length", None, 0)


def test_a_fault_in_the_thread_of_the_model_ends_all_requests_and_takes_no_more(open_scheduler, monkeypatch):
    scheduler = open_scheduler(max_open=2)
    open_one = submit(scheduler, [5, 6, 7], 1000, GREEDY)
    open_one.wait_for_tokens(1)
    assert scheduler.is_working
    monkeypatch.setattr(batch_scheduler, "longest_prefix", lambda *_: 1 / 0)
    waiting = submit(scheduler, [8, 9], 2, GREEDY)
    for receiver in (open_one, waiting):
        assert receiver.wait().reason == "cancelled"
        assert "ZeroDivisionError" in receiver.end.error
    assert not scheduler.is_working
    assert scheduler.statistics().cache_tokens == 0
    with pytest.raises(SchedulerClosed):
        submit(scheduler, [5], 1, GREEDY)
    scheduler.close()


def test_a_request_that_has_ended_holds_no_memory_of_its_own(open_scheduler, monkeypatch):
    """One that waits for the prefix of another knows its sequence, which must not keep keys and values after its end."""
    scheduler, sequences = open_scheduler(), []

    class RecordedSequence(RequestSequence):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            sequences.append(self)

    monkeypatch.setattr(batch_scheduler, "RequestSequence", RecordedSequence)
    run(scheduler, list(range(5, 65)), 2, GREEDY)
    assert [(sequence.cache.capacity, sequence.scores) for sequence in sequences] == [(0, [])]
    assert scheduler.statistics().cache_tokens == 61


@pytest.mark.parametrize(
    "request_fields, problem",
    [
        (([], 1, GREEDY), "an empty prompt"),
        (([5, 10**6], 1, GREEDY), "a token id that is none"),
        (([-1], 1, GREEDY), "a token id that is none"),
        (([5] * 1000, 100, GREEDY), "context window of 1024"),
        (([5], -1, GREEDY), "a negative number"),
        (([5], 1, GREEDY, 21), "21 likeliest tokens; at most 20"),
        (([5], 1, Sampling(temperature=-0.5)), "a temperature of -0.5"),
        (([5], 1, Sampling(temperature=float("nan"))), "a temperature of nan"),
        (([5], 1, Sampling(temperature=float("inf"))), "a temperature of inf"),
        (([5], 1, Sampling(top_p=0.0)), "a top_p of 0.0"),
        (([5], 1, Sampling(top_p=float("nan"))), "a top_p of nan"),
        (([5], 1, Sampling(top_p=1.5)), "a top_p of 1.5"),
        (([5], 1, Sampling(seed=-1)), "a seed of -1"),
        (([5], 1, Sampling(seed=2**64)), "a seed of 18446744073709551616"),
    ],
)
def test_what_the_model_cannot_compute_is_refused(scheduler, request_fields, problem):
    with pytest.raises(UserError, match=problem):
        scheduler.submit(TokenRequest(*request_fields), TokenReceiver())


def test_a_request_that_never_fits_the_memory_is_refused(open_scheduler):
    scheduler = open_scheduler(max_cache_tokens=100)
    with pytest.raises(UserError, match="there is memory for 100; ask for fewer new tokens, or .* --cache-tokens"):
        submit(scheduler, [5] * 60, 60, GREEDY)
    assert run(scheduler, [5] * 60, 40, GREEDY).end.error is None


def test_models_that_share_a_machine_have_their_shares_of_the_memory(open_scheduler, monkeypatch):
    for kind in memory_budget.MAX_CACHE_TOKENS_BY_DEVICE:
        monkeypatch.setitem(memory_budget.MAX_CACHE_TOKENS_BY_DEVICE, kind, 2048)
    scheduler = open_scheduler(memory_share=1 / 4)
    with pytest.raises(UserError, match="there is memory for 512"):
        submit(scheduler, [5] * 60, 500, GREEDY)


def test_of_requests_that_are_too_long_for_the_engine_one_is_open_and_no_other_waits_for_its_prefix(open_scheduler):
    scheduler, order = open_scheduler(max_open=2), []
    scheduler._engine.max_tree_tokens = 100  # as with models whose positions change beyond a length
    is_busy, all_wait = threading.Event(), threading.Event()

    def hold_the_step(event):
        is_busy.set()
        assert all_wait.wait(timeout=600)

    scheduler.submit(TokenRequest([5], 1, GREEDY), hold_the_step)
    assert is_busy.wait(timeout=600)
    long_prompt_ids = random_ids(random.Random(12), 90)
    receivers = {}
    for name, prompt_ids, count in (
        ("long", long_prompt_ids, 60),
        ("long too", long_prompt_ids[::-1], 20),
        ("short", long_prompt_ids[:60], 3),
    ):
        receivers[name] = receiver = TokenReceiver()

        def deliver(event, name=name, receiver=receiver):
            order.append(name)
            receiver(event)

        scheduler.submit(TokenRequest(prompt_ids, count, GREEDY), deliver)
    all_wait.set()
    assert [receiver.wait().error for receiver in receivers.values()] == [None] * 3
    assert order[0] == "short"
    assert "long" not in order[order.index("long too") :]
