"""One answer, token by token: sampling by transformers' rules, and text that streams whole characters."""

import random

import pytest
import torch

from orca_bench import prompt, tokenizers
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve import text_generation
from orca_bench.serve.sampling import Sampler, Sampling
from orca_bench.serve.stop_texts import StopTexts
from orca_bench.tokenizers.streaming import TextStream


@pytest.fixture(scope="module")
def generator(tiny_model):
    return text_generation.Generator(ModelFolder(str(tiny_model)))


def test_greedy_generation_streams_what_transformers_generates(generator):
    pieces = list(generator.answer("S", "Say.", None, Sampling(greedy=True, max_new_tokens=30)))
    ids = torch.tensor([[generator.tokenizer.bos_id, *generator.tokenizer.encode(prompt.render("S", "Say."))]])
    out = generator.model.generate(ids, max_new_tokens=30, do_sample=False)
    assert "".join(pieces) == generator.tokenizer.decode(out[0, ids.shape[1] :].tolist())
    assert len(pieces) > 3


def test_sampling_repeats_with_its_seed_and_differs_without(generator):
    def answer(seed):
        return "".join(generator.answer("S", "Say.", None, Sampling(seed=seed, max_new_tokens=30)))

    assert answer(1) == answer(1) != answer(2)


def test_sampling_draws_what_transformers_generate_draws(generator):
    """The same warpers in the same order: `generate` with its seed, against the sampler with the same one."""
    ids = torch.tensor([[generator.tokenizer.bos_id, *generator.tokenizer.encode(prompt.render("S", "Say."))]])
    options = {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "max_new_tokens": 12}
    torch.manual_seed(5)
    out = generator.model.generate(ids, do_sample=True, **options)[0, ids.shape[1] :].tolist()
    tokens = list(generator._generate_token_ids(ids[0].tolist(), 12, Sampling(seed=5, **options)))
    assert tokens == [token for token in out if token not in generator.tokenizer.stop_ids]


def test_only_allowed_tokens_are_drawn_and_each_as_often_as_it_is_likely():
    torch.manual_seed(0)
    logits = torch.randn(50) * 3
    sampler = Sampler(Sampling(temperature=0.7, top_k=20, top_p=0.8, seed=0))
    draws = torch.tensor([sampler(logits) for _ in range(4000)])
    order = logits.argsort(descending=True)
    likely = (logits / 0.7)[order[:20]].softmax(-1)
    count = int((likely.cumsum(-1) < 0.8).sum()) + 1
    expected = torch.zeros(50).index_copy(0, order[:count], likely[:count] / likely[:count].sum())
    assert (torch.bincount(draws, minlength=50) / 4000 - expected).abs().max() < 0.03
    assert not expected[draws].eq(0).any()


@pytest.mark.parametrize(
    "settings", [Sampling(greedy=True), Sampling(temperature=0), Sampling(temperature=1e-39), Sampling(top_k=1)]
)
def test_four_ways_to_take_the_likeliest_token(settings):
    assert Sampler(settings)(torch.tensor([0.0, 3.0, 1.0])) == 1


def test_top_k_0_and_top_p_1_keep_all_tokens():
    sampler = Sampler(Sampling(temperature=1, top_k=0, seed=0))
    assert {sampler(torch.zeros(8)) for _ in range(300)} == set(range(8))


def test_the_defaults_are_the_cards_example():
    assert Sampling() == Sampling(0.7, 1.0, 50, 1024, False, None)


@pytest.mark.parametrize(
    ("text", "certain_text"),
    [
        ("yes\n#", "yes\n"),
        ("yes ### Us", "yes "),
        ("yes ### User: more", "yes "),
        ("yes ### User: ### System:", "yes "),
        ("#### 18", "#### 18"),
    ],
)
def test_a_text_waits_for_half_a_header_and_ends_at_a_whole_one(text, certain_text):
    """However its characters come."""
    for size in (1, 2, 3, len(text)):
        stop_texts = StopTexts(prompt.TURN_HEADERS)
        pieces = [stop_texts.push(text[start : start + size]) for start in range(0, len(text), size)]
        assert "".join(pieces) == certain_text
        assert stop_texts.is_stopped == ("### User:" in text)
        assert stop_texts.end() == ("" if stop_texts.is_stopped else text[len(certain_text) :])


