"""Steps of many sequences with models of other attention: windows, caps, sinks, latent values; and models without a tree."""

import random

import architectures
import pytest
import torch
from token_receivers import TokenReceiver

from orca_bench.evaluate.engine.forward_passes import PlainPasses
from orca_bench.evaluate.engine.tree_forward import TreeForward
from orca_bench.serve import plain_requests
from orca_bench.serve.batch_steps import compute_step
from orca_bench.serve.request_sequence import RequestSequence
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.token_requests import TokenRequest

CPU = torch.device("cpu")


def new_sequence(prompt_ids, max_new_tokens, is_plain=False, sampling=Sampling(greedy=True)):
    request = TokenRequest(prompt_ids, max_new_tokens, sampling, top_count=2, scores_prompt=True)
    receiver = TokenReceiver()
    return RequestSequence(request, receiver, [], CPU, is_plain), receiver


@torch.inference_mode()
def expect_greedy_text(model, sequence, receiver):
    """All scores are those of one plain pass, and each new token is the likeliest."""
    ids, prompt_count = sequence.token_ids, len(sequence.request.prompt_ids)
    rows = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(dim=-1)[:-1]
    scores = [*receiver.prompt_scores, *receiver.scores][1:]
    assert [score.token_id for score in scores] == ids[1:]
    expected = rows[range(len(scores)), ids[1:]].tolist()
    assert [score.log_probability for score in scores] == pytest.approx(expected, abs=1e-4)
    gaps = rows.max(dim=-1).values - rows[range(len(scores)), ids[1:]]
    assert float(gaps[prompt_count - 1 :].max()) <= 1e-4


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss", "gpt2", "deepseek_v3"])
@torch.inference_mode()
def test_ragged_sequences_of_a_model_are_computed_as_by_its_plain_passes(name):
    """A prompt of 300 tokens is fed in pieces of at most 64, while two others grow."""
    model = architectures.tiny_model_of(name)
    tree_forward = TreeForward(model, CPU, "runs")
    generator = random.Random(3)
    sequences = [new_sequence([generator.randrange(3, 600) for _ in range(count)], 9) for count in (1, 40, 300)]
    while open_sequences := [sequence for sequence, _ in sequences if sequence.end is None]:
        compute_step(tree_forward, open_sequences, max_prompt_tokens=64)
    for sequence, receiver in sequences:
        assert sequence.end.reason == "length"
        expect_greedy_text(model, sequence, receiver)


@pytest.mark.parametrize("name", ["mamba", "llama"])
@torch.inference_mode()
def test_a_request_by_plain_passes_has_the_same_events(name):
    model = architectures.tiny_model_of(name)
    sequence, receiver = new_sequence([5, 6, 7, 8, 9], 6, is_plain=True)
    plain_requests.compute_request(PlainPasses(model, CPU), sequence)
    assert sequence.end.reason == "length"
    expect_greedy_text(model, sequence, receiver)


@torch.inference_mode()
def test_a_request_by_plain_passes_ends_at_the_token_at_which_it_is_cancelled():
    sequence, receiver = new_sequence([5, 6, 7], 50, is_plain=True)
    sequence.handle.cancel()
    plain_requests.compute_request(PlainPasses(architectures.tiny_model_of("llama"), CPU), sequence)
    assert len(receiver.scores) == 1


@torch.inference_mode()
def test_a_request_by_plain_passes_may_want_scores_alone():
    model = architectures.tiny_model_of("llama")
    sequence, receiver = new_sequence([5, 6, 7], 0, is_plain=True)
    plain_requests.compute_request(PlainPasses(model, CPU), sequence)
    assert (sequence.end.reason, receiver.scores, len(receiver.prompt_scores)) == ("length", [], 3)


@torch.inference_mode()
def test_weights_that_give_nan_end_a_request_with_an_error_and_not_its_neighbour():
    """The embedding of one token is NaN: what does not contain it goes on."""
    model = architectures.tiny_model_of("llama")
    model.get_input_embeddings().weight[17] = float("nan")
    tree_forward = TreeForward(model, CPU, "runs")
    broken, whole = new_sequence([5, 17, 6], 3), new_sequence([5, 6, 7], 3)
    compute_step(tree_forward, [broken[0], whole[0]])
    assert "NaN or infinity" in broken[0].end.error
    assert len(whole[1].scores) == 1


@torch.inference_mode()
def test_a_temperature_that_makes_logits_infinite_ends_its_own_requests_alone():
    """With logits of 1e30 a temperature of 1e-5 has no probabilities, and a temperature of 1 has."""
    model = architectures.tiny_model_of("llama")
    model.get_output_embeddings().weight.mul_(1e35)
    cold = [new_sequence([5, 6, 7], 3, sampling=Sampling(temperature=1e-5)) for _ in range(2)]
    others = [new_sequence([5, 6, 7], 3), new_sequence([5, 6, 7], 3, sampling=Sampling(temperature=1.0))]
    compute_step(TreeForward(model, CPU, "runs"), [sequence for sequence, _ in (*cold, *others)])
    assert all("temperature 1e-05" in sequence.end.error for sequence, _ in cold)
    assert [(sequence.end, len(receiver.scores)) for sequence, receiver in others] == [(None, 1), (None, 1)]
