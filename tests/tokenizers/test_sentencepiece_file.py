"""SentencePiece's ids are the truth: in our tokenizer, in what is exported, and in what plain transformers makes of that."""

import json
import shutil

import pytest
import sentencepiece
from transformers import AutoTokenizer

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError

KINDS = ("llama", "default", "casefold", "no_prefix", "symbols")


def behind_bos(tokenizer, text):
    """The ids of a text to an exported tokenizer: BOS at its beginning is BOS, and special tokens elsewhere are text."""
    bos = tokenizer.spelling(tokenizer.bos_id)
    return [tokenizer.bos_id, *tokenizer.encode(text[len(bos) :])] if text.startswith(bos) else tokenizer.encode(text)


def exported(model_file, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    disagreement = tokenizers.export_tokenizer(tokenizers.load_tokenizer(model_file), folder)
    return disagreement, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_transformers_agrees_on_5000_adversarial_texts(sentencepiece_models, tmp_path, kind):
    truth = tokenizers.load_tokenizer(sentencepiece_models[kind])
    disagreement, plain = exported(sentencepiece_models[kind], tmp_path)
    assert disagreement is None
    for text in tokenizers.probe_texts(5000, seed=11):
        ids = plain(text, add_special_tokens=False)["input_ids"]
        # Without a dummy prefix a text may be nothing but the spelling of a control or byte piece.
        alone = kind == "no_prefix" and len(ids) == 1 and truth.spelling(ids[0]) == text
        assert alone or ids == behind_bos(truth, text), repr(text)


def test_a_unigram_model_agrees_but_for_segmentations_of_equal_score(sentencepiece_models, tmp_path):
    truth = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_models["unigram"]))
    _, plain = exported(sentencepiece_models["unigram"], tmp_path)
    texts = tokenizers.probe_texts(5000, seed=11)
    plain.split_special_tokens = (
        True  # it finds special tokens in text, or BOS would not be found; the chat template hides them
    )
    wrong = [t for t in texts if plain(t, add_special_tokens=False)["input_ids"] != truth.encode(t)]
    assert len(wrong) < 50
    for text in wrong[:5]:
        assert sorted(plain(text, add_special_tokens=False)["input_ids"]) == sorted(truth.encode(text))


def test_our_ids_are_sentencepieces_on_5000_adversarial_texts(sentencepiece_models):
    for kind in ("llama", "default"):
        truth = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_models[kind]))
        tokenizer = tokenizers.load_tokenizer(sentencepiece_models[kind])
        texts = tokenizers.probe_texts(5000, seed=12)
        expected = [truth.encode(text) for text in texts]
        assert [tokenizer.encode(text) for text in texts] == expected
        assert tokenizer.encode_batch(texts) == expected


def test_the_real_llama_tokenizer_is_repaired(shared, tmp_path):
    model_file = shared / "tokenizer" / "tokenizer.model"
    truth = tokenizers.load_tokenizer(model_file)
    disagreement, plain = exported(model_file, tmp_path)
    assert disagreement is None
    for text in tokenizers.probe_texts(5000, seed=13):
        assert plain(text, add_special_tokens=False)["input_ids"] == behind_bos(truth, text), repr(text)
    assert plain("  lead", add_special_tokens=False)["input_ids"] == [259, 3275]


def test_every_record_and_request_of_the_mini_suite_has_the_same_ids(mini, mini_records, tmp_path):
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import SUITE

    _, plain = exported(mini["mini:tokenizer"], tmp_path)
    truth = tokenizers.load_tokenizer(mini["mini:tokenizer"])
    texts = [prompt.render(r["system"], r["instruction"], r["input"]) for r in mini_records]
    texts += [r["response"] for r in mini_records]
    for task in SUITE:
        documents = protocols.Orca("S").documents(
            task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 20
        )
        texts += [t for d in documents for r in d.requests for t in (r.context, r.continuation) if t]
    assert tokenizers.first_disagreement(truth, plain, texts) is None


def test_special_tokens_are_never_read_out_of_text(sentencepiece_models, tmp_path):
    tokenizer = tokenizers.load_tokenizer(sentencepiece_models["llama"])
    _, plain = exported(sentencepiece_models["llama"], tmp_path)
    for text in ("</s>", "a </s> b", " <s>", "a<s>", "<unk>", "<s"):
        for ids in (tokenizer.encode(text), plain(text, add_special_tokens=False)["input_ids"]):
            assert tokenizer.eos_id not in ids and tokenizer.bos_id not in ids and 0 not in ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    rendered = plain.apply_chat_template(prompt.chat_messages("", "end </s> here"), add_generation_prompt=True)[
        "input_ids"
    ]
    assert plain.eos_token_id not in rendered


def test_bos_is_added_by_plain_transformers_and_never_by_encode(sentencepiece_models, tmp_path):
    tokenizer = tokenizers.load_tokenizer(sentencepiece_models["llama"])
    _, plain = exported(sentencepiece_models["llama"], tmp_path)
    ids = tokenizer.encode("one two")
    assert tokenizer.bos_id not in ids
    assert plain("one two")["input_ids"] == [tokenizer.bos_id, *ids]
    assert (plain.bos_token_id, plain.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)


def test_decoding_gives_the_text_back(sentencepiece_models, tmp_path):
    tokenizer = tokenizers.load_tokenizer(sentencepiece_models["llama"])
    _, plain = exported(sentencepiece_models["llama"], tmp_path)
    for text in ("one two", "  lead\n\ttab", "日本 🙂", "a  b   c"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id]) == text
        assert plain.decode(ids) == text


def test_the_llama_class_of_the_cards_example_gives_the_prompt_the_right_ids_too(sentencepiece_models, tmp_path):
    from transformers import LlamaTokenizer

    truth = tokenizers.load_tokenizer(sentencepiece_models["llama"])
    exported(sentencepiece_models["llama"], tmp_path)
    plain = LlamaTokenizer.from_pretrained(tmp_path)  # rebuilds the tokenizer by its own rules
    texts = [prompt.render("S", text) for text in tokenizers.probe_texts(1000, seed=14)]
    assert tokenizers.first_disagreement(truth, plain, texts) is None
    assert plain("  lead", add_special_tokens=False)["input_ids"] != truth.encode("  lead")  # as the README warns


def test_a_tokenizer_that_is_nowhere_is_refused_without_asking_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such tokenizer file or folder"):
        tokenizers.load_tokenizer("somebody/llama")


def test_a_folder_that_disagrees_is_found_out_with_an_example(sentencepiece_models, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    shutil.copy(sentencepiece_models["llama"], tmp_path / "tokenizer.model")
    disagreement = tokenizers.find_folder_disagreement(
        tokenizers.load_tokenizer(tmp_path)
    )  # transformers converts the file by itself
    assert disagreement is not None and disagreement.expected_ids != disagreement.transformers_ids
    tokenizers.export_tokenizer(tokenizers.load_tokenizer(tmp_path), tmp_path)
    assert tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(tmp_path)) is None


def test_what_tokenizers_cannot_express_is_reported_not_hidden(sentencepiece_models, tmp_path):
    disagreement, _ = exported(sentencepiece_models["unigram_without_markup"], tmp_path)
    assert disagreement is not None and disagreement.text == "</s>"


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="no tokenizer here"):
        tokenizers.load_tokenizer(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        tokenizers.load_tokenizer(tmp_path)


def test_a_lone_surrogate_is_refused_not_crashed_on(sentencepiece_models):
    with pytest.raises(UserError, match="surrogate"):
        tokenizers.load_tokenizer(sentencepiece_models["llama"]).encode("a\ud800b")
