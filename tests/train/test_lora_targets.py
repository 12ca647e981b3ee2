"""Which layers LoRA is trained beside, and what is refused before anything is trained."""

import importlib.metadata
import json
import sys
import tomllib
from pathlib import Path

import pytest
from gptq_folders import write_gptq
from tiny_llamas import make_model
from transformers import GemmaConfig, GPT2Config, LlamaConfig

from orca_bench import recipe_file
from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder
from orca_bench.recipe import Data, Lora, Model, Recipe, Train
from orca_bench.train import lora, lora_targets, student_model
from orca_bench.train.model_shape import ModelShape
from orca_bench.train.planned_workload import described_workload
from orca_bench.train.run_setup import check_machine, compute_prepared_run
from orca_bench.train.train_recipe import describe_training

SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIG = LlamaConfig(**SIZES, num_key_value_heads=2, vocab_size=500)


def layers(config=CONFIG):
    return lora_targets.linear_layers(student_model.build_model_without_numbers(config))


def target_names(targets=None, config=CONFIG):
    return [
        layer.name for layer in lora_targets.target_layers(Lora(rank=2, alpha=2.0, targets=targets), layers(config))
    ]


def refusal(config=CONFIG, **keys):
    with pytest.raises(UserError) as caught:
        lora_targets.check_targets(Lora(**({"rank": 2, "alpha": 2.0} | keys)), layers(config))
    return str(caught.value)


def test_by_default_all_linear_layers_but_the_output_head_are_targets():
    assert target_names() == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert target_names(["lm_head", "v_proj"]) == ["v_proj", "lm_head"]


def test_the_weights_are_those_that_peft_trains():
    model = student_model.build_random_model(CONFIG, seed=0)
    base_count = sum(parameter.numel() for parameter in model.parameters())
    train = Train(lora=Lora(rank=5, alpha=2.0, targets=["k_proj", "down_proj", "lm_head"]))
    lora.inject_adapter(model, train.lora, seed=0)
    shape = ModelShape.of_config(CONFIG)
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert shape.adapter_parameter_count(train) == shape.trained_parameter_count(train) == sum(trained)
    assert shape.parameter_count == base_count == shape.trained_parameter_count(Train())


def test_a_target_that_the_model_does_not_have_is_named_with_the_nearest_ones_and_all_others():
    message = refusal(targets=["q_proj", "k_pro"])
    assert message.startswith("train.lora.targets: this model has no linear layer 'k_pro'")
    assert "did you mean 'k_proj'" in message and "linear layers of this model: q_proj, k_proj, v_proj" in message
    message = refusal(targets=["query_key_value"])
    assert "linear layers of this model: q_proj" in message
    assert "no linear layer 'embed_tokens'" in refusal(targets=["embed_tokens"])


def test_an_output_head_that_shares_its_weights_is_no_target():
    assert "no linear layer 'lm_head'" in refusal(
        GemmaConfig(**SIZES, vocab_size=500, head_dim=16, num_key_value_heads=2), targets=["lm_head"]
    )


def test_a_model_without_linear_layers_is_refused():
    message = refusal(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=100))
    assert "this model has no linear layers that LoRA can be trained beside; they have to be torch.nn.Linear" in message


def test_a_model_whose_only_linear_layer_is_its_head_is_refused_unless_the_head_is_named():
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=100, tie_word_embeddings=False)
    message = refusal(config)
    assert "no linear layers that LoRA can be trained beside but its output head" in message
    assert "name it with train.lora.targets=[lm_head]" in message
    lora_targets.check_targets(Lora(rank=2, alpha=2.0, targets=["lm_head"]), layers(config))


def test_no_weight_is_trained_where_lora_has_no_targets():
    shape = ModelShape.of_config(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=100))
    assert shape.trained_parameter_count(Train(lora=Lora(rank=2, alpha=2.0))) == 0
    assert shape.trained_parameter_count(Train()) == shape.parameter_count


def test_a_rank_above_the_smaller_side_of_a_targets_matrix_is_refused_with_both_ways_out():
    message = refusal(rank=33)
    assert "rank 33 is more than the smaller side of k_proj, a matrix of 32 × 64" in message
    assert "give 32 or less, or train.lora.targets without k_proj" in message
    lora_targets.check_targets(Lora(rank=33, alpha=1.0, targets=["q_proj"]), layers())
    lora_targets.check_targets(Lora(rank=32, alpha=1.0), layers())


