"""Whether a result is of a model is found by its weights, tokenizer and configuration, whatever the model is called."""

import json
import shutil

import pytest
from tiny_llamas import make_model

from orca_bench.evaluate.result_models import FolderIdentity
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
    for engine in ("vllm", "llamacpp"):  # which hash no weights of a folder
        assert identity.differing_parts(_description(folder, engine=engine)) == ["weights"]
    assert identity.differing_parts(ModelDescription.model_validate({"name": "m"})) == [
        "config",
        "generation",
        "tokenizer",
    ]
    shutil.copytree(folder.path, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | {"rms_norm_eps": 0.5}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    assert FolderIdentity(ModelFolder(str(tmp_path / "m"))).differing_parts(_description(folder)) == ["config"]
