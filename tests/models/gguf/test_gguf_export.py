"""A folder is written as a GGUF file that was read back first; what GGUF cannot hold is refused, and leaves no file."""

import json
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.models.gguf import gguf_export
from orca_bench.models.gguf.gguf_export import export_gguf
from orca_bench.models.gguf.gguf_import import read_gguf
from orca_bench.models.gguf.gguf_types import FILE_TYPES
from orca_bench.models.model_folder import ModelFolder


@pytest.mark.parametrize("type_name", list(FILE_TYPES))
def test_every_type_is_written_and_passes_its_own_check(llamas, tmp_path, type_name):
    export_gguf(ModelFolder(str(llamas["llama-bpe"])), tmp_path / "m.gguf", type_name)
    assert next(iter(read_gguf(tmp_path / "m.gguf").file.types())) == type_name.upper()


@pytest.mark.parametrize("fault", ["unpermuted", "lost token", "rope base"])
def test_planted_faults_are_refused_and_leave_no_file(llamas, tmp_path, monkeypatch, fault):
    if fault == "unpermuted":
        monkeypatch.setattr(gguf_export, "permute", lambda numbers, head_count: numbers)
    elif fault == "lost token":
        vocabulary_metadata = gguf_export.vocabulary_metadata

        def without_added_token(*arguments):
            metadata = vocabulary_metadata(*arguments)
            metadata["tokenizer.ggml.token_type"] = [
                1 if type_ == 4 else type_ for type_ in metadata["tokenizer.ggml.token_type"]
            ]
            return metadata

        monkeypatch.setattr(gguf_export, "vocabulary_metadata", without_added_token)
    else:
        llama_configuration = gguf_export._add_configuration
        monkeypatch.setattr(
            gguf_export,
            "_add_configuration",
            lambda writer, config, folder: llama_configuration(
                writer, config | {"rope_parameters": config["rope_parameters"] | {"rope_theta": 5e5}}, folder
            ),
        )
    with pytest.raises(UserError, match="norm|token ids|rope_parameters"):
        export_gguf(ModelFolder(str(llamas["symbols"])), tmp_path / "m.gguf", "f32")
    assert list(tmp_path.iterdir()) == []


def test_what_gguf_cannot_express_is_refused(llamas, sentencepiece_models, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(llamas["mini"], other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(
        json.dumps(config | {"model_type": "mistral", "architectures": ["MistralForCausalLM"]})
    )
    with pytest.raises(UserError, match="a mistral model; only LLaMAs"):
        export_gguf(ModelFolder(str(other)), tmp_path / "m.gguf", "f32")
    (other / "config.json").write_text(json.dumps(config))
    for file in other.glob("tokenizer*"):
        file.unlink()
    shutil.copy(sentencepiece_models["unigram"], other / "tokenizer.model")
    with pytest.raises(UserError, match="another kind than BPE"):
        export_gguf(ModelFolder(str(other)), tmp_path / "m.gguf", "f32")


def test_the_command_writes_a_file_and_refuses_one_that_exists(command, llamas):
    words = ["export", llamas["mini"], "--gguf", "q8_0", "--out", "m.gguf", "--runs", "my runs"]
    process = command(*words)
    assert process.returncode == 0 and "exported: m.gguf" in process.stdout, process.stderr
    assert read_gguf(command.folder / "m.gguf").weight_count > 0
    assert process.stderr.splitlines()[-1] == "next: orca-bench eval --model m.gguf --runs 'my runs'"
    assert "m.gguf: exists already" in command.refused(*words)
    words[1] = "absent-model"  # which is not looked for where the file could not be written
    assert "m.gguf: exists already" in command.refused(*words)
