"""Model folders of engines with LoRA: the merged weights give the engine's logits, and the adapter beside them is one of peft."""

import json

import pytest
import torch
from exporting_engine import CASES, TOKEN_IDS, logits_of, run_engines
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SCALE = 12.0 / 4  # alpha / rank in exporting_engine.py


@pytest.fixture(scope="module")
def exports(tmp_path_factory, mini):
    """The folder of all cases, each with the model before its training and after three steps, of two processes."""
    folder = tmp_path_factory.mktemp("lora-exports")
    process = run_engines("lora", 2, folder, mini)
    assert process.returncode == 0, process.stderr[-4000:]
    return folder


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_the_merged_model_has_the_logits_of_its_engine(exports, stage, precision):
    folder = exports / f"{stage}-{precision}"
    expected = torch.load(folder / "logits.pt")
    actual = logits_of(folder / "trained", TORCH_DTYPES[precision])
    untrained = logits_of(folder / "untrained", TORCH_DTYPES[precision])
    if precision == "fp32":
        assert torch.allclose(actual, expected, rtol=0, atol=1e-5)
    difference = (actual.float() - expected.float()).abs().max()
    assert (untrained.float() - expected.float()).abs().max() > 10 * difference  # so they learned something
    ModelFolder(str(folder / "trained")).check_model()


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_weights_are_merged_in_float32_and_rounded_once(exports, stage, precision):
    folder = exports / f"{stage}-{precision}"
    base, merged = (load_file(folder / name / "model.safetensors") for name in ("untrained", "trained"))
    adapter = load_file(folder / "trained" / "adapter" / "adapter_model.safetensors")
    assert set(base) == set(merged) and {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    changed = set()
    for name, weight in merged.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.weight" not in adapter:
            assert torch.equal(weight, base[name]), name
            continue
        changed.add(name.split(".")[-2])
        product = SCALE * (adapter[f"{prefix}.lora_B.weight"].double() @ adapter[f"{prefix}.lora_A.weight"].double())
        expected = base[name].double() + product
        ulp = torch.finfo(weight.dtype).eps / 2 * expected.abs() + 1e-6
        assert ((weight.double() - expected).abs() <= ulp).all() and not torch.equal(weight, base[name])
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(("stage", "precision"), [case for case in CASES if case[1] == "fp32"])
def test_pefts_own_loader_gives_the_same_model_and_its_merge_the_same_weights(exports, stage, precision):
    folder = exports / f"{stage}-{precision}"
    base = AutoModelForCausalLM.from_pretrained(folder / "untrained", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder / "trained" / "adapter").eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(TOKEN_IDS), use_cache=False).logits
    assert torch.allclose(logits, torch.load(folder / "logits.pt"), rtol=0, atol=1e-5)
    merged = model.merge_and_unload().state_dict()
    for name, weight in load_file(folder / "trained" / "model.safetensors").items():
        assert torch.allclose(weight, merged[name], rtol=0, atol=1e-6), name


def test_the_adapters_folder_says_what_it_is_and_is_no_model(exports):
    folder = exports / "3-fp32" / "trained"
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", "c0")
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 12, 0.0)
    with pytest.raises(UserError, match=f"a PEFT adapter, not a whole model; name {folder}, into whose weights"):
        ModelFolder(str(folder / "adapter")).check_model()
