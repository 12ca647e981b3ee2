"""The model of a folder on the CPU has its files' numbers in the type that is wanted."""

import json
import shutil

import pytest
import torch

from orca_bench.errors import UserError
from orca_bench.models.model_loading import load_on_cpu


def test_a_model_is_loaded_in_the_files_type_or_in_another(tiny_model, tmp_path):
    load_on_cpu(tiny_model, "float32").to(torch.bfloat16).save_pretrained(tmp_path / "half")
    own, wide = load_on_cpu(tmp_path / "half", "auto"), load_on_cpu(str(tmp_path / "half"), "float32")
    assert {p.dtype for p in own.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in wide.parameters()} == {torch.float32} and not wide.training
    assert all(torch.equal(a.float(), b) for a, b in zip(own.parameters(), wide.parameters(), strict=True))


def test_a_padding_id_beyond_the_vocabulary_is_left_out(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps(config | {"pad_token_id": config["vocab_size"]}))
    assert load_on_cpu(tmp_path / "old", "float32").config.pad_token_id is None


def test_a_folder_that_cannot_be_loaded_is_named(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="broken: transformers cannot load a model here"):
        load_on_cpu(tmp_path / "broken", "float32")