def test_the_longest_beginning_of_a_stop_text_waits():
    stop_texts = StopTexts(["abab!", "b?"])
    assert [stop_texts.push(piece) for piece in ("xaba", "b", "?", "more")] == ["x", "", "aba", ""]
    assert stop_texts.is_stopped


# --- streaming ---------------------------------------------------------------------------------------------------------

PARTS = (
    "ok", " 🙂", "🙂🙂", " fine", "日本", "語", "👩‍👩‍👧🏽", "🇩🇪", " ", "  ", "\n", "é", "e\u0301", "한국어", "\ufffd", "</s>",
    "а", "<0x41>", "\u200d", "ß", "the", " The", "\t", "½", "\U0001f469",
)  # fmt: skip


def streamed(tokenizer, ids):
    stream = TextStream(tokenizer)
    return [*(stream.push(token_id) for token_id in ids), stream.end()]


def test_an_emoji_streams_whole(sentencepiece_models):
    tokenizer = tokenizers.load_tokenizer(sentencepiece_models["llama"])
    pieces = streamed(tokenizer, tokenizer.encode("ok 🙂 fine 日本"))
    assert "".join(pieces) == "ok 🙂 fine 日本"
    assert "\ufffd" not in "".join(pieces) and any("🙂" in piece for piece in pieces)


@pytest.mark.parametrize("kind", ["llama", "default", "no_prefix", "symbols", "unigram"])
def test_what_streams_is_what_is_decoded(sentencepiece_models, kind):
    tokenizer = tokenizers.load_tokenizer(sentencepiece_models[kind])
    check_streaming(tokenizer)


def test_what_streams_from_a_byte_level_tokenizer_is_what_is_decoded(byte_level):
    check_streaming(tokenizers.load_tokenizer(byte_level))


def test_what_streams_from_a_real_models_tokenizer_is_what_is_decoded(real_tokenizer_folder):
    check_streaming(tokenizers.load_tokenizer(real_tokenizer_folder))


def test_what_streams_from_a_tokenizer_json_with_byte_fallback_is_what_is_decoded(byte_fallback):
    """Whose decoder turns characters that were complete into U+FFFD when a wrong byte follows."""
    check_streaming(tokenizers.load_tokenizer(byte_fallback))


def check_streaming(tokenizer):
    draw = random.Random(3)
    for _ in range(1500):
        ids = tokenizer.encode("".join(draw.choices(PARTS, k=draw.randint(1, 12))))
        if draw.random() < 0.5 and ids:  # as a model may: tokens lost, bytes that do not fit, rows that no token has
            for _ in range(draw.randint(1, 4)):
                ids[draw.randrange(len(ids))] = draw.randrange(tokenizer.vocab_size + 5)
        pieces = streamed(tokenizer, ids)
        text = tokenizer.decode(ids)
        assert "".join(pieces) == text, ids
        if "\ufffd" * 3 not in text:  # more are no beginning of a character
            assert all("\ufffd" not in piece[-1:] for piece in pieces[:-1])


def test_bytes_that_are_no_character_are_not_held_back_to_the_end(byte_level):
    tokenizer = tokenizers.load_tokenizer(byte_level)
    wrong_ids = [token_id for token_id in range(tokenizer.vocab_size) if tokenizer.decode([token_id]) == "\ufffd"]
    pieces = streamed(tokenizer, wrong_ids * 4)
    assert "".join(pieces) == tokenizer.decode(wrong_ids * 4) and len(wrong_ids) > 100
    assert max(map(len, pieces)) <= 24


@pytest.mark.parametrize("kind", ["llama", "default", "no_prefix", "symbols", "unigram"])
def test_a_text_that_continues_others_streams_as_it_stands_in_the_whole(sentencepiece_models, kind):
    tokenizer = tokenizers.load_tokenizer(sentencepiece_models[kind])
    ids = tokenizer.encode("The ship left the harbour at noon, and 日本 the old captain 🙂 sang. " * 3)
    text = tokenizer.decode(ids)
    for start in range(1, len(ids), 5):
        if "\ufffd" in (beginning := tokenizer.decode(ids[:start])):
            continue  # within a character
        stream = TextStream(tokenizer, ids[:start])
        assert beginning + "".join([*map(stream.push, ids[start:]), stream.end()]) == text
