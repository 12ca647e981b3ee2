"""How the next token is chosen: transformers' own distribution, a seed for each request, nothing from neighbours."""

import pytest
import torch

from orca_bench.evaluate.engine.token_choice import RuleChooser, TokenChoice

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0, -3.0])


def shares(rule, draws=4000, logits=LOGITS, prompt=(0, 1)):
    """How often each token is drawn."""
    chooser = RuleChooser(rule, prompt)
    tokens = torch.tensor([chooser.choose(logits, []) for _ in range(draws)])
    return torch.bincount(tokens, minlength=len(logits)) / draws


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 3},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 1.5, "min_p": 0.3},
        {"temperature": 1.0, "repetition_penalty": 2.0},
    ],
)
def test_tokens_are_drawn_from_the_distribution_of_transformers(options):
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=6, **shape))
    config = GenerationConfig(do_sample=True, **({"top_k": 50} | options))
    model._prepare_special_tokens(config)
    processors = model._get_logits_processor(config, input_ids_seq_length=2)
    expected = processors(torch.tensor([[0, 1]]), LOGITS[None].clone())[0].softmax(-1)
    drawn_shares = shares(TokenChoice(seed=3, **options))
    assert not drawn_shares[expected == 0].any()
    assert float((drawn_shares - expected).abs().max()) < 0.03  # four standard errors


def test_without_temperature_the_likeliest_token_after_the_penalty_is_taken():
    rule = TokenChoice(repetition_penalty=3.0)
    chooser = RuleChooser(rule, [0])
    assert chooser.choose(LOGITS, []) == 1  # 2.0 / 3 is below 1.5
    assert chooser.choose(LOGITS, [1]) == 2
    assert not rule.is_greedy and TokenChoice().is_greedy and not TokenChoice(temperature=0.1).is_greedy


def test_a_seed_gives_the_same_tokens_and_rounding_does_not_move_them():
    rule = TokenChoice(temperature=1.0, seed=7)
    first, again, rounded = (RuleChooser(rule, [5]) for _ in range(3))
    noise = torch.randn(6, generator=torch.Generator().manual_seed(0)) * 1e-6
    tokens = [first.choose(LOGITS, []) for _ in range(200)]
    assert tokens == [again.choose(LOGITS, []) for _ in range(200)]
    assert tokens == [rounded.choose(LOGITS + noise, []) for _ in range(200)]


def test_each_text_of_a_prompt_has_a_seed_of_its_own():
    rule = TokenChoice(temperature=1.0, seed=7)
    seeds = [rule.for_request(ids, repeat).seed for ids in ([1, 2], [1, 3]) for repeat in range(3)]
    seeds.append(TokenChoice(temperature=1.0, seed=8).for_request([1, 2], 0).seed)
    seeds.append(TokenChoice(temperature=0.9, seed=7).for_request([1, 2], 0).seed)
    assert len(set(seeds)) == len(seeds)
    assert rule.for_request([1, 2], 0) == rule.for_request([1, 2], 0)
    assert TokenChoice.from_json(rule.to_json()) == rule
