"""The engine against plain forward passes: the same log-probabilities, flags and greedy texts."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from orca_bench.errors import UserError
from orca_bench.evaluate.engine import draft_tokens, prefix_tree, tree_attention
from orca_bench.evaluate.engine.attention_interface import UnfitForTree
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.evaluate.engine.tree_forward import TreeForward
from orca_bench.evaluate.request_encoding import ScoredSequence


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def plain(model, sequence):
    ids = torch.tensor([sequence.token_ids])
    with torch.inference_mode():
        table = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    places = range(sequence.scored_start - 1, len(sequence.token_ids) - 1)
    targets = sequence.token_ids[sequence.scored_start :]
    return float(table[places, targets].sum()), bool((table[places].argmax(-1) == torch.tensor(targets)).all())


def random_sequences(model, count, seed=0):
    """Sequences that share prefixes of every length, some equal, some a prefix of another, some of one scored token."""
    rng = random.Random(seed)
    vocabulary = model.config.vocab_size
    stems = [[rng.randrange(vocabulary) for _ in range(rng.randint(1, 60))] for _ in range(8)]
    sequences = []
    for _ in range(count):
        stem = rng.choice(stems)
        ids = stem[: rng.randint(1, len(stem))] + [rng.randrange(vocabulary) for _ in range(rng.randint(1, 12))]
        sequences.append(ScoredSequence(ids, rng.randint(1, len(ids) - 1)))
    return sequences + sequences[:5]


@pytest.mark.parametrize("kind", tree_attention.ATTENTION_METHODS)
@pytest.mark.parametrize("budget", [1, 8, 100, 2048])
def test_log_probabilities_of_the_tree_are_the_plain_ones(model, budget, kind):
    sequences = random_sequences(model, 120)
    answers = TreeEngine(model, budget, kind).log_likelihoods(sequences)
    for sequence, (logprob, greedy) in zip(sequences, answers, strict=True):
        expected, expected_greedy = plain(model, sequence)
        assert logprob == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy


def test_a_greedy_continuation_is_flagged(model):
    engine = TreeEngine(model)
    start = [1, 5, 9, 3]
    continuation = engine.generate_ids([start], lambda n, ids: False, 6)[0]
    wrong = [*continuation[:-1], (continuation[-1] + 1) % model.config.vocab_size]
    flags = [
        f
        for _, f in engine.log_likelihoods([ScoredSequence(start + continuation, 4), ScoredSequence(start + wrong, 4)])
    ]
    assert flags == [True, False]


def test_progress_counts_every_token_of_the_tree(model):
    counts, sequences = [], random_sequences(model, 50)
    TreeEngine(model, max_batch_tokens=64).log_likelihoods(sequences, counts.append)
    assert sum(counts) == prefix_tree.count_distinct_tokens(sequences)


def test_the_start_up_check_passes_here_and_catches_a_tree_that_is_ignored(model, monkeypatch):
    for kind in tree_attention.ATTENTION_METHODS:
        assert TreeEngine(model, attention_method=kind).check_tree() < 1e-4

    def attend_to_all(tree, layer, query, key, value, options):
        """Plain causal attention over the batch, whatever the tree says."""
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=options.score_scaling
        )

    with monkeypatch.context() as patched:
        patched.setattr(tree_attention.TreeAttention, "attend", attend_to_all)
        with pytest.raises(UnfitForTree, match="differ"):
            TreeEngine(model).check_tree()

    def attend_to_itself(step, layer, query, key, value, options):
        """Each new token attends to itself alone."""
        return value

    monkeypatch.setattr(tree_attention.StepAttention, "attend", attend_to_itself)
    with pytest.raises(UnfitForTree, match="differ"):
        TreeEngine(model).check_tree()


def sure_engine(tiny_model, dtype):
    """An engine of a model that is sure of its predictions, as trained ones are."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(30)
    return TreeEngine(model)


def turn_last_prediction(engine, monkeypatch, token_counts):
    """Make plain passes of so many tokens give another token as the likeliest at their end."""
    own_log_probabilities = engine.plain_passes.log_probabilities

    def turned_log_probabilities(token_ids, **options):
        table = own_log_probabilities(token_ids, **options)
        if len(token_ids) in token_counts:
            table[-1, table[-1].argmax()] -= 100
        return table

    monkeypatch.setattr(engine.plain_passes, "log_probabilities", turned_log_probabilities)