def test_a_missing_peft_is_named_with_its_extra(monkeypatch):
    train = Train(precision="fp32", processes=1, micro_batch=16, lora=Lora(rank=8, alpha=8.0))
    recipe = Recipe(name="r", model=Model(base="b"), data=Data(records=["r"]), train=train)
    check_machine(recipe)
    monkeypatch.setitem(sys.modules, "peft", None)  # as Python marks a module that cannot be imported
    with pytest.raises(UserError, match=r"train\.lora: the package peft is not installed; install orca-bench\[lora\]"):
        check_machine(recipe)
    check_machine(recipe.model_copy(update={"train": train.model_copy(update={"lora": None})}))


def test_another_version_of_peft_than_the_extra_installs_is_named_with_the_extra(monkeypatch):
    extra = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert extra["project"]["optional-dependencies"]["lora"] == [f"peft>={lora.PACKAGE_RELEASE},<0.19"]
    section, version_of = Lora(rank=8, alpha=8.0), importlib.metadata.version
    for version in ("0.18", "0.18.1"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        lora.check_package(section)
    for version in ("0.17.1", "0.19.0", "0.180"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        with pytest.raises(UserError, match=rf"peft {version} is installed, and LoRA needs peft 0\.18; install orca-"):
            lora.check_package(section)
        lora.check_package(None)
    monkeypatch.setattr(importlib.metadata, "version", version_of)
    lora.check_package(section)


# --- quantised bases ---------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe_of(tmp_path, monkeypatch, mini_records):
    """A function that gives a recipe with LoRA over a base."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in mini_records[:8]))

    def recipe(base):
        (tmp_path / "r.yaml").write_text(
            f"name: r\nmodel:\n  base: {base}\ndata:\n  records: [records.jsonl]\n  max_length: 256\n"
            "train:\n  global_batch: 16\n  precision: fp32\n  lora:\n    rank: 4\n    alpha: 8\n"
        )
        return recipe_file.read_recipe_file("r.yaml")

    return recipe


def without_lora(recipe):
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"lora": None})})


def test_a_quantised_folder_is_refused_with_the_reason_though_its_weights_can_be_dequantised(recipe_of, tmp_path, mini):
    plain = make_model(tmp_path / "plain", mini["mini:tokenizer"], hidden_size=64, intermediate_size=128)
    assert describe_training(recipe_of("plain")).trained_parameter_count > 0
    write_gptq(plain, tmp_path / "quantised")
    with pytest.raises(UserError, match="model.base: the weights of quantised are quantised: LoRA is trained beside"):
        describe_training(recipe_of("quantised"))
    with pytest.raises(UserError, match="model.base: the weights of quantised are quantised"):
        compute_prepared_run(recipe_of("quantised"))
    with pytest.raises(UserError, match="model.base: the weights of quantised are quantised"):
        described_workload(recipe_of("quantised"), 100, None)
    prepared = compute_prepared_run(without_lora(recipe_of("quantised")))
    assert "quantised" in str(prepared.recipe.model.base) and prepared.has_quantized_base
    assert described_workload(without_lora(recipe_of("quantised")), 100, None).has_quantized_base
    assert not described_workload(without_lora(recipe_of("plain")), 100, None).has_quantized_base


def test_a_quantised_gguf_file_is_a_base_and_the_command_says_that_it_is_dequantised(recipe_of, tmp_path, mini):
    pytest.importorskip("gguf", reason="gguf is not installed")
    from orca_bench.models.gguf.gguf_export import export_gguf

    plain = make_model(tmp_path / "plain", mini["mini:tokenizer"], hidden_size=64, intermediate_size=128)
    lines_by_type = {}
    for file_type in ("q8_0", "f16"):
        export_gguf(ModelFolder(str(plain)), tmp_path / f"{file_type}.gguf", file_type)
        lines_by_type[file_type] = lines = []
        prepared = compute_prepared_run(recipe_of(f"{file_type}.gguf"), show_message=lines.append)
        assert prepared.trained_parameter_count < prepared.parameter_count
    message = "q8_0.gguf has 8.5 bits a weight: LoRA is trained beside its dequantised weights"
    assert any(message in line for line in lines_by_type["q8_0"]), lines_by_type
    assert not any("dequantised weights" in line for line in lines_by_type["f16"])
