"""A folder of quantised weights that cannot be read here is refused with its method's name and the reason."""

import json
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder, locate_model
from orca_bench.models.quantization import quantization_settings


@pytest.fixture
def quantised(tiny_model, tmp_path):
    """A function that gives a copy of a tiny model whose config.json has a quantization_config."""

    def copy(settings):
        folder = tmp_path / "q"
        shutil.copytree(tiny_model, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
        return folder

    return copy


@pytest.mark.parametrize(
    ("settings", "name", "reason"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "awq", "requires gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", "requires bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes", "requires bitsandbytes"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors", "pip install"),
        ({"quant_method": "hqq", "quant_config": {}}, "hqq", "HQQ"),
        ({"quant_method": "squeezed"}, "squeezed", "transformers does not know"),
        ({"bits": 4}, "no quant_method", ""),
    ],
)
def test_a_method_that_cannot_be_read_here_is_named_with_the_reason(quantised, settings, name, reason):
    with pytest.raises(UserError, match=f"quantised.*{name}.*{reason}") as caught:
        ModelFolder(str(quantised(settings))).check_model()
    assert "GPTQ folder or GGUF file" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant_method": ["gptq"], "bits": 4}, r"quant_method of the quantisation is \['gptq'\], expected a name"),
        ({"quant_method": {}}, "quant_method of the quantisation is {}, expected a name"),
        ({"quant_method": 4}, "quant_method of the quantisation is 4, expected a name"),
        (["gptq"], r"quantization_config is \['gptq'\], expected a JSON object"),
        ("gptq", "quantization_config is 'gptq', expected a JSON object"),
        (False, "quantization_config is False, expected a JSON object"),
    ],
)
def test_settings_of_another_type_are_named(quantised, settings, message):
    folder = quantised(settings)
    with pytest.raises(UserError, match=message):
        locate_model(str(folder))
    with pytest.raises(UserError):  # of a list, transformers says it first
        ModelFolder(str(folder)).check_model()


def test_a_quantize_config_that_is_no_json_object_is_named(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "old")
    (tmp_path / "old" / "quantize_config.json").write_text("[4, 128]")
    with pytest.raises(UserError, match=r"quantize_config.json: settings of the quantisation are \[4, 128\]"):
        ModelFolder(str(tmp_path / "old")).check_model()


def test_the_command_ends_with_code_2_before_anything_is_computed(command, quantised, mini):
    folder = quantised({"quant_method": "awq", "bits": 4, "group_size": 128})
    words = ("eval", "--model", folder, "--benchmarks", mini["mini:benchmarks"], "--tasks", "winogrande")
    process = command(*words)
    assert process.returncode == 2 and "quantised by awq" in process.stderr and "Traceback" not in process.stderr
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": ["gptq"]}}))
    process = command(*words)
    assert process.returncode == 2 and "quant_method of the quantisation is ['gptq']" in process.stderr


def test_settings_stand_in_either_file_and_a_plain_folder_has_none(quantised, tiny_model, tmp_path):
    assert quantization_settings(tiny_model) == {} == quantization_settings(tmp_path)
    assert quantization_settings(quantised({"quant_method": "awq"})) == {"quant_method": "awq"}
    old = tmp_path / "old"
    shutil.copytree(tiny_model, old)
    (old / "quantize_config.json").write_text('{"bits": 4, "group_size": 128}')
    assert quantization_settings(old) == {"quant_method": "gptq", "bits": 4, "group_size": 128}
