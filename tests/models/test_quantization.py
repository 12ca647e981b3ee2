"""A folder of quantised weights that cannot be read here is refused with its method's name and the reason."""

import json
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder
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


def test_the_command_ends_with_code_2_before_anything_is_computed(command, quantised, mini):
    folder = quantised({"quant_method": "awq", "bits": 4, "group_size": 128})
    process = command("eval", "--model", folder, "--benchmarks", mini["mini:benchmarks"], "--tasks", "winogrande")
    assert process.returncode == 2 and "quantised by awq" in process.stderr and "Traceback" not in process.stderr


def test_settings_stand_in_either_file_and_a_plain_folder_has_none(quantised, tiny_model, tmp_path):
    assert quantization_settings(tiny_model) == {} == quantization_settings(tmp_path)
    assert quantization_settings(quantised({"quant_method": "awq"})) == {"quant_method": "awq"}
    old = tmp_path / "old"
    shutil.copytree(tiny_model, old)
    (old / "quantize_config.json").write_text('{"bits": 4, "group_size": 128}')
    assert quantization_settings(old) == {"quant_method": "gptq", "bits": 4, "group_size": 128}
