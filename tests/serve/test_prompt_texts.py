"""The texts of a prompt's tokens: those of its text, whatever prompts came before it."""

import random

import pytest

from orca_bench import tokenizers
from orca_bench.serve import prompt_texts
from orca_bench.serve.prompt_texts import PromptTexts

TEXT = "Where is 日本 — and why 👩‍🚀?  Two  spaces,\n\n\ttabs, and a long end of many words that go on. " * 4


@pytest.fixture(params=["tiny_model", "byte_level", "byte_fallback"])
def tokenizer(request):
    return tokenizers.load_tokenizer(request.getfixturevalue(request.param))


@pytest.fixture
def texts(tokenizer):
    return PromptTexts(tokenizer)


def test_together_the_texts_are_the_prompt(texts, tokenizer):
    ids = [*tokenizer.prefix, *tokenizer.encode(TEXT)]
    assert "".join(texts.token_texts(ids)) == tokenizer.decode(ids) and texts.token_texts([]) == []


def test_a_prompt_that_begins_as_an_earlier_one_has_the_texts_that_it_has_alone(texts, tokenizer):
    """It leaves the earlier one at any place, also within a character of several tokens and at the ends of both."""
    ids, other_ids = tokenizer.encode(TEXT), tokenizer.encode("日本, 👩‍🚀! " * 9)
    generator = random.Random(1)
    lengths = [0, 1, 31, 32, 33, 64, len(ids) - 1, len(ids), *(generator.randrange(len(ids)) for _ in range(30))]
    for length in lengths:
        for prompt_ids in (ids, [*ids[:length], *other_ids], ids[:length]):
            assert texts.token_texts(prompt_ids) == PromptTexts(tokenizer).token_texts(prompt_ids)


def test_what_two_prompts_share_is_decoded_once(texts, tokenizer, monkeypatch):
    ids = tokenizer.encode(TEXT)
    expected = texts.token_texts([*ids, 300])
    decoded = []
    push = prompt_texts.TextStream.push
    monkeypatch.setattr(
        prompt_texts.TextStream, "push", lambda stream, token_id: decoded.append(token_id) or push(stream, token_id)
    )
    assert texts.token_texts([*ids, 301])[:-1] == expected[:-1]
    assert len(decoded) <= 33


def test_few_prompts_are_remembered(texts, monkeypatch):
    monkeypatch.setattr(prompt_texts, "_MAX_TOKENS", 100)
    for first_id in range(300, 320):
        texts.token_texts([first_id] * 40)
    assert len(texts._prompts) == 2
    texts.token_texts([300] * 200)
    assert not texts._prompts
