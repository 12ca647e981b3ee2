"""Tiny LLaMAs of each kind of tokenizer, and the GGUF files that are written of them."""

import pytest
from conftest import make_model

pytest.importorskip("gguf")

#: Sizes that are whole blocks of 32; fewer key heads than query heads, as in today's models.
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="session")
def llamas(tmp_path_factory, mini, sentencepiece_models, byte_level):
    """Model folders by kind of tokenizer: the mini suite's, LLaMA's SentencePiece, LLaMA 3's byte-level BPE."""
    folder = tmp_path_factory.mktemp("llamas")
    tokenizer_files = {
        "mini": mini["mini:tokenizer"],
        "sentencepiece": sentencepiece_models["llama"],
        "symbols": sentencepiece_models["symbols"],
        "no_prefix": sentencepiece_models["no_prefix"],
        "byte_level": byte_level,
    }
    return {kind: make_model(folder / kind, tokenizer_file, **SHAPE) for kind, tokenizer_file in tokenizer_files.items()}


@pytest.fixture(scope="session")
def gguf_files(tmp_path_factory, llamas):
    """Files in float32 by kind of tokenizer."""
    from orca_bench.models.gguf.gguf_export import export_gguf

    folder = tmp_path_factory.mktemp("gguf_files")
    paths = {kind: folder / f"{kind}.gguf" for kind in llamas}
    for kind, path in paths.items():
        export_gguf(llamas[kind], path, "f32")
    return paths
