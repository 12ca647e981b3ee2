"""What weights take on disk: of a folder by its headers, of a GGUF file by its types."""

import pytest
from gptq_folders import write_gptq
from safetensors.torch import save_file

from orca_bench.models.gguf.gguf_export import export_gguf
from orca_bench.models.model_folder import ModelFolder, locate_model
from orca_bench.models.model_size import WeightFiles, model_size, weight_files


def test_a_folder_has_the_bits_of_its_dtypes_over_all_its_files(tmp_path):
    import torch

    save_file({"a": torch.zeros(10, 10, dtype=torch.float16)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(300)}, tmp_path / "model-00002-of-00002.safetensors", metadata={"format": "pt"})
    size = model_size(ModelFolder(str(tmp_path)))
    assert size.bits_per_weight == (100 * 16 + 300 * 32) / 400
    assert size.byte_count == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_files_of_weights_have_types_in_the_order_of_their_bytes(tmp_path):
    import torch

    assert weight_files(tmp_path) is None
    save_file({"a": torch.zeros(50, dtype=torch.bfloat16)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(30), "c": torch.zeros(9)}, tmp_path / "model-00002-of-00002.safetensors")
    byte_count = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert weight_files(tmp_path) == WeightFiles(2, byte_count, ("float32", "bfloat16"))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", (9).to_bytes(8, "little") + b"[1, 2, 3]"])
def test_a_file_of_weights_that_is_not_whole_gives_no_facts(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert weight_files(tmp_path) is None


def test_pickled_weights_have_bytes_only(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 77)
    size = model_size(ModelFolder(str(tmp_path)))
    assert (size.byte_count, size.bits_per_weight) == (77, None)


def test_a_gguf_file_has_the_bits_of_its_blocks(tiny_model, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    export_gguf(ModelFolder(str(tiny_model)), tmp_path / "tiny.gguf", "f16")
    size = model_size(locate_model(str(tmp_path / "tiny.gguf")))
    assert size.byte_count == (tmp_path / "tiny.gguf").stat().st_size
    assert 16 < size.bits_per_weight < 16.2  # the norms are float32


def test_a_gptq_folder_has_its_own_bytes_and_bits(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    write_gptq(tiny_model, tmp_path / "gptq", group_size=16)
    size = model_size(locate_model(str(tmp_path / "gptq")))
    assert size.byte_count == sum(path.stat().st_size for path in (tmp_path / "gptq").glob("*.safetensors"))
    assert size.byte_count < model_size(ModelFolder(str(tiny_model))).byte_count and size.bits_per_weight < 32
    assert model_size(ModelFolder(str(tmp_path / "gptq"))) == size


@pytest.mark.parametrize("method", ["auto-round", "awq"])
def test_packed_words_of_another_method_are_not_counted_as_weights(tiny_model, tmp_path, method):
    write_gptq(tiny_model, tmp_path / "q", settings={"quant_method": method}, group_size=16)
    size = model_size(ModelFolder(str(tmp_path / "q")))
    assert size.byte_count > 0 and size.bits_per_weight is None
