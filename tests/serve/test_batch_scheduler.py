"""Many requests with one model: each is answered as if it were alone, what they share is computed once, memory is bounded."""

import random
import threading
import time

import pytest
import torch
from token_receivers import TokenReceiver, random_ids, run, submit

from orca_bench.models.model_loading import load_on_cpu
from orca_bench.serve.sampling import Sampler, Sampling
from orca_bench.serve.token_requests import QueueFull, SchedulerClosed, TokenRequest

GREEDY = Sampling(greedy=True)
TOLERANCE_NATS = 1e-4


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_on_cpu(tiny_model, "float32")


@torch.inference_mode()
def plain_log_probabilities(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(dim=-1)


def expect_plain_scores(model, prompt_ids, receiver, is_greedy=True):
    """The scores of a request's tokens are those of one plain pass over its prompt and text; greedy tokens are the likeliest."""
    ids = [*prompt_ids, *receiver.token_ids]
    rows = plain_log_probabilities(model, ids)[:-1]
    scores = [*(receiver.prompt_scores or [None] * len(prompt_ids)), *receiver.scores]
    assert len(scores) == len(ids)
    for position, score in enumerate(scores):
        if score is None:
            continue
        row = rows[position - 1]
        assert score.token_id == ids[position]
        assert score.log_probability == pytest.approx(float(row[score.token_id]), abs=TOLERANCE_NATS)
        best = row.topk(len(score.top)).values.tolist() if score.top else []
        assert [value for _, value in score.top] == pytest.approx(best, abs=TOLERANCE_NATS)
        assert [float(row[token_id]) for token_id, _ in score.top] == pytest.approx(best, abs=TOLERANCE_NATS)
        if is_greedy and position >= len(prompt_ids):
            assert float(row.max() - row[score.token_id]) <= TOLERANCE_NATS


def test_requests_that_come_and_go_at_random_are_answered_as_if_each_were_alone(scheduler, model):
    new_tokens_before = scheduler.statistics().new_tokens
    generator = random.Random(4)
    stems = [random_ids(generator, 90), random_ids(generator, 20)]
    receivers = []
    for number in range(24):
        prompt_ids = generator.choice([[], *stems]) + random_ids(generator, generator.choice([1, 3, 30, 300]))
        is_greedy = number % 3 != 0
        sampling = GREEDY if is_greedy else Sampling(seed=number)
        request = TokenRequest(
            prompt_ids, generator.choice([0, 1, 20, 60]), sampling, number % 4, scores_prompt=number % 2 == 0
        )
        receiver = TokenReceiver()
        handle = scheduler.submit(request, receiver)
        receivers.append((request, is_greedy, receiver))
        if number % 5 == 0:
            receiver.wait_for_tokens(generator.randrange(8))
            handle.cancel()
        elif number % 4 == 0:
            receiver.wait_for_tokens(generator.randrange(20))
    for request, is_greedy, receiver in receivers:
        end = receiver.wait()
        assert end.error is None
        assert end.new_tokens == len(receiver.scores)
        if end.reason == "length":
            assert end.new_tokens == request.max_new_tokens
        if end.reason != "cancelled" or receiver.scores:
            assert (receiver.prompt_scores is not None) == request.scores_prompt
            expect_plain_scores(model, request.prompt_ids, receiver, is_greedy)
    statistics = scheduler.statistics()
    assert (statistics.open_requests, statistics.waiting_requests) == (0, 0)
    new_tokens = sum(len(receiver.scores) for _, _, receiver in receivers)
    assert statistics.new_tokens - new_tokens_before == new_tokens


def test_a_sampled_text_depends_on_its_request_and_seed_alone(scheduler, model):
    generator = random.Random(7)
    prompt_ids, sampling = random_ids(generator, 40), Sampling(temperature=0.9, top_k=30, top_p=0.9, seed=5)
    alone = run(scheduler, prompt_ids, 30, sampling)
    others = [submit(scheduler, random_ids(generator, 50 + n), 60, Sampling(seed=n)) for n in range(7)]
    for other in others:
        other.wait_for_tokens(3)
    assert run(scheduler, prompt_ids, 30, sampling).token_ids == alone.token_ids
    sampler, ids = Sampler(sampling), list(prompt_ids)
    for token_id in alone.token_ids:
        with torch.inference_mode():
            assert sampler(model(input_ids=torch.tensor([ids])).logits[0, -1]) == token_id
        ids.append(token_id)
    assert run(scheduler, prompt_ids, 30, Sampling(temperature=0.9, seed=6)).token_ids != alone.token_ids


def test_a_temperature_of_nearly_0_is_greedy_and_its_neighbours_go_on(scheduler):
    neighbour = submit(scheduler, [8, 9, 10], 40, GREEDY)
    neighbour.wait_for_tokens(1)
    nearly_greedy = run(scheduler, [5, 6, 7], 10, Sampling(temperature=1e-39, top_k=0))
    assert nearly_greedy.end.error is None
    assert nearly_greedy.token_ids == run(scheduler, [5, 6, 7], 10, GREEDY).token_ids
    assert neighbour.wait().error is None


def test_a_second_turn_computes_only_what_the_first_did_not(scheduler, model):
    generator = random.Random(8)
    prompt_ids = random_ids(generator, 120)
    first = run(scheduler, prompt_ids, 12, GREEDY)
    second_prompt_ids = [*prompt_ids, *first.token_ids, *random_ids(generator, 9)]
    second = run(scheduler, second_prompt_ids, 12, GREEDY)
    assert first.end.cached_tokens == 0
    assert second.end.cached_tokens == 120 + len(first.token_ids) - 1  # the last new token was not fed
    assert second.end.prompt_tokens == len(second_prompt_ids)
    expect_plain_scores(model, second_prompt_ids, second)


def test_requests_that_come_together_compute_their_common_prefix_once(open_scheduler, model):
    scheduler = open_scheduler()
    generator = random.Random(9)
    stem = random_ids(generator, 400)
    prompts = [[*stem, *random_ids(generator, 3)] for _ in range(8)]
    receivers = [submit(scheduler, prompt_ids, 4, GREEDY, 2, True) for prompt_ids in prompts]
    cached_counts = sorted(receiver.wait().cached_tokens for receiver in receivers)
    assert cached_counts == [0, *[399] * 7]  # the last shared token gives the score of the first that is not shared
    for prompt_ids, receiver in zip(prompts, receivers, strict=True):
        expect_plain_scores(model, prompt_ids, receiver)


def test_scores_of_a_prompt_are_not_taken_from_a_request_that_has_none(scheduler, model):
    generator = random.Random(10)
    prompt_ids = random_ids(generator, 60)
    run(scheduler, prompt_ids, 2, GREEDY)
    assert run(scheduler, prompt_ids, 0, GREEDY, 1, True).end.cached_tokens == 0
    assert (
        run(scheduler, prompt_ids, 0, GREEDY, 3, True).end.cached_tokens == 0
    )  # three likeliest tokens, and one is known
    run(scheduler, prompt_ids, 0, GREEDY, 6, True)
    assert run(scheduler, prompt_ids, 0, GREEDY, 6, True).end.cached_tokens == 0  # so many are not cached
    again = run(scheduler, [*prompt_ids[:50], 7, 8], 0, GREEDY, 2, True)
    assert again.end.cached_tokens == 49
    assert again.end.reason == "length"
    expect_plain_scores(model, [*prompt_ids[:50], 7, 8], again)


def test_a_prompt_of_one_token_has_no_score_but_an_answer(scheduler, model):
    receiver = run(scheduler, [5], 3, GREEDY, 0, True)
    assert receiver.prompt_scores == [None]
    expect_plain_scores(model, [5], receiver)


def test_a_stop_token_ends_a_text_and_is_not_delivered(scheduler, model):
    """Of many seeds at a high temperature some draw the stop token: up to it the text is what the seed draws."""
    stop_ids = set(scheduler.tokenizer.stop_ids)
    receivers = [run(scheduler, [5, 6], 60, Sampling(temperature=3.0, top_k=0, seed=seed)) for seed in range(20)]
    assert not any(stop_ids & set(receiver.token_ids) for receiver in receivers)
    assert any(receiver.end.reason == "stop" and len(receiver.scores) < 60 for receiver in receivers)


def test_memory_stays_bounded_and_what_was_used_least_recently_goes(open_scheduler):
    scheduler = open_scheduler(max_cache_tokens=400)
    generator = random.Random(11)
    prompts = [random_ids(generator, 100) for _ in range(5)]

    def cached_tokens(prompt_ids):
        return run(scheduler, prompt_ids, 1, GREEDY).end.cached_tokens

    assert [cached_tokens(prompt_ids) for prompt_ids in prompts[:3]] == [0, 0, 0]
    assert cached_tokens([*prompts[0], 5]) == 100  # used again: now the second is the oldest
    assert cached_tokens(prompts[3]) == 0
    assert cached_tokens(prompts[4]) == 0
    assert cached_tokens([*prompts[0], 6]) == 100
    assert cached_tokens(prompts[1]) == 0
    receivers = [submit(scheduler, random_ids(generator, generator.randrange(1, 150)), 40, GREEDY) for _ in range(20)]
    while any(receiver.end is None for receiver in receivers):
        assert scheduler.statistics().cache_tokens <= 400
        time.sleep(0.01)
    assert scheduler.statistics().cache_tokens <= 400


def test_a_cancelled_request_leaves_its_place_to_the_next(open_scheduler):
    scheduler = open_scheduler(max_open=1)
    long_one = submit(scheduler, [5, 6, 7], 1000, GREEDY)
    waiting = submit(scheduler, [8, 9], 2, GREEDY)
    given_up = submit(scheduler, [8, 9, 10], 2, GREEDY)
    long_one.wait_for_tokens(3)
    given_up.handle.cancel()
    assert given_up.wait().reason == "cancelled"
    assert waiting.end is None
    count, steps = len(long_one.scores), scheduler.statistics().steps
    long_one.handle.cancel()
    assert long_one.wait().reason == "cancelled"
    assert len(long_one.scores) - count <= scheduler.statistics().steps - steps + 1
    assert waiting.wait().new_tokens == 2


def test_no_token_comes_after_the_step_in_which_a_request_is_cancelled(open_scheduler):
    scheduler = open_scheduler()
    receiver, has_handle = TokenReceiver(), threading.Event()

    def deliver(event):
        assert has_handle.wait(timeout=600)
        receiver(event)
        if len(receiver.scores) == 5:
            receiver.handle.cancel()

    receiver.handle = scheduler.submit(TokenRequest([5, 6, 7], 1000, GREEDY), deliver)
    has_handle.set()
    assert receiver.wait().reason == "cancelled"
    assert receiver.end.new_tokens == len(receiver.scores) == 5


def test_more_requests_than_may_wait_are_refused(open_scheduler):
    scheduler = open_scheduler(max_open=1, max_waiting=2)
    receivers = [submit(scheduler, [5, 6, 7 + n], 900, GREEDY) for n in range(3)]
    with pytest.raises(QueueFull) as refusal:
        submit(scheduler, [5], 1, GREEDY)
    assert refusal.value.retry_after_s >= 1
    receivers[0].handle.cancel()
    receivers[0].wait()
    assert submit(scheduler, [5], 1, GREEDY).end is None


def test_a_scheduler_that_is_closed_cancels_what_is_open_and_what_waits_and_takes_nothing_more(open_scheduler):
    scheduler = open_scheduler(max_open=1)
    receivers = [submit(scheduler, [5, 6, 7 + n], 1000, Sampling(seed=1)) for n in range(3)]
    receivers[0].wait_for_tokens(1)
    scheduler.close()
    assert receivers[0].end.reason in ("cancelled", "stop")
    assert [receiver.end.reason for receiver in receivers[1:]] == ["cancelled", "cancelled"]
    with pytest.raises(SchedulerClosed):
        submit(scheduler, [5], 1, GREEDY)
