"""Requests are sent as a prefix tree is walked: a server with a prefix cache computes what they share once."""

import asyncio
import os
import random

import pytest

from orca_bench.evaluate.engine import tree_engine
from orca_bench.evaluate.request_encoding import GenerationPrompt, ScoredSequence, encoding_of_protocol
from orca_bench.evaluate.servers.request_order import RequestPlan, plan_requests, send_all
from orca_bench.models.model_folder import ModelFolder


def prompts_of_a_tree(seed, questions=6, choices=4):
    """Prompts of one long prefix, of questions, and of choices of each, in lexicographic order."""
    source = random.Random(seed)

    def ids(count):
        return [source.randrange(3, 900) for _ in range(count)]

    examples = ids(150)
    return sorted(
        examples + question + choice
        for question in (ids(60) for _ in range(questions))
        for choice in (ids(5) for _ in range(choices))
    )


def test_a_request_waits_for_the_first_that_has_what_it_shares_with_the_one_before():
    a, b, c = [1] * 40, [2] * 40, [3] * 40
    prompts = [[*a, *a], [*a, *b, 5], [*a, *b, 6], [*a, *b, *c], [*a, *c], [*b, 1], [*b, 2]]
    assert plan_requests(prompts, True).awaited_positions == [None, 0, 1, 1, 0, None, 5]
    assert plan_requests(prompts, False).awaited_positions == [None] * 7
    assert plan_requests([[1, 2], [1, 3]], True).awaited_positions == [None, None]  # sooner computed than waited for
    assert plan_requests([a, a, [*a, 1]], True).awaited_positions == [None, 0, 0]
    assert plan_requests([], True).awaited_positions == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_shared_has_been_answered_before_it_is_sent(seed):
    source = random.Random(seed)
    prompts = sorted([source.randrange(2) for _ in range(source.randrange(33, 60))] for _ in range(60))
    prompts = sorted(
        source.choice(prompts)[:33] + [source.randrange(2) for _ in range(source.randrange(60))] for _ in prompts
    )
    answered = []

    async def answer(position):
        prompt = prompts[position]
        previous = prompts[position - 1] if position else []
        shared = len(os.path.commonprefix([prompt, previous]))
        if shared >= 32:
            assert any(prompts[other][:shared] == prompt[:shared] for other in answered)
        await asyncio.sleep(source.random() / 1000)
        answered.append(position)
        return position

    plan = plan_requests(prompts, True)
    assert asyncio.run(send_all(plan, answer, 7)) == list(range(60)) and sorted(answered) == list(range(60))


def test_no_more_are_sent_at_a_time_than_may_be_and_the_first_failure_cancels_the_others():
    under_way, most, cancelled = set(), [], []

    async def answer(position):
        under_way.add(position)
        most.append(len(under_way))
        try:
            if position == 5:
                raise ValueError("five")
            await asyncio.sleep(60 if position > 5 else 0.001)
        except asyncio.CancelledError:
            cancelled.append(position)
            raise
        finally:
            under_way.discard(position)

    with pytest.raises(ValueError, match="five"):
        asyncio.run(send_all(RequestPlan([None] * 20), answer, 3))
    assert max(most) == 3 and not under_way and set(cancelled) <= set(range(3, 9))


def test_sglangs_cache_computes_what_prompts_share_once_and_gives_the_answers_of_the_engine_here(
    connect, sglang, tiny_model
):
    prompts = prompts_of_a_tree(0)
    sequences = [ScoredSequence(prompt, len(prompt) - 5) for prompt in prompts]
    random.Random(1).shuffle(sequences)
    url, server = sglang()
    engine = connect(url, max_concurrent_requests=8)
    answers = engine.log_likelihoods(sequences)
    distinct_tokens = 150 + 6 * 60 + 6 * 4 * 5
    # The last token of a context is computed with each choice: its output scores the choice's first token.
    assert distinct_tokens <= server.answers.computed <= distinct_tokens + len(sequences)
    own = tree_engine.load_engine(ModelFolder(str(tiny_model)))
    for (value, greedy), (own_value, own_greedy) in zip(answers, own.log_likelihoods(sequences), strict=True):
        assert value == pytest.approx(own_value, abs=1e-4) and greedy == own_greedy


def test_texts_after_prompts_with_a_common_prefix_find_it_in_vllms_cache(connect, served, tiny_model):
    tokenizer = ModelFolder(str(tiny_model)).tokenizer
    rule = encoding_of_protocol("orca", tokenizer, 1024)
    prompts = [GenerationPrompt(prompt, 3, 0) for prompt in prompts_of_a_tree(2, choices=1)]
    url, server = served("details")
    engine = connect(url, max_concurrent_requests=6)
    engine.check(False, tokenizer.stop_ids)
    engine.generate(prompts, [[] for _ in prompts], rule)
    assert engine.describe_prefix_cache() == {
        "prompt_tokens": 6 * 215,
        "cached_tokens": 5 * (150 // 16 * 16),
        "counted_by": "answers",
    }
