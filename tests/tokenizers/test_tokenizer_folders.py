"""Tokenizer folders as people have them: added tokens, padded rows, several EOS, no BOS."""

import json
import shutil

import pytest
from encoded_records import encode_record
from transformers import AutoTokenizer

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate.request_encoding import HarnessEncoding, LeaderboardEncoding, OrcaEncoding
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import Record

CHATML = ("<|im_end|>", "<|im_start|>")


def added(**flags):
    return {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True} | flags


def open_hermes(folder, model_file):
    """A folder like OpenHermes': `<|im_end|>` ends a text, and comes after the file's pieces."""
    pieces = tokenizers.load_tokenizer(model_file).vocab_size
    return folder(
        model_file,
        config={"model_type": "llama", "vocab_size": pieces + 2, "eos_token_id": pieces, "bos_token_id": 1},
        added_tokens={token: pieces + number for number, token in enumerate(CHATML)},
        tokenizer_config={
            "bos_token": "<s>",
            "eos_token": "<|im_end|>",
            "unk_token": "<unk>",
            "tokenizer_class": "LlamaTokenizer",
            "added_tokens_decoder": {str(pieces + number): added(content=token) for number, token in enumerate(CHATML)},
        },
    )


@pytest.mark.parametrize("kind", ["llama", "default", "unigram", "no_prefix"])
def test_another_eos_behind_the_pieces_ends_a_text_and_is_trained(sentencepiece_models, folder, kind):
    tokenizer = tokenizers.load_tokenizer(open_hermes(folder, sentencepiece_models[kind]))
    assert tokenizer.eos_id == tokenizer.piece_count and tokenizer.eos_text == "<|im_end|>"
    ids, _ = encode_record(Record("", "Say.", None, "Yes."), tokenizer, 256)
    assert ids[0] == tokenizer.bos_id == 1 and ids[-1] == tokenizer.eos_id
    answer = [*tokenizer.encode("Yes."), tokenizer.eos_id]
    for rule in (OrcaEncoding, HarnessEncoding, LeaderboardEncoding):
        encoding = rule(tokenizer, 256)
        assert encoding.is_finished(answer, []) and not encoding.is_finished(answer[:-1], [])
        assert encoding.text(answer, []) == tokenizer.decode(tokenizer.encode("Yes."))


def test_tokens_and_rows_that_the_file_does_not_have_are_decoded(sentencepiece_models, folder):
    path = open_hermes(folder, sentencepiece_models["llama"])
    tokenizer = tokenizers.load_tokenizer(path)
    ids = tokenizer.encode("one")
    for id_ in (tokenizer.piece_count, tokenizer.piece_count + 1, tokenizer.piece_count + 2, 10**6):
        assert tokenizer.decode([id_]) == "" and tokenizer.decode([*ids, id_, *ids]) == "one one"


def test_an_added_token_without_a_spelling_stands_nowhere_in_a_text(sentencepiece_models, folder):
    pieces = tokenizers.load_tokenizer(sentencepiece_models["llama"]).vocab_size
    config = {"model_type": "llama", "vocab_size": pieces + 1}
    tokenizer = tokenizers.load_tokenizer(
        folder(sentencepiece_models["llama"], config=config, added_tokens={"": pieces})
    )
    assert tokenizer.encode("one two") == tokenizers.load_tokenizer(sentencepiece_models["llama"]).encode("one two")


def test_the_pad_token_of_2023_is_no_hindrance(sentencepiece_models, folder):
    pieces = tokenizers.load_tokenizer(sentencepiece_models["llama"]).vocab_size
    files = {"added_tokens": {"[PAD]": pieces}, "special_tokens_map": {"pad_token": "[PAD]", "eos_token": ""}}
    files["tokenizer_config"] = {"bos_token": "", "eos_token": "", "unk_token": ""}  # as early conversions have it
    path = folder(sentencepiece_models["llama"], config={"vocab_size": pieces}, **files)
    without_row = tokenizers.load_tokenizer(path)  # the tokenizer has the token, the model has no row for it
    assert without_row.min_model_vocab_size == pieces and without_row.pad_id == 0 and without_row.eos_id == 2
    with_row = tokenizers.load_tokenizer(folder(None, config={"vocab_size": pieces + 1}))
    assert with_row.pad_id == pieces and with_row.decode([pieces]) == "" and with_row.vocab_size == pieces + 1
    assert pieces not in with_row.encode("a [PAD] b")


