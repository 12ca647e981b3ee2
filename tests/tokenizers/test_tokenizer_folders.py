"""Tokenizer folders as people have them: added tokens, padded rows, several EOS, no BOS, two tokenizers, broken files."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate.request_encoding import HarnessEncoding, LeaderboardEncoding, OrcaEncoding
from orca_bench.train.example_encoding import encode, encode_record
from orca_bench.train.record_files import Record

CHATML = ("<|im_end|>", "<|im_start|>")


@pytest.fixture
def folder(tmp_path):
    """Writes a tokenizer folder: a SentencePiece file and the JSON files that are named."""

    def write(model_file, **files):
        if model_file is not None:
            shutil.copy(model_file, tmp_path / "tokenizer.model")
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return tmp_path

    return write


def added(**flags):
    return {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True} | flags


def open_hermes(folder, model_file):
    """A folder like OpenHermes': `<|im_end|>` ends a text, and is behind the file's pieces."""
    pieces = tokenizers.load(model_file).vocab_size
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
    tokenizer = tokenizers.load(open_hermes(folder, sentencepiece_models[kind]))
    assert tokenizer.eos_id == tokenizer.pieces and tokenizer.eos_text == "<|im_end|>"
    ids, _ = encode_record(Record("", "Say.", None, "Yes."), tokenizer, 256)
    assert ids[0] == tokenizer.bos_id == 1 and ids[-1] == tokenizer.eos_id
    answer = [*tokenizer.encode("Yes."), tokenizer.eos_id]
    for rule in (OrcaEncoding, HarnessEncoding, LeaderboardEncoding):
        encoding = rule(tokenizer, 256)
        assert encoding.finished(answer, []) and not encoding.finished(answer[:-1], [])
        assert encoding.text(answer, []) == tokenizer.decode(tokenizer.encode("Yes."))


def test_tokens_and_rows_that_the_file_does_not_have_are_decoded(sentencepiece_models, folder):
    path = open_hermes(folder, sentencepiece_models["llama"])
    tokenizer = tokenizers.load(path)
    ids = tokenizer.encode("one")
    for id_ in (tokenizer.pieces, tokenizer.pieces + 1, tokenizer.pieces + 2, 10**6):
        assert tokenizer.decode([id_]) == "" and tokenizer.decode([*ids, id_, *ids]) == "one one"


def test_an_added_token_without_a_spelling_stands_nowhere_in_a_text(sentencepiece_models, folder):
    pieces = tokenizers.load(sentencepiece_models["llama"]).vocab_size
    config = {"model_type": "llama", "vocab_size": pieces + 1}
    tokenizer = tokenizers.load(folder(sentencepiece_models["llama"], config=config, added_tokens={"": pieces}))
    assert tokenizer.encode("one two") == tokenizers.load(sentencepiece_models["llama"]).encode("one two")


def test_the_pad_token_of_2023_is_no_hindrance(sentencepiece_models, folder):
    pieces = tokenizers.load(sentencepiece_models["llama"]).vocab_size
    files = {"added_tokens": {"[PAD]": pieces}, "special_tokens_map": {"pad_token": "[PAD]", "eos_token": ""}}
    files["tokenizer_config"] = {"bos_token": "", "eos_token": "", "unk_token": ""}  # as early conversions have it
    path = folder(sentencepiece_models["llama"], config={"vocab_size": pieces}, **files)
    without_row = tokenizers.load(path)  # the tokenizer has the token, the model has no row for it
    assert without_row.min_model_vocab_size == pieces and without_row.pad_id == 0 and without_row.eos_id == 2
    with_row = tokenizers.load(folder(None, config={"vocab_size": pieces + 1}))
    assert with_row.pad_id == pieces and with_row.decode([pieces]) == "" and with_row.vocab_size == pieces + 1
    assert pieces not in with_row.encode("a [PAD] b")


def test_an_added_token_that_is_not_special_is_part_of_the_vocabulary(sentencepiece_models, folder):
    pieces = tokenizers.load(sentencepiece_models["llama"]).vocab_size
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
    tokenizer = tokenizers.load(path)
    one, two = tokenizer.encode("one"), tokenizer.encode("two")
    assert tokenizer.encode("one<tool>two") == [*one, pieces, *two]
    assert tokenizer.encode("one<tool><x>  two") == [*one, pieces + 1, *two]
    assert pieces + 3 not in tokenizer.encode("one<|end|>two")
    assert tokenizer.decode(tokenizer.encode("one<tool>two")) == "one<tool>two"
    exported = path / "exported"
    exported.mkdir()
    (exported / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": pieces + 4}))
    assert tokenizers.export(tokenizer, exported) is None
    plain, again = AutoTokenizer.from_pretrained(exported), tokenizers.load(exported)
    for text in (*tokenizers.probe_texts(300), "a<tool>  b", "<tool>", "<tool><x> <tool>", " <|end|>x", "x<s><tool>"):
        assert again.encode(text) == tokenizer.encode(text)
        if not text.startswith("<s>"):
            assert plain(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text), text
    assert plain.convert_ids_to_tokens([pieces, pieces + 1, pieces + 3]) == ["<tool>", "<tool><x>", "<|end|>"]
    assert again.fingerprint == tokenizers.load(exported).fingerprint


def test_a_symbol_of_the_file_that_the_folder_makes_special_is_not_read_out_of_text(sentencepiece_models, folder):
    """As `<start_of_turn>` of Gemma."""
    plain = tokenizers.load(sentencepiece_models["symbols"])
    (symbol,) = plain.encode("<sep>")[-1:]
    assert plain.spelling(symbol) == "<sep>"
    path = folder(
        sentencepiece_models["symbols"],
        config={"model_type": "llama", "vocab_size": plain.vocab_size},
        tokenizer_config={"bos_token": "<s>", "added_tokens_decoder": {str(symbol): added(content="<sep>")}},
        generation_config={"eos_token_id": [2, symbol]},
    )
    tokenizer = tokenizers.load(path)
    assert symbol not in tokenizer.encode("a <sep> b") and tokenizer.decode([symbol]) == ""
    assert tokenizer.encode("a [CODE] b") == plain.encode("a [CODE] b")
    assert tokenizer.stop_ids == (2, symbol)
    assert tokenizer.fingerprint != plain.fingerprint
    assert tokenizers.export(tokenizer, path) is None
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
    tokenizer = tokenizers.load(folder(sentencepiece_models["llama"], **files))
    assert tokenizer.stop_ids == stop_ids
    for id_ in stop_ids:
        assert tokenizer.decode([id_]) == ""
        assert OrcaEncoding(tokenizer, 64).finished([5, id_], []) and LeaderboardEncoding(tokenizer, 64).finished(
            [id_], []
        )


def test_the_fingerprint_changes_with_whatever_changes_ids_or_ends(sentencepiece_models, folder, tmp_path):
    model_file = sentencepiece_models["llama"]
    seen = {tokenizers.load(model_file).fingerprint}
    assert {tokenizers.load(folder(model_file)).fingerprint} == seen  # a folder that adds nothing
    for files in (
        {"added_tokens": {"<x>": 900}},
        {"added_tokens": {"<y>": 900}},
        {"tokenizer_config": {"added_tokens_decoder": {"900": added(content="<y>")}}},
        {"tokenizer_config": {"eos_token": "<s>"}},
        {"tokenizer_config": {"bos_token": None}},
        {"generation_config": {"eos_token_id": 7}},
    ):
        fingerprint = tokenizers.load(folder(model_file, **files)).fingerprint
        assert fingerprint not in seen
        seen.add(fingerprint)
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
    tokenizer = tokenizers.load(qwen)
    assert tokenizer.bos_id is None and not tokenizer.adds_bos
    assert [tokenizer.spelling(id_) for id_ in tokenizer.stop_ids] == ["<|eot_id|>", "<|end_of_text|>"]
    record = Record("S", "Say.", None, "Yes.")
    ids, prompt_length = encode_record(record, tokenizer, 256)
    assert ids[:prompt_length] == tokenizer.encode(prompt.render("S", "Say."))
    assert ids[prompt_length:] == [*tokenizer.encode("Yes."), tokenizer.eos_id]
    pair = OrcaEncoding(tokenizer, 256).encode_pair(prompt.render("S", "Say."), "Yes.")
    assert (pair.ids, pair.start) == (ids[:-1], prompt_length)
    for rule in (HarnessEncoding, LeaderboardEncoding):
        pair = rule(tokenizer, 256).encode_pair("One", " two")
        assert pair.ids == tokenizer.encode("One two") and pair.start == len(tokenizer.encode("One"))
        empty = rule(tokenizer, 256).encode_pair("", "two")  # as the harness: EOS stands before the first token
        assert (empty.ids, empty.start) == ([tokenizer.eos_id, *tokenizer.encode("two")], 1)
        assert rule(tokenizer, 512).encode_prompt("", max_new_tokens=64).ids == [tokenizer.eos_id]


def test_plain_puts_bos_where_plain_transformers_does(byte_level, tmp_path, sentencepiece_models, folder):
    """GPT-2 and Pythia have a BOS that their tokenizer does not add."""
    tokenizer = tokenizers.load(byte_level)
    assert tokenizer.adds_bos and HarnessEncoding(tokenizer, 64).encode_pair("a", " b").ids[0] == tokenizer.bos_id
    shutil.copytree(byte_level, tmp_path / "gpt2")
    data = json.loads((tmp_path / "gpt2" / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "gpt2" / "tokenizer.json").write_text(json.dumps(data | {"post_processor": None}), encoding="utf-8")
    silent = tokenizers.load(tmp_path / "gpt2")
    assert silent.bos_id == tokenizer.bos_id and not silent.adds_bos
    assert HarnessEncoding(silent, 64).encode_pair("a", " b").ids == silent.encode("a b")
    assert HarnessEncoding(silent, 64).encode_pair("", "b").ids == [silent.bos_id, *silent.encode("b")]
    assert OrcaEncoding(silent, 64).encode_pair("a", "b").ids[0] == silent.bos_id
    phi = tokenizers.load(folder(sentencepiece_models["llama"], tokenizer_config={"add_bos_token": False}))
    assert phi.bos_id == 1 and not phi.adds_bos


def test_without_eos_a_model_can_be_evaluated_and_not_trained(byte_level, tmp_path):
    shutil.copytree(byte_level, tmp_path / "endless")
    settings = {"bos_token": "<|begin_of_text|>", "eos_token": None}
    (tmp_path / "endless" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer = tokenizers.load(tmp_path / "endless")
    assert tokenizer.eos_id is None and tokenizer.stop_ids == () and tokenizer.eos_text == ""
    rule = LeaderboardEncoding(tokenizer, 64)
    assert rule.text(tokenizer.encode("a: b"), [":"]) == "a"
    with pytest.raises(UserError, match="no EOS"):
        encode([Record("", "a", None, "b")], tokenizer, 64)
    with pytest.raises(UserError, match="empty context"):
        rule.encode_pair("", "b")


# --- two tokenizers in one folder ----------------------------------------------------------------------------------------


def test_a_vocabulary_of_tiktoken_does_not_hide_tokenizer_json(byte_level, tmp_path):
    shutil.copytree(byte_level, tmp_path / "llama3")
    (tmp_path / "llama3" / "tokenizer.model").write_text("IQ== 0\nIg== 1\nIw== 2\n")
    tokenizer = tokenizers.load(tmp_path / "llama3")
    assert tokenizer.encode("the answer") == tokenizers.load(byte_level).encode("the answer")
    assert tokenizers.check_folder(tmp_path / "llama3") is None


@pytest.mark.parametrize("config", [{"vocab_size": 704}, {"vocab_size": 9000}, {}])
def test_two_tokenizers_of_one_size_are_refused(byte_level, sentencepiece_models, tmp_path, config):
    """A SentencePiece file of some 700 pieces beside a tokenizer.json of 704 tokens: the rows of the model cannot tell."""
    shutil.copytree(byte_level, tmp_path / "both")
    shutil.copy(sentencepiece_models["llama"], tmp_path / "both" / "tokenizer.model")
    (tmp_path / "both" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match="two tokenizers"):
        tokenizers.load(tmp_path / "both")


@pytest.mark.parametrize(("rows", "sentencepiece"), [(704, False), (1024, False), (32_000, True), (32_064, True)])
def test_the_tokenizer_that_fits_the_rows_is_used(byte_level, shared, tmp_path, rows, sentencepiece):
    model_file = shared / "tokenizer" / "tokenizer.model"
    shutil.copytree(byte_level, tmp_path / "both")
    shutil.copy(model_file, tmp_path / "both" / "tokenizer.model")
    (tmp_path / "both" / "config.json").write_text(json.dumps({"vocab_size": rows}), encoding="utf-8")
    if sentencepiece:
        with pytest.raises(UserError, match="bos_token is '<|begin_of_text|>'"):
            tokenizers.load(tmp_path / "both")  # what the settings name is of the other
        (tmp_path / "both" / "tokenizer_config.json").unlink()
    tokenizer = tokenizers.load(tmp_path / "both")
    expected = tokenizers.load(model_file if sentencepiece else byte_level)
    for text in tokenizers.probe_texts(300):
        assert tokenizer.encode(text) == expected.encode(text) and tokenizer.decode(tokenizer.encode(text)) is not None
    assert tokenizer.decode(range(690, 720)) == expected.decode(range(690, 720))
    assert (
        tokenizers.check_folder(tmp_path / "both") is None
    ) != sentencepiece  # transformers would take tokenizer.json


def test_the_tokenizer_json_of_the_same_vocabulary_is_not_another_tokenizer(sentencepiece_models, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 700}))
    shutil.copy(sentencepiece_models["llama"], tmp_path / "tokenizer.model")
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)  # its ids differ, its vocabulary does not
    assert isinstance(tokenizers.load(tmp_path), tokenizers.SentencePieceTokenizer)


def test_tokenizer_json_is_used_as_it_stands(byte_fallback, tmp_path):
    """transformers 5.23 rebuilds the tokenizer of such a class by its own rules; if it no longer does, none is reported."""
    shutil.copytree(byte_fallback, tmp_path / "llama")
    settings = json.loads((tmp_path / "llama" / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "LlamaTokenizer"
    (tmp_path / "llama" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer, expected = tokenizers.load(tmp_path / "llama"), tokenizers.load(byte_fallback)
    for text in tokenizers.probe_texts(1000, seed=21):
        assert tokenizer.encode(text) == expected.encode(text), text
    assert "tokenizer.json" in tokenizers.explain(tokenizers.check_folder(tmp_path / "llama"))


# --- what cannot be used is refused in one line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json"),
        ("tokenizer.json", "[]", "not a JSON object"),
        ("tokenizer.json", "{}", "not the file of a tokenizer"),
        ("tokenizer.json", '{"model": 3}', "not the file of a tokenizer"),
        ("tokenizer.json", '{"model": {}, "added_tokens": [{"id": "x"}]}', "not the file of a tokenizer"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "cannot load a tokenizer"),
        ("tokenizer_config.json", "nonsense", "tokenizer_config.json"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"a": {"content": "b"}}}', "the id 'a'"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"\u0663": {"content": "b"}}}', "the id '\u0663'"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"%s": {"content": "b"}}}' % ("9" * 5000), "the id '999"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"9": 3}}', "without content"),
        ("special_tokens_map.json", "3", "not a JSON object"),
        ("added_tokens.json", '{"[PAD]": "x"}', "no integer"),
        ("added_tokens.json", '{"[PAD]": true}', "no integer"),
        ("generation_config.json", '{"eos_token_id": "</s>"}', "not an integer"),
        ("config.json", '{"eos_token_id": [1, {}]}', "not an integer"),
    ],
)
def test_a_broken_file_is_named(byte_level, tmp_path, name, content, message):
    shutil.copytree(byte_level, tmp_path / "broken")
    (tmp_path / "broken" / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        tokenizers.load(tmp_path / "broken")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0", b"", b"\x00\xff" * 99]
)
def test_a_sentencepiece_file_that_is_none_is_refused_where_nothing_else_is_there(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match="not a SentencePiece model") as error:
        tokenizers.load(tmp_path)
    assert ("git lfs pull" in str(error.value)) == content.startswith(b"version")


def test_a_sentencepiece_file_with_a_flipped_byte_is_refused(sentencepiece_models, tmp_path):
    content = bytearray(sentencepiece_models["llama"].read_bytes())
    content[content.index(b"</s>") + 1] = 0xC9  # the piece is no longer UTF-8
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match="not a SentencePiece model"):
        tokenizers.load(tmp_path)


def test_an_eos_that_no_token_is_is_refused(sentencepiece_models, folder):
    path = folder(sentencepiece_models["llama"], tokenizer_config={"eos_token": "<|im_end|>"})
    with pytest.raises(UserError, match=r"eos_token is '<\|im_end\|>', and no token of the vocabulary is spelled so$"):
        tokenizers.load(path)


def test_an_eos_is_any_piece_of_the_vocabulary_also_one_that_the_folder_spells_otherwise(sentencepiece_models, folder):
    pieces = tokenizers.load(sentencepiece_models["llama"])
    for id_ in (pieces.pieces - 1, 13, 0, 300):
        settings = {"eos_token": pieces.spelling(id_)}
        assert tokenizers.load(folder(sentencepiece_models["llama"], tokenizer_config=settings)).stop_ids == (id_,)
        settings = {"eos_token": "<end>", "added_tokens_decoder": {str(id_): added(content="<end>")}}
        assert tokenizers.load(folder(sentencepiece_models["llama"], tokenizer_config=settings)).stop_ids == (id_,)


def test_an_eos_without_a_row_and_one_without_its_word_mark_are_called_so(sentencepiece_models, folder):
    pieces = tokenizers.load(sentencepiece_models["llama"]).pieces
    path = folder(
        sentencepiece_models["llama"],
        config={"vocab_size": pieces},
        added_tokens={"<end>": pieces},
        tokenizer_config={"eos_token": "<end>"},
    )
    with pytest.raises(
        UserError, match=f"eos_token is '<end>' with the id {pieces}, and the model's vocab_size is {pieces}"
    ):
        tokenizers.load(path)
    path = folder(sentencepiece_models["llama"], tokenizer_config={"eos_token": " the"})
    with pytest.raises(UserError, match="no token of the vocabulary is spelled so; the vocabulary has '▁the'"):
        tokenizers.load(path)
