"""Whether a result is of a model is found by its weights, tokenizer and configuration, whatever the model is called."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_llamas import make_model

from orca_bench.evaluate.result_models import FolderIdentity
from orca_bench.files import file_sha256
from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_model
from orca_bench.results.models import ModelDescription


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini):
    return ModelFolder(str(make_model(tmp_path_factory.mktemp("model") / "m", mini["mini:tokenizer"])))


def _description(folder, dtype="float32", engine="hf", **parts):
    parts = {"weights": model_identity.weights_sha256(load_model(folder, dtype, gpu_dtype=dtype))} | parts
    identity = model_identity.combine_part_hashes(model_identity.folder_part_hashes(folder) | parts)
    return ModelDescription.model_validate(
        {"name": "m", "identity": identity, "dtype": dtype, "engine": {"name": engine}}
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_result_of_these_weights_is_the_folders_in_each_dtype(folder, dtype):
    assert FolderIdentity(folder).differing_parts(_description(folder, dtype)) == []


def test_other_weights_another_configuration_and_an_unknown_model_are_named(folder, tmp_path):
    identity = FolderIdentity(folder)
    assert identity.differing_parts(_description(folder, weights="0" * 64)) == ["weights"]
    assert identity.differing_parts(_description(folder, engine="vllm")) == ["weights"]
    assert identity.differing_parts(ModelDescription.model_validate({"name": "m"})) == [
        "config",
        "generation",
        "tokenizer",
    ]
    shutil.copytree(folder.path, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | {"rms_norm_eps": 0.5}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    assert FolderIdentity(ModelFolder(str(tmp_path / "m"))).differing_parts(_description(folder)) == ["config"]


def test_a_result_of_llamacpp_is_of_the_gguf_file_with_these_bytes(folder, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    from orca_bench.models.gguf.gguf_export import export_gguf
    from orca_bench.models.model_folder import locate_model

    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m-q8_0.gguf"
    export_gguf(folder, path, "q8_0")
    file_folder = locate_model(str(path), None, print)
    weights = model_identity.gguf_model_identity({}, file_folder, [Path(path)])["weights"]
    assert weights == model_identity.json_sha256([file_sha256(path)])
    description = _description(file_folder, engine="llamacpp", weights=weights)
    assert FolderIdentity(file_folder).differing_parts(description) == []
    other = _description(file_folder, engine="llamacpp", weights="0" * 64)
    assert FolderIdentity(file_folder).differing_parts(other) == ["weights"]