def test_in_16_bits_a_plain_pass_may_turn_the_prediction_of_one_text(tiny_model, monkeypatch):
    engine = sure_engine(tiny_model, torch.bfloat16)
    turn_last_prediction(engine, monkeypatch, [17])  # a text that the check generates, and no scored sequence
    assert engine.check_tree() < 0.25


@pytest.mark.parametrize(("dtype", "token_counts"), [(torch.bfloat16, [17, 19]), (torch.float32, [17])])
def test_more_turned_predictions_are_a_fault_and_one_is_in_32_bits(tiny_model, monkeypatch, dtype, token_counts):
    engine = sure_engine(tiny_model, dtype)
    turn_last_prediction(engine, monkeypatch, token_counts)
    with pytest.raises(UnfitForTree, match="differ"):
        engine.check_tree()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_text_that_is_not_the_greedy_one_is_found_in_16_bits_too(tiny_model, monkeypatch, dtype):
    engine = sure_engine(tiny_model, dtype)
    own_generate_ids = engine.generate_ids
    vocabulary_size = engine.model.config.vocab_size

    def other_ids(*arguments):
        return [[(token_id + 1) % vocabulary_size for token_id in ids] for ids in own_generate_ids(*arguments)]

    monkeypatch.setattr(engine, "generate_ids", other_ids)
    with pytest.raises(UnfitForTree, match="differ"):
        engine.check_tree()


def test_scoring_leaves_the_models_own_attention_in_place(model):
    before = model.config._attn_implementation
    TreeEngine(model).check_tree()
    assert model.config._attn_implementation == before


