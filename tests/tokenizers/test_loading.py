"""Which tokenizer of a folder is the model's, and the message for a folder that has none that can be used."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from orca_bench import tokenizers
from orca_bench.errors import UserError

# --- two tokenizers in one folder ----------------------------------------------------------------------------------------


def test_a_vocabulary_of_tiktoken_does_not_hide_tokenizer_json(byte_level, tmp_path):
    shutil.copytree(byte_level, tmp_path / "llama3")
    (tmp_path / "llama3" / "tokenizer.model").write_text("IQ== 0\nIg== 1\nIw== 2\n")
    tokenizer = tokenizers.load_tokenizer(tmp_path / "llama3")
    assert tokenizer.encode("the answer") == tokenizers.load_tokenizer(byte_level).encode("the answer")
    assert tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(tmp_path / "llama3")) is None


@pytest.mark.parametrize("config", [{"vocab_size": 704}, {"vocab_size": 9000}, {}])
def test_two_tokenizers_of_one_size_are_refused(byte_level, sentencepiece_models, tmp_path, config):
    """A SentencePiece file of some 700 pieces beside a tokenizer.json of 704 tokens: the rows of the model cannot tell."""
    shutil.copytree(byte_level, tmp_path / "both")
    shutil.copy(sentencepiece_models["llama"], tmp_path / "both" / "tokenizer.model")
    (tmp_path / "both" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match="two tokenizers"):
        tokenizers.load_tokenizer(tmp_path / "both")


@pytest.mark.parametrize(("rows", "sentencepiece"), [(704, False), (1024, False), (32_000, True), (32_064, True)])
def test_the_tokenizer_that_fits_the_rows_is_used(byte_level, shared, tmp_path, rows, sentencepiece):
    model_file = shared / "tokenizer" / "tokenizer.model"
    shutil.copytree(byte_level, tmp_path / "both")
    shutil.copy(model_file, tmp_path / "both" / "tokenizer.model")
    (tmp_path / "both" / "config.json").write_text(json.dumps({"vocab_size": rows}), encoding="utf-8")
    if sentencepiece:
        with pytest.raises(UserError, match="bos_token is '<|begin_of_text|>'"):
            tokenizers.load_tokenizer(tmp_path / "both")  # what the settings name is of the other
        (tmp_path / "both" / "tokenizer_config.json").unlink()
    tokenizer = tokenizers.load_tokenizer(tmp_path / "both")
    expected = tokenizers.load_tokenizer(model_file if sentencepiece else byte_level)
    for text in tokenizers.probe_texts(300):
        assert tokenizer.encode(text) == expected.encode(text) and tokenizer.decode(tokenizer.encode(text)) is not None
    assert tokenizer.decode(range(690, 720)) == expected.decode(range(690, 720))
    assert (
        tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(tmp_path / "both")) is None
    ) != sentencepiece  # transformers would take tokenizer.json


def test_the_tokenizer_json_of_the_same_vocabulary_is_not_another_tokenizer(sentencepiece_models, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 700}))
    shutil.copy(sentencepiece_models["llama"], tmp_path / "tokenizer.model")
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)  # its ids differ, its vocabulary does not
    assert isinstance(tokenizers.load_tokenizer(tmp_path), tokenizers.SentencePieceTokenizer)


def test_tokenizer_json_is_used_as_it_stands(byte_fallback, tmp_path):
    """transformers 5.23 rebuilds the tokenizer of such a class by its own rules; if it no longer does, none is reported."""
    shutil.copytree(byte_fallback, tmp_path / "llama")
    settings = json.loads((tmp_path / "llama" / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "LlamaTokenizer"
    (tmp_path / "llama" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer, expected = tokenizers.load_tokenizer(tmp_path / "llama"), tokenizers.load_tokenizer(byte_fallback)
    for text in tokenizers.probe_texts(1000, seed=21):
        assert tokenizer.encode(text) == expected.encode(text), text
    assert "tokenizer.json" in tokenizers.explain_disagreement(
        tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(tmp_path / "llama"))
    )


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
        tokenizers.load_tokenizer(tmp_path / "broken")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0", b"", b"\x00\xff" * 99]
)
def test_a_sentencepiece_file_that_is_none_is_refused_where_nothing_else_is_there(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match="not a SentencePiece model") as error:
        tokenizers.load_tokenizer(tmp_path)
    assert ("git lfs pull" in str(error.value)) == content.startswith(b"version")


def test_a_sentencepiece_file_with_a_flipped_byte_is_refused(sentencepiece_models, tmp_path):
    content = bytearray(sentencepiece_models["llama"].read_bytes())
    content[content.index(b"</s>") + 1] = 0xC9  # the piece is no longer UTF-8
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match="not a SentencePiece model"):
        tokenizers.load_tokenizer(tmp_path)


def test_an_eos_that_no_token_is_is_refused(sentencepiece_models, folder):
    path = folder(sentencepiece_models["llama"], tokenizer_config={"eos_token": "<|im_end|>"})
    with pytest.raises(UserError, match=r"eos_token is '<\|im_end\|>', and no token of the vocabulary is spelled so$"):
        tokenizers.load_tokenizer(path)


def test_an_eos_is_any_piece_of_the_vocabulary_also_one_that_the_folder_spells_otherwise(sentencepiece_models, folder):
    pieces = tokenizers.load_tokenizer(sentencepiece_models["llama"])
    for id_ in (pieces.piece_count - 1, 13, 0, 300):
        settings = {"eos_token": pieces.spelling(id_)}
        assert tokenizers.load_tokenizer(folder(sentencepiece_models["llama"], tokenizer_config=settings)).stop_ids == (
            id_,
        )
        settings = {"eos_token": "<end>", "added_tokens_decoder": {str(id_): {"content": "<end>", "special": True}}}
        assert tokenizers.load_tokenizer(folder(sentencepiece_models["llama"], tokenizer_config=settings)).stop_ids == (
            id_,
        )


def test_an_eos_without_a_row_and_one_without_its_word_mark_are_called_so(sentencepiece_models, folder):
    pieces = tokenizers.load_tokenizer(sentencepiece_models["llama"]).piece_count
    path = folder(
        sentencepiece_models["llama"],
        config={"vocab_size": pieces},
        added_tokens={"<end>": pieces},
        tokenizer_config={"eos_token": "<end>"},
    )
    with pytest.raises(
        UserError, match=f"eos_token is '<end>' with the id {pieces}, and the model's vocab_size is {pieces}"
    ):
        tokenizers.load_tokenizer(path)
    path = folder(sentencepiece_models["llama"], tokenizer_config={"eos_token": " the"})
    with pytest.raises(UserError, match="no token of the vocabulary is spelled so; the vocabulary has '▁the'"):
        tokenizers.load_tokenizer(path)
