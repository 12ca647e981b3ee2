"""Guessed tokens: the texts are exactly the greedy ones, in fewer passes where they repeat themselves."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from orca_bench.evaluate.engine import draft_tokens
from orca_bench.evaluate.engine.draft_tokens import DraftTokens
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.evaluate.engine.tree_forward import TreeForward


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


@pytest.fixture
def passes(monkeypatch):
    """How many tokens each pass fed."""
    counts, last_hidden = [], TreeForward.last_hidden

    def count(self, ids, positions, pattern):
        counts.append(ids.numel())
        return last_hidden(self, ids, positions, pattern)

    monkeypatch.setattr(TreeForward, "last_hidden", count)
    return counts


def test_a_guess_is_what_followed_the_same_three_tokens_and_grows_while_it_is_right():
    drafts = DraftTokens([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    assert drafts.propose(9) == [4]
    drafts.note_result([4], 1)
    assert drafts.propose(9) == [4, 5] and drafts.propose(1) == [4] and drafts.propose(-1) == []
    drafts.note_result([4, 5], 0)
    assert drafts.propose(9) == [4]
    drafts.append(9)
    assert drafts.propose(9) == []


def test_texts_are_the_greedy_ones_with_fewer_passes(model, passes, monkeypatch):
    """Prompts that repeat themselves, in slots for a few; texts that end in the midst of a right guess."""
    rng = random.Random(2)
    words = [[rng.randrange(3, model.config.vocab_size) for _ in range(6)] for _ in range(4)]
    prompts = [[1, *rng.choice(words), *rng.choice(words), *rng.choice(words)] for _ in range(9)]
    lengths = [rng.randint(1, 60) for _ in prompts]

    def texts():
        passes.clear()
        engine = TreeEngine(model, max_cache_tokens=250)
        return engine.generate_ids(prompts, lambda n, ids: len(ids) == lengths[n], 60), len(passes)

    guessed, few_passes = texts()
    monkeypatch.setattr(draft_tokens, "MAX_DRAFT_TOKENS", 0)
    plain, many_passes = texts()
    assert guessed == plain and [len(ids) for ids in guessed] == lengths
    assert few_passes < many_passes


def test_a_slot_that_is_full_to_the_last_token_takes_no_guess_too_many(model):
    prompts = [[1, 5, 9, 5, 9, 5, 9, 5, 9]]
    for length in (1, 2, 3, 7, 30):
        (ids,) = TreeEngine(model).generate_ids(prompts, lambda n, ids: False, length)
        out = model.generate(
            torch.tensor(prompts), max_new_tokens=length, do_sample=False, pad_token_id=0, eos_token_id=None
        )
        assert ids == out[0, len(prompts[0]) :].tolist()


def test_a_wrong_guess_leaves_no_trace(model, monkeypatch):
    """All guesses are wrong, and longest: keys and values of them are in the slots."""
    prompts = [[1, 5 + n, 9, 30, 31] for n in range(5)]
    expected = TreeEngine(model).generate_ids(prompts, lambda n, ids: False, 20)
    monkeypatch.setattr(DraftTokens, "propose", lambda self, count: [7] * max(0, min(8, count)))
    assert TreeEngine(model).generate_ids(prompts, lambda n, ids: False, 20) == expected


def test_a_model_with_a_sliding_window_is_not_guessed_for(passes):
    shape = dict(vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**shape, num_key_value_heads=2, sliding_window=5)).eval()
    TreeEngine(model).generate_ids([[1, 5, 9, 5, 9, 5, 9]], lambda n, ids: False, 20)
    assert passes[1:] == [1] * 19