def test_an_added_token_that_is_not_special_is_part_of_the_vocabulary(sentencepiece_models, folder):
    pieces = tokenizers.load_tokenizer(sentencepiece_models["llama"]).vocab_size
    decoder = {
        str(pieces): added(content="<tool>", special=False),
        str(pieces + 1): added(content="<tool><x>", special=False, rstrip=True),
        str(pieces + 3): added(content="<|end|>"),
    }
    path = folder(
        sentencepiece_models["llama"],
        config={"vocab_size": pieces + 4},
        tokenizer_config={"bos_token": "<s>", "eos_token": "</s>", "added_tokens_decoder": decoder},
    )
    tokenizer = tokenizers.load_tokenizer(path)
    one, two = tokenizer.encode("one"), tokenizer.encode("two")
    assert tokenizer.encode("one<tool>two") == [*one, pieces, *two]
    assert tokenizer.encode("one<tool><x>  two") == [*one, pieces + 1, *two]
    assert pieces + 3 not in tokenizer.encode("one<|end|>two")
    assert tokenizer.decode(tokenizer.encode("one<tool>two")) == "one<tool>two"
    exported = path / "exported"
    exported.mkdir()
    (exported / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": pieces + 4}))
    assert tokenizers.export_tokenizer(tokenizer, exported) is None
    plain, again = AutoTokenizer.from_pretrained(exported), tokenizers.load_tokenizer(exported)
    for text in (*tokenizers.probe_texts(300), "a<tool>  b", "<tool>", "<tool><x> <tool>", " <|end|>x", "x<s><tool>"):
        assert again.encode(text) == tokenizer.encode(text)
        if not text.startswith("<s>"):
            assert plain(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text), text
    assert plain.convert_ids_to_tokens([pieces, pieces + 1, pieces + 3]) == ["<tool>", "<tool><x>", "<|end|>"]
    assert again.fingerprint == tokenizers.load_tokenizer(exported).fingerprint


def test_a_symbol_of_the_file_that_the_folder_makes_special_is_not_read_out_of_text(sentencepiece_models, folder):
    """As `<start_of_turn>` of Gemma."""
    plain = tokenizers.load_tokenizer(sentencepiece_models["symbols"])
    (symbol,) = plain.encode("<sep>")[-1:]
    assert plain.spelling(symbol) == "<sep>"
    path = folder(
        sentencepiece_models["symbols"],
        config={"model_type": "llama", "vocab_size": plain.vocab_size},
        tokenizer_config={"bos_token": "<s>", "added_tokens_decoder": {str(symbol): added(content="<sep>")}},
        generation_config={"eos_token_id": [2, symbol]},
    )
    tokenizer = tokenizers.load_tokenizer(path)
    assert symbol not in tokenizer.encode("a <sep> b") and tokenizer.decode([symbol]) == ""
    assert tokenizer.encode("a [CODE] b") == plain.encode("a [CODE] b")
    assert tokenizer.stop_ids == (2, symbol)
    assert tokenizer.fingerprint != plain.fingerprint
    assert tokenizers.export_tokenizer(tokenizer, path) is None
    assert AutoTokenizer.from_pretrained(path)("a <sep> b", add_special_tokens=False)["input_ids"] == tokenizer.encode(
        "a <sep> b"
    )


@pytest.mark.parametrize(
    ("files", "stop_ids"),
    [
        ({}, (2,)),
        ({"generation_config": {"eos_token_id": 7}}, (2, 7)),
        ({"generation_config": {"eos_token_id": [7, 2, 9]}}, (2, 7, 9)),
        ({"config": {"eos_token_id": [8, 9]}}, (2, 8, 9)),
        ({"config": {"eos_token_id": 8}, "generation_config": {"eos_token_id": [9]}}, (2, 9, 8)),
        ({"config": {"eos_token_id": None}, "generation_config": {}}, (2,)),
        ({"config": {"eos_token_id": 10**6, "vocab_size": 700}}, (2,)),
        ({"config": {"text_config": {"eos_token_id": 5}}}, (2, 5)),
    ],
)
def test_every_id_that_the_configurations_name_ends_a_text(sentencepiece_models, folder, files, stop_ids):
    tokenizer = tokenizers.load_tokenizer(folder(sentencepiece_models["llama"], **files))
    assert tokenizer.stop_ids == stop_ids
    for id_ in stop_ids:
        assert tokenizer.decode([id_]) == ""
        assert OrcaEncoding(tokenizer, 64).is_finished([5, id_], []) and LeaderboardEncoding(tokenizer, 64).is_finished(
            [id_], []
        )


def test_the_fingerprint_changes_with_whatever_changes_ids_or_ends(sentencepiece_models, folder, tmp_path):
    model_file = sentencepiece_models["llama"]
    fingerprints = {tokenizers.load_tokenizer(model_file).fingerprint}
    assert {tokenizers.load_tokenizer(folder(model_file)).fingerprint} == fingerprints  # a folder that adds nothing
    for files in (
        {"added_tokens": {"<x>": 900}},
        {"added_tokens": {"<y>": 900}},
        {"tokenizer_config": {"added_tokens_decoder": {"900": added(content="<y>")}}},
        {"tokenizer_config": {"eos_token": "<s>"}},
        {"tokenizer_config": {"bos_token": None}},
        {"generation_config": {"eos_token_id": 7}},
    ):
        fingerprint = tokenizers.load_tokenizer(folder(model_file, **files)).fingerprint
        assert fingerprint not in fingerprints
        fingerprints.add(fingerprint)
        for name in files:
            (tmp_path / f"{name}.json").unlink()


# --- no BOS, no EOS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def qwen(byte_level, tmp_path):
    """A folder like Qwen's: no BOS, padded rows, two EOS."""
    shutil.copytree(byte_level, tmp_path / "qwen")
    data = json.loads((tmp_path / "qwen" / "tokenizer.json").read_text(encoding="utf-8"))
    data["post_processor"] = None
    (tmp_path / "qwen" / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    ids = {token["content"]: token["id"] for token in data["added_tokens"]}
    files = {
        "tokenizer_config": {
            "bos_token": None,
            "eos_token": "<|eot_id|>",
            "pad_token": "<|pad|>",
            "add_bos_token": False,
            "tokenizer_class": "Qwen2Tokenizer",
        },
        "config": {"model_type": "qwen2", "vocab_size": 1024, "bos_token_id": ids["<|end_of_text|>"]},
        "generation_config": {"eos_token_id": [ids["<|eot_id|>"], ids["<|end_of_text|>"]]},
    }
    for name, content in files.items():
        (tmp_path / "qwen" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "qwen"


def test_a_tokenizer_without_bos_works_under_every_protocol_and_in_training(qwen):
    tokenizer = tokenizers.load_tokenizer(qwen)
    assert tokenizer.bos_id is None and not tokenizer.adds_bos
    assert [tokenizer.spelling(id_) for id_ in tokenizer.stop_ids] == ["<|eot_id|>", "<|end_of_text|>"]
    record = Record("S", "Say.", None, "Yes.")
    ids, prompt_length = encode_record(record, tokenizer, 256)
    assert ids[:prompt_length] == tokenizer.encode(prompt.render("S", "Say."))
    assert ids[prompt_length:] == [*tokenizer.encode("Yes."), tokenizer.eos_id]
    pair = OrcaEncoding(tokenizer, 256).encode_pair(prompt.render("S", "Say."), "Yes.")
    assert (pair.token_ids, pair.scored_start) == (ids[:-1], prompt_length)
    for rule in (HarnessEncoding, LeaderboardEncoding):
        pair = rule(tokenizer, 256).encode_pair("One", " two")
        assert pair.token_ids == tokenizer.encode("One two") and pair.scored_start == len(tokenizer.encode("One"))
        empty = rule(tokenizer, 256).encode_pair("", "two")  # as the harness: EOS stands before the first token
        assert (empty.token_ids, empty.scored_start) == ([tokenizer.eos_id, *tokenizer.encode("two")], 1)
        assert rule(tokenizer, 512).encode_prompt("", max_new_tokens=64).token_ids == [tokenizer.eos_id]


def test_plain_puts_bos_where_plain_transformers_does(byte_level, tmp_path, sentencepiece_models, folder):
    """GPT-2 and Pythia have a BOS that their tokenizer does not add."""
    tokenizer = tokenizers.load_tokenizer(byte_level)
    assert tokenizer.adds_bos and HarnessEncoding(tokenizer, 64).encode_pair("a", " b").token_ids[0] == tokenizer.bos_id
    shutil.copytree(byte_level, tmp_path / "gpt2")
    data = json.loads((tmp_path / "gpt2" / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "gpt2" / "tokenizer.json").write_text(json.dumps(data | {"post_processor": None}), encoding="utf-8")
    silent = tokenizers.load_tokenizer(tmp_path / "gpt2")
    assert silent.bos_id == tokenizer.bos_id and not silent.adds_bos
    assert HarnessEncoding(silent, 64).encode_pair("a", " b").token_ids == silent.encode("a b")
    assert HarnessEncoding(silent, 64).encode_pair("", "b").token_ids == [silent.bos_id, *silent.encode("b")]
    assert OrcaEncoding(silent, 64).encode_pair("a", "b").token_ids[0] == silent.bos_id
    phi = tokenizers.load_tokenizer(folder(sentencepiece_models["llama"], tokenizer_config={"add_bos_token": False}))
    assert phi.bos_id == 1 and not phi.adds_bos


def test_without_eos_a_model_can_be_evaluated_and_not_trained(byte_level, tmp_path):
    shutil.copytree(byte_level, tmp_path / "endless")
    settings = {"bos_token": "<|begin_of_text|>", "eos_token": None}
    (tmp_path / "endless" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer = tokenizers.load_tokenizer(tmp_path / "endless")
    assert tokenizer.eos_id is None and tokenizer.stop_ids == () and tokenizer.eos_text == ""
    rule = LeaderboardEncoding(tokenizer, 64)
    assert rule.text(tokenizer.encode("a: b"), [":"]) == "a"
    with pytest.raises(UserError, match="no EOS"):
        encode_records([Record("", "a", None, "b")], tokenizer, 64)
    with pytest.raises(UserError, match="empty context"):
        rule.encode_pair("", "b")
