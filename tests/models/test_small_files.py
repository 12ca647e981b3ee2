"""Tokenizer, prompts, licence and card of a folder are copied; weights of any library and their settings are not."""

import pytest
from gptq_folders import write_other_weights

from orca_bench.models.small_files import copy_small_files

SMALL_NAMES = ("LICENSE", "README.md", "chat_template.jinja", "merges.txt", "tokenizer.json", "tokenizer.model")
SETTINGS_NAMES = ("config.json", "gguf.json", "gptq.json", "quantize_config.json", "quantization_config.json")


@pytest.mark.parametrize("uncopied_names", [(), ("README.md",)])
def test_what_is_small_is_copied(tmp_path, uncopied_names):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "original").mkdir(parents=True)
    target.mkdir()
    write_other_weights(source)
    for name in (*SMALL_NAMES, *SETTINGS_NAMES, "model.safetensors", "MODEL.GGUF", "original/params.json"):
        (source / name).write_text(name)
    copy_small_files(source, target, uncopied_names)
    copies = {path.name: path.read_text() for path in target.iterdir()}
    assert copies == {name: name for name in SMALL_NAMES if name not in uncopied_names}
