"""Sampled texts of the engine: they depend on their own request alone, in the tree and by plain forward passes."""

import pytest
import torch
from architectures import tiny_model_of
from transformers import AutoModelForCausalLM

from orca_bench.errors import UserError
from orca_bench.evaluate.engine.token_choice import RuleChooser, TokenChoice
from orca_bench.evaluate.engine.tree_engine import TreeEngine

PROMPTS = [[1, 5, 9, 3], [1, 5, 9, 4, 8], [1, 5, 9, 3], [2, 2], [1, 5, 9, 3]]
RULE = TokenChoice(temperature=1.5, top_k=0, seed=3)
RULES = {index: RULE.for_request(PROMPTS[index], index) for index in (0, 1, 2, 3)}


def _never(index, ids):
    return False


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def one_by_one(model, prompt, rule, count):
    """The tokens that a chooser takes from the logits of the whole text, one pass each."""
    chooser, ids = RuleChooser(rule, prompt), []
    for _ in range(count):
        with torch.inference_mode():
            ids.append(chooser.choose(model(torch.tensor([prompt + ids])).logits[0, -1], ids))
    return ids


@pytest.mark.parametrize("cache_tokens", [20, 4096])
def test_sampled_texts_are_those_of_one_request_at_a_time(model, cache_tokens):
    engine = TreeEngine(model, 64, max_cache_tokens=cache_tokens)
    texts = engine.generate_ids(PROMPTS, _never, 8, token_choices=RULES)
    for index, rule in RULES.items():
        assert texts[index] == one_by_one(model, PROMPTS[index], rule, 8)
    assert texts[4] == engine.generate_ids([PROMPTS[4]], _never, 8)[0]  # greedy beside sampled ones
    assert len({tuple(texts[index]) for index in (0, 2, 4)}) == 3  # three texts of one prompt
    backwards = engine.generate_ids(PROMPTS[::-1], _never, 8, token_choices={4 - i: rule for i, rule in RULES.items()})
    assert backwards[::-1] == texts


def test_a_penalty_counts_the_tokens_of_prompt_and_text(model):
    rule = TokenChoice(repetition_penalty=1.7)
    (ids,) = TreeEngine(model).generate_ids([PROMPTS[0]], _never, 8, token_choices={0: rule})
    with torch.inference_mode():
        output = model.generate(torch.tensor([PROMPTS[0]]), do_sample=False, max_new_tokens=8, repetition_penalty=1.7)
    assert ids == output[0, 4:].tolist()[: len(ids)] != TreeEngine(model).generate_ids([PROMPTS[0]], _never, 8)[0]


def test_a_full_memory_draws_the_same_tokens_again(model, monkeypatch):
    expected = TreeEngine(model).generate_ids(PROMPTS, _never, 8, token_choices=RULES)
    engine, forward_count = TreeEngine(model), 0
    compute_hidden = engine.tree_forward.last_hidden

    def last_hidden(*arguments):
        nonlocal forward_count
        forward_count += 1
        if forward_count == 5:
            raise torch.OutOfMemoryError
        return compute_hidden(*arguments)

    monkeypatch.setattr(engine.tree_forward, "last_hidden", last_hidden)
    assert engine.generate_ids(PROMPTS, _never, 8, token_choices=RULES) == expected


def test_plain_passes_draw_the_same_tokens():
    engine = TreeEngine(tiny_model_of("falcon"))
    engine.choose_path()
    assert engine.computation_path == "plain" and engine.plain_passes.use_cache
    texts = engine.generate_ids(PROMPTS, _never, 6, token_choices=RULES)
    assert texts[0] == one_by_one(engine.model, PROMPTS[0], RULES[0], 6)
    engine.plain_passes.use_cache = False
    assert engine.generate_ids(PROMPTS, _never, 6, token_choices=RULES) == texts
    with pytest.raises(UserError, match="no repetition penalty"):
        engine.generate_ids(PROMPTS[:1], _never, 6, token_choices={0: TokenChoice(repetition_penalty=2.0)})
