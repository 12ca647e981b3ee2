"""A byte-level BPE, a small one and a real model's: the ids of plain transformers, in our tokenizer and in what is exported.

Its BPE is that of `tokenizers`; beside llama.cpp it stands in tests/models/gguf.
"""

import shutil

import pytest
from transformers import AutoTokenizer

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols
from orca_bench.evaluate.request_encoding import HarnessEncoding, LeaderboardEncoding, OrcaEncoding
from orca_bench.evaluate.tasks import SUITE


@pytest.fixture(scope="module", params=["byte_level", "real_tokenizer_folder"])
def source_folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def tokenizer(source_folder):
    return tokenizers.load_tokenizer(source_folder)


@pytest.fixture
def plain(source_folder):
    """The folder as plain transformers loads it, with special tokens as any other text."""
    tokenizer = AutoTokenizer.from_pretrained(source_folder)
    tokenizer.split_special_tokens = True
    return tokenizer


def test_our_ids_are_those_of_transformers_on_5000_adversarial_texts(tokenizer, plain):
    texts = tokenizers.probe_texts(5000, seed=12)
    expected = plain(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.encode_batch(texts) == expected
    assert [tokenizer.encode(text) for text in texts] == expected


def test_an_exported_tokenizer_agrees_on_5000_adversarial_texts(source_folder, tokenizer, tmp_path):
    shutil.copytree(source_folder, tmp_path / "exported")
    assert tokenizers.export_tokenizer(tokenizer, tmp_path / "exported") is None
    exported = tokenizers.load_tokenizer(tmp_path / "exported")
    plain = AutoTokenizer.from_pretrained(tmp_path / "exported")
    plain.split_special_tokens = True
    texts = tokenizers.probe_texts(5000, seed=11)
    expected = tokenizer.encode_batch(texts)
    assert exported.encode_batch(texts) == plain(texts, add_special_tokens=False)["input_ids"] == expected


def test_every_record_and_request_of_the_mini_suite_has_the_same_ids(tokenizer, plain, mini, mini_records):
    texts = [prompt.render(record["system"], record["instruction"], record["input"]) for record in mini_records]
    texts += [record["response"] for record in mini_records]
    for task in SUITE:
        rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
        requests = [
            request for document in protocols.Orca("S").documents(task, rows, 20) for request in document.requests
        ]
        texts += [text for request in requests for text in (request.context, request.continuation) if text]
    assert tokenizer.encode_batch(texts) == plain(texts, add_special_tokens=False)["input_ids"]


def test_a_text_is_decoded_as_it_was_whole_and_token_by_token(tokenizer):
    for text in tokenizers.probe_texts(5000, seed=17):
        ids = tokenizer.encode(text)
        assert tokenizer.decode([*tokenizer.prefix, *ids, tokenizer.eos_id]) == text
        assert tokenizer.vocab_size > max(ids, default=0) and all(tokenizer.has_text(id_) for id_ in ids)


def test_special_tokens_are_never_read_out_of_text(tokenizer):
    spellings = [tokenizer.spelling(id_) for id_ in tokenizer.special_ids]
    assert len(spellings) > 1
    for spelling in spellings:
        for text in (spelling, f"a {spelling} b", f" {spelling}", spelling[:-1], spelling * 2):
            ids = tokenizer.encode(text)
            assert not set(ids) & set(tokenizer.special_ids) and tokenizer.decode(ids) == text


def test_bos_stands_before_a_text_where_plain_transformers_adds_it(tokenizer, source_folder):
    ids = AutoTokenizer.from_pretrained(source_folder)("one two")["input_ids"]
    assert ids == [*([tokenizer.bos_id] if tokenizer.adds_bos else []), *tokenizer.encode("one two")]
    assert tokenizer.prefix == [tokenizer.bos_id]


@pytest.mark.parametrize("rule", [LeaderboardEncoding, HarnessEncoding])
def test_context_and_continuation_together_are_the_ids_of_the_whole_text(tokenizer, rule):
    """As lm-eval's `hf` class: the context keeps its own ids, and what is scored are the other ids of the whole."""
    encoding = rule(tokenizer, 4096)
    bos_ids = [tokenizer.bos_id] if rule is HarnessEncoding and tokenizer.adds_bos else []
    texts = [text for text in tokenizers.probe_texts(1000, seed=18) if text.strip()]
    checked_count = 0
    for context, continuation in zip(texts[::2], texts[1::2], strict=False):
        context = context.rstrip()
        context_ids, whole_ids = tokenizer.encode(context), tokenizer.encode(context + continuation)
        if not context_ids or len(whole_ids) <= len(context_ids):
            continue
        pair = encoding.encode_pair(context, continuation)
        assert pair.token_ids == [*bos_ids, *context_ids, *whole_ids[len(context_ids) :]]
        assert pair.scored_start == len(bos_ids) + len(context_ids)
        checked_count += 1
    assert checked_count > 300


def test_the_orca_prompt_and_its_continuation_are_encoded_apart_after_bos(tokenizer):
    encoding = OrcaEncoding(tokenizer, 4096)
    for text in tokenizers.probe_texts(500, seed=19):
        context = prompt.render("S", text)
        pair = encoding.encode_pair(context, text)
        assert pair.token_ids == [tokenizer.bos_id, *tokenizer.encode(context), *tokenizer.encode(text)]
        assert tokenizer.decode(pair.token_ids[: pair.scored_start]) == context
        assert tokenizer.decode(pair.token_ids[pair.scored_start :]) == text


@pytest.mark.parametrize("rule", [LeaderboardEncoding, HarnessEncoding, OrcaEncoding])
def test_a_generated_text_ends_at_the_stop_string_or_before_eos(tokenizer, rule):
    """A token may reach over the beginning of a stop string: the text is cut in characters, not in tokens."""
    encoding = rule(tokenizer, 4096)
    for stop in ("\n", "\n\n", "Question:", "🙂", "</s>"):
        for text in ("one two", "日本 🎉", "a  b"):
            ids = tokenizer.encode(f"{text}{stop} more")
            assert encoding.is_complete(ids, [stop]) and encoding.text(ids, [stop]) == text
            assert not encoding.is_complete(tokenizer.encode(text), [stop])
    assert encoding.text([*tokenizer.encode("one"), tokenizer.eos_id], []) == "one"


def test_a_lone_surrogate_is_refused_not_crashed_on(tokenizer):
    with pytest.raises(UserError, match="surrogate"):
        tokenizer.encode("a\ud800b")