def test_out_of_memory_halves_the_batch_and_loses_no_answer(model, monkeypatch):
    sequences = random_sequences(model, 60)
    expected = TreeEngine(model).log_likelihoods(sequences)
    engine, counts, compute_batch = TreeEngine(model, max_batch_tokens=128), [], TreeForward.compute_batch

    def run_out_of_memory(self, batch, path, keep, *more):
        if engine.max_batch_tokens > 64 and len(counts) == 2:  # the third batch is one too many
            raise torch.OutOfMemoryError("as a GPU would")
        return compute_batch(self, batch, path, keep, *more)

    monkeypatch.setattr(TreeForward, "compute_batch", run_out_of_memory)
    answers = engine.log_likelihoods(sequences, counts.append)
    assert engine.max_batch_tokens == 64 and counts[:2] == [128, 128] and max(counts[2:]) == 64
    assert sum(counts) < 1.5 * prefix_tree.count_distinct_tokens(
        sequences
    )  # what the first batches answered was not computed again
    for (logprob, greedy), (expected_logprob, expected_greedy) in zip(answers, expected, strict=True):
        assert logprob == pytest.approx(expected_logprob, abs=1e-4) and greedy == expected_greedy
    monkeypatch.setattr(TreeForward, "compute_batch", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(UserError, match="out of memory with 32 tokens at once"):
        engine.log_likelihoods(sequences)


def test_nan_is_named_not_scored(model):
    weights = model.lm_head.weight.data.clone()
    model.lm_head.weight.data[3] = float("nan")
    try:
        with pytest.raises(UserError, match="request"):
            TreeEngine(model).log_likelihoods(random_sequences(model, 3))
    finally:
        model.lm_head.weight.data = weights


def alone(model, prompt, length):
    out = model.generate(torch.tensor([prompt]), max_new_tokens=length, do_sample=False, pad_token_id=0)
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", tree_attention.ATTENTION_METHODS)
@pytest.mark.parametrize("cache_tokens", [1, 250, 100_000])
def test_greedy_generation_is_one_at_a_time_generation(model, kind, cache_tokens):
    """Answers of unequal length, prompts that share beginnings, some equal; slots for one, a few, and all."""
    rng = random.Random(4)
    stem = [1] + [rng.randrange(3, model.config.vocab_size) for _ in range(9)]
    prompts = [
        stem[: rng.randint(1, 10)] + [rng.randrange(3, model.config.vocab_size) for _ in range(rng.randint(1, 40))]
        for _ in range(17)
    ]
    prompts += [prompts[3], prompts[3], stem]
    lengths = [rng.randint(1, 30) for _ in prompts]
    counts = []
    engine = TreeEngine(model, max_batch_tokens=50, attention_method=kind, max_cache_tokens=cache_tokens)
    continuations = engine.generate_ids(
        prompts, lambda n, ids: ids[-1] == 2 or len(ids) == lengths[n], 30, counts.append
    )
    assert sum(counts) == len(prompts)
    for prompt, ids, length in zip(prompts, continuations, lengths, strict=True):
        assert ids == alone(model, prompt, length)


def test_a_finished_sequence_leaves_at_once_and_the_next_one_takes_its_place(model, monkeypatch):
    """Two slots, one long answer and five short ones: the short ones pass by the long one."""
    sizes, last_hidden = [], TreeForward.last_hidden
    monkeypatch.setattr(draft_tokens, "MAX_DRAFT_TOKENS", 0)

    def count(self, ids, positions, pattern):
        if isinstance(pattern, tree_attention.StepAttention):
            sizes.append(len(ids))
        return last_hidden(self, ids, positions, pattern)

    monkeypatch.setattr(TreeForward, "last_hidden", count)
    prompts = [[1, 5 + n] for n in range(6)]
    lengths = [12, 3, 3, 3, 3, 3]
    TreeEngine(model, max_cache_tokens=30).generate_ids(prompts, lambda n, ids: len(ids) == lengths[n], 12)
    # 17 further tokens of the short ones' 5 × 2 and the long one's 11: together they take the long one's steps alone.
    assert sum(sizes) == 11 + 5 * 2 and len(sizes) == 11


def test_shared_prefixes_of_prompts_are_computed_once(model, monkeypatch):
    fed, compute_batch = [], TreeForward.compute_batch

    def count(self, batch, *more):
        fed.append(len(batch.token_ids))
        return compute_batch(self, batch, *more)

    monkeypatch.setattr(TreeForward, "compute_batch", count)
    stem = list(range(3, 43))
    TreeEngine(model, max_batch_tokens=16).generate_ids([[*stem, n] for n in range(50, 60)], lambda n, ids: True, 4)
    assert sum(fed) == len(stem) + 10


def test_generation_out_of_memory_goes_on_with_half_and_loses_no_answer(model, monkeypatch):
    monkeypatch.setattr(draft_tokens, "MAX_DRAFT_TOKENS", 0)
    prompts = [[1, 5 + n, 9] for n in range(8)]
    expected = TreeEngine(model).generate_ids(prompts, lambda n, ids: False, 10)
    engine, calls, last_hidden = (
        TreeEngine(model, max_batch_tokens=64, max_cache_tokens=60),
        [],
        TreeForward.last_hidden,
    )

    def run_out_of_memory(self, ids, positions, pattern):
        calls.append(1)
        if len(calls) == 15:  # in the midst of the second pair
            raise torch.OutOfMemoryError("as a GPU would")
        return last_hidden(self, ids, positions, pattern)

    monkeypatch.setattr(TreeForward, "last_hidden", run_out_of_memory)
    counts = []
    assert engine.generate_ids(prompts, lambda n, ids: False, 10, counts.append) == expected
    assert engine.max_cache_tokens == 30 and sum(counts) == 8


def test_a_prompt_that_gives_nan_is_named(model):
    weights = model.lm_head.weight.data.clone()
    model.lm_head.weight.data[3] = float("nan")
    try:
        with pytest.raises(UserError, match="nan to request"):
            TreeEngine(model).generate_ids([[1, 2, 3]], lambda n, ids: True, 4)
    finally:
        model.lm_head.weight.data = weights


def test_grouped_heads_and_other_families_give_the_plain_answers():
    """Queries that share keys (as LLaMA 2 70B, Mistral), and a family with a head size of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    shape = dict(
        vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=12
    )
    torch.manual_seed(0)
    for other in (
        LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2)),
        Qwen3ForCausalLM(Qwen3Config(**shape, num_key_value_heads=1)),
    ):
        other = other.eval()
        for kind in tree_attention.ATTENTION_METHODS:
            engine = TreeEngine(other, max_batch_tokens=32, attention_method=kind, max_cache_tokens=90)
            assert engine.check_tree() < 1e-4
            prompts = [[1, 5, 9, n] for n in range(10, 16)]
            continuations = engine.generate_ids(prompts, lambda n, ids: False, 6)
            assert continuations == [alone(other, prompt, 6) for prompt in prompts]
