"""What is no whole GGUF model is named, before anything is written."""

import contextlib

import gguf
import pytest
from gguf_copies import copy_gguf

from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_file import GgufFile, is_gguf
from orca_bench.models.gguf.gguf_import import import_gguf, read_gguf


def test_a_file_of_something_else_is_no_gguf(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(UserError, match="not a GGUF file"):
        GgufFile(tmp_path / "x.gguf")
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="not a GGUF file") as caught:
        GgufFile(tmp_path / "pointer.gguf")
    assert "lfs" in str(caught.value).lower()


def test_a_file_is_known_by_its_first_bytes_whatever_its_name(tmp_path, gguf_files):
    (tmp_path / "blob").write_bytes(gguf_files["mini"].read_bytes())
    assert is_gguf(tmp_path / "blob") and not is_gguf(tmp_path) and not is_gguf(tmp_path / "absent.gguf")
    assert read_gguf(tmp_path / "blob").weight_count == read_gguf(gguf_files["mini"]).weight_count


@pytest.mark.parametrize("kept_share", [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path, gguf_files, kept_share):
    content = gguf_files["mini"].read_bytes()
    (tmp_path / "short.gguf").write_bytes(content[: int(len(content) * kept_share)])
    with pytest.raises(UserError, match="truncated|not a GGUF"):
        read_gguf(tmp_path / "short.gguf")


def test_flipped_bytes_of_the_header_never_end_in_a_traceback(tmp_path, gguf_files):
    content = bytearray(gguf_files["llama-bpe"].read_bytes())
    for position in [*range(4, 600, 7), *range(600, 20_000, 997)]:
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        with contextlib.suppress(UserError):
            read_gguf(tmp_path / "damaged.gguf")


def test_a_big_endian_file_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "big.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="big-endian"):
        GgufFile(tmp_path / "big.gguf")


def test_another_architecture_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "qwen2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="architecture qwen2; only llama"):
        read_gguf(tmp_path / "q.gguf")


def test_a_model_in_shards_is_read_whole_or_the_missing_one_is_named(tmp_path, gguf_files):
    copy_gguf(gguf_files["mini"], tmp_path / "m.gguf", split_max_tensors=8)
    shards = sorted(tmp_path.glob("m-*.gguf"))
    assert len(shards) > 2
    whole = GgufFile(gguf_files["mini"])
    assert set(GgufFile(shards[1]).tensors) == set(whole.tensors)
    assert read_gguf(shards[-1]).configuration == read_gguf(gguf_files["mini"]).configuration
    shards[2].rename(tmp_path / "elsewhere.gguf")
    with pytest.raises(UserError, match=f"1 of {len(shards)} shards are missing: {shards[2].name}"):
        GgufFile(shards[0])
    with pytest.raises(UserError, match=f"a model of {len(shards)} shards, of which 1"):
        GgufFile(tmp_path / "elsewhere.gguf")


@pytest.mark.parametrize(
    "type_number, message",
    [
        (99, "weights of type 99, which the package gguf does not know"),
        (24, r"tensor blk\.0\.attn_q\.weight is of type I8, which cannot be dequantised"),
    ],
)
def test_a_type_of_weights_that_cannot_be_read_is_named(tmp_path, gguf_files, type_number, message):
    content = bytearray(gguf_files["mini"].read_bytes())
    name = b"blk.0.attn_q.weight"
    place = content.index(name) + len(name) + 4 + 2 * 8  # after the number of dimensions and two sizes
    assert content[place : place + 4] == bytes(4)  # F32
    content[place : place + 4] = type_number.to_bytes(4, "little")
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_gguf(tmp_path / "m.gguf")
    assert "another quantisation of the model" in str(caught.value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("llama.attention.head_count", 0, "head_count is 0"),
        ("llama.block_count", 10**8, "tensors of 2 layers"),
        ("llama.context_length", 0, "context_length is 0"),
        ("tokenizer.ggml.token_type", lambda types: [*types[:-1], 9], "not known: 9"),
        ("tokenizer.ggml.add_eos_token", True, "add_eos_token"),
        ("llama.rope.scaling.attn_factor", 0.7, "attn_factor is 0.7"),
        ("llama.rope.scaling.yarn_beta_fast", 16.0, "yarn_beta_fast is 16"),
    ],
)
def test_metadata_that_cannot_be_are_named(tmp_path, gguf_files, key, value, message):
    changed = {key: value}
    if "scaling" in key:
        changed |= {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}
        changed |= {"llama.rope.scaling.original_context_length": 512}
    copy_gguf(gguf_files["mini"], tmp_path / "m.gguf", changed)
    with pytest.raises(UserError, match=message):
        import_gguf(read_gguf(tmp_path / "m.gguf"), tmp_path / "model")
    assert not (tmp_path / "model").exists()
