"""The engine against plain forward passes: the same log-probabilities, flags and greedy texts."""

import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from orca_bench.errors import UserError
from orca_bench.evaluate import engine as engines
from orca_bench.evaluate.engine import Engine, Ids, ancestor_mask


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def plain(model, sequence):
    ids = torch.tensor([sequence.ids])
    with torch.inference_mode():
        table = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    rows = range(sequence.start - 1, len(sequence.ids) - 1)
    targets = sequence.ids[sequence.start :]
    return float(table[rows, targets].sum()), bool((table[rows].argmax(-1) == torch.tensor(targets)).all())


def random_sequences(model, count, seed=0):
    """Sequences that share prefixes of every length, some equal, some a prefix of another, some of one scored token."""
    rng = random.Random(seed)
    vocabulary = model.config.vocab_size
    stems = [[rng.randrange(vocabulary) for _ in range(rng.randint(1, 60))] for _ in range(8)]
    sequences = []
    for _ in range(count):
        stem = rng.choice(stems)
        ids = stem[: rng.randint(1, len(stem))] + [rng.randrange(vocabulary) for _ in range(rng.randint(1, 12))]
        sequences.append(Ids(ids, rng.randint(1, len(ids) - 1)))
    return sequences + sequences[:5]


@pytest.mark.parametrize("budget", [8, 100, 2048])
def test_packed_log_probabilities_are_the_plain_ones(model, budget):
    sequences = random_sequences(model, 120)
    answers = Engine(model, row_tokens=budget).log_likelihoods(sequences)
    for sequence, (logprob, greedy) in zip(sequences, answers, strict=True):
        expected, expected_greedy = plain(model, sequence)
        assert logprob == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy


def test_a_greedy_continuation_is_flagged(model):
    engine = Engine(model)
    start = [1, 5, 9, 3]
    said = engine.generate([start], lambda n, ids: False, 6)[0]
    wrong = [*said[:-1], (said[-1] + 1) % model.config.vocab_size]
    flags = [f for _, f in engine.log_likelihoods([Ids(start + said, 4), Ids(start + wrong, 4)])]
    assert flags == [True, False]


def test_progress_counts_every_request(model):
    seen = []
    Engine(model, row_tokens=64).log_likelihoods(random_sequences(model, 50), seen.append)
    assert sum(seen) == 55


def test_the_start_up_check_passes_here_and_catches_an_ignored_mask(model):
    engine = Engine(model)
    assert engine.check() < 1e-4

    class Deaf(torch.nn.Module):
        """A model body that does not look at its mask."""

        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, attention_mask=None, **rest):
            return self.body(**rest)

    body, model.model = model.model, Deaf(model.model)
    try:
        with pytest.raises(RuntimeError, match="differ"):
            engine.check()
    finally:
        model.model = body


def test_nan_is_named_not_scored(model):
    kept = model.lm_head.weight.data.clone()
    model.lm_head.weight.data[3] = float("nan")
    try:
        with pytest.raises(UserError, match="request"):
            Engine(model).log_likelihoods(random_sequences(model, 3))
    finally:
        model.lm_head.weight.data = kept


def test_batched_greedy_generation_is_one_at_a_time_generation(model, monkeypatch):
    monkeypatch.setattr(engines, "GENERATION_TOKENS", 250)  # several batches of several prompts
    rng = random.Random(4)
    prompts = [[1] + [rng.randrange(3, model.config.vocab_size) for _ in range(rng.randint(1, 40))] for _ in range(11)]
    said = Engine(model).generate(prompts, lambda n, ids: ids[-1] == 2, 20)
    for prompt, ids in zip(prompts, said, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=0)
        assert ids == out[0, len(prompt) :].tolist()


def test_a_row_sees_its_ancestors_only():
    parents = [-1, 0, 1, 0, 3, -1, 5]
    expected = np.zeros((7, 7), bool)
    for i in range(7):
        j = i
        while j >= 0:
            expected[i, j] = True
            j = parents[j]
    assert np.array_equal(ancestor_mask(parents), expected)
