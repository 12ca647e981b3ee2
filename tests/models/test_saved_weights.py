"""The planned files of weights against those of transformers' own save_pretrained."""

import pytest
import torch
from architectures import configuration, tiny
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from orca_bench.models.saved_weights import SavedWeights

#: Separate and tied embeddings, other norms, fused experts that the files have one by one, a buffer that is saved, and two
#: matrices of a layer that the files have as one.
COMMON = ("llama", "mistral", "qwen3", "gemma3_text", "gpt2", "mixtral", "deepseek_v3", "hrm_text")


def planned(model, dtype_name="float32"):
    plan = SavedWeights.plan(model, dtype_name)
    state_dict = model.state_dict()
    pairs = list(plan.file_tensors(lambda name: state_dict[name].to(plan.dtype_by_name[name])))
    assert [(name, tensor.nbytes) for name, tensor in pairs] == list(plan.byte_counts.items())
    return plan, dict(pairs)


def assert_equal_files(model, folder):
    model.save_pretrained(folder)
    expected = load_file(folder / "model.safetensors")
    plan, tensors = planned(model)
    assert set(tensors) == set(expected)
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
    return plan


@pytest.mark.parametrize("name", COMMON)
def test_names_and_bytes_are_those_of_save_pretrained(name, tmp_path):
    plan = assert_equal_files(tiny(configuration(name, 600)), tmp_path)
    assert len(plan.groups) > 4  # never the whole model at once


def test_tied_embeddings_are_written_once_and_untied_ones_both(tmp_path):
    for is_tied in (False, True):
        config = configuration("llama", 600)
        config.tie_word_embeddings = is_tied
        model = tiny(config)
        plan = assert_equal_files(model, tmp_path / str(is_tied))
        assert ("lm_head.weight" in plan.byte_counts) != is_tied and "model.embed_tokens.weight" in plan.byte_counts


@pytest.mark.long
def test_every_architecture_is_written_as_save_pretrained_does(tmp_path):
    architecture_count = 0
    for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        try:
            model = tiny(configuration(name, 600))
        except Exception:  # six that are no models of text: tests/architectures.md
            continue
        assert_equal_files(model, tmp_path / name)
        architecture_count += 1
    assert architecture_count > 150


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["ernie4_5_moe", "afmoe", "deepseek_v3", "llama"])
def test_types_are_those_that_from_pretrained_gives_the_weights(name, dtype, tmp_path):
    model = tiny(configuration(name, 600))
    model.save_pretrained(tmp_path)
    plan = SavedWeights.plan(model, str(dtype).removeprefix("torch."))
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    for weight_name, _ in model.named_parameters():
        assert plan.dtype_by_name[weight_name] == expected.get_parameter(weight_name).dtype, weight_name
