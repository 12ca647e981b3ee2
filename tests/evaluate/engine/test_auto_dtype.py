"""`--dtype auto` on a CPU: bfloat16 where it was counted and rounds no weight, float32 for all else."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, Qwen2Config

from orca_bench.evaluate.engine import auto_dtype
from orca_bench.models.model_folder import ModelFolder


@pytest.fixture
def make_folder(tmp_path, monkeypatch):
    """A folder with a config and some weights; only its headers are read. As if the CPU were fast and 1,000 parameters many."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(auto_dtype, "MIN_PARAMETERS", 1000)

    def make(dtype=torch.bfloat16, parameters=1000, config=LlamaConfig, architecture="LlamaForCausalLM", **more):
        config(architectures=[architecture]).save_pretrained(tmp_path)
        save_file({"w": torch.zeros(parameters, dtype=dtype), **more}, tmp_path / "model.safetensors")
        return ModelFolder(str(tmp_path))

    return make


def test_a_large_llama_stored_in_bfloat16_is_computed_in_it_and_the_user_reads_so(make_folder):
    folder = make_folder()
    assert auto_dtype.choose_dtype(folder, "auto") == "bfloat16"
    assert "--dtype float32" in auto_dtype.auto_dtype_note(folder, "auto")


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": torch.float32},
        {"dtype": torch.float16},
        {"norm": torch.zeros(1)},
        {"parameters": 900},
        {"config": Qwen2Config, "architecture": "Qwen2ForCausalLM"},
    ],
    ids=str,
)
def test_other_models_stay_in_float32(make_folder, change):
    folder = make_folder(**change)
    assert auto_dtype.choose_dtype(folder, "auto") == "auto" and auto_dtype.auto_dtype_note(folder, "auto") is None


def test_a_type_that_is_named_is_taken(make_folder):
    folder = make_folder()
    assert auto_dtype.choose_dtype(folder, "float32") == "float32"
    assert auto_dtype.auto_dtype_note(folder, "bfloat16") is None


def test_without_such_products_in_hardware_it_is_float32(make_folder, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert auto_dtype.choose_dtype(make_folder(), "auto") == "auto"
