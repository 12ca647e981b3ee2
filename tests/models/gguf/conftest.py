"""Tiny LLaMAs of each kind of tokenizer, and the GGUF files that are written of them."""

import json

import pytest
from tiny_llamas import make_model

pytest.importorskip("gguf")

#: Sizes that are whole blocks of 32; fewer key heads than query heads, as in today's models.
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}

_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
#: How published tokenizer.json files split text: LLaMA 3's, Qwen 2's, GPT-2's and SmolLM's.
PUBLISHED_SPLITS = {
    "llama-bpe": [_WORDS + r"|\p{N}{1,3}" + _REST],
    "qwen2": [_WORDS + r"|\p{N}" + _REST],
    "gpt-2": [],
    "smollm": [r"\p{N}"],
}


def write_byte_level_tokenizer(folder, splits, texts, ignores_merges):
    """A byte-level BPE as its publisher writes it: the expressions, else GPT-2's own; BOS in front of a text."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    fast = Tokenizer(models.BPE(ignore_merges=ignores_merges))
    uses_own_expression = len(splits) == 0 or splits == [r"\p{N}"]
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated") for split in splits]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=uses_own_expression)]
    )
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    fast.add_special_tokens([AddedToken(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "pad")])
    bos = "<|begin_of_text|>"
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, fast.token_to_id(bos))]
    )
    folder.mkdir()
    fast.save(str(folder / "tokenizer.json"))
    special_tokens = {"bos_token": bos, "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    settings = special_tokens | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def llamas(tmp_path_factory, mini, mini_records, sentencepiece_models):
    """Model folders by kind of tokenizer: the mini suite's, kinds of SentencePiece, and published ways of splitting text."""
    folder = tmp_path_factory.mktemp("llamas")
    tokenizer_files = {"mini": mini["mini:tokenizer"]} | {
        kind: sentencepiece_models[kind] for kind in ("llama", "symbols", "no_prefix")
    }
    texts = [record["response"] for record in mini_records[:2000]]
    for name, splits in PUBLISHED_SPLITS.items():
        tokenizer_files[name] = write_byte_level_tokenizer(
            folder / f"{name}-tokenizer", splits, texts, name == "llama-bpe"
        )
    return {
        kind: make_model(folder / kind, tokenizer_file, **SHAPE) for kind, tokenizer_file in tokenizer_files.items()
    }


@pytest.fixture(scope="session")
def wide_llama(tmp_path_factory, mini):
    """A model folder whose rows are whole blocks of 256, of which K-quants are made."""
    shape = SHAPE | {"hidden_size": 256, "intermediate_size": 512}
    return make_model(tmp_path_factory.mktemp("wide") / "wide", mini["mini:tokenizer"], **shape)


@pytest.fixture(scope="session")
def gguf_files(tmp_path_factory, llamas):
    """Files in float32 by kind of tokenizer."""
    from orca_bench.models.gguf.gguf_export import export_gguf
    from orca_bench.models.model_folder import ModelFolder

    folder = tmp_path_factory.mktemp("gguf_files")
    paths = {kind: folder / f"{kind}.gguf" for kind in llamas}
    for kind, path in paths.items():
        export_gguf(ModelFolder(str(llamas[kind])), path, "f32")
    return paths
