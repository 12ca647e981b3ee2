"""What is loaded is what is in the folder: weights renamed, dropped, reshaped, cut off, and shards lost are refused by name."""

import json
import shutil

import pytest
import torch
import yaml
from checkout import ROOT
from safetensors.torch import load_file, save_file

from orca_bench.errors import UserError
from orca_bench.models import architecture, weights
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_model
from orca_bench.recipe import Data, Model, Recipe
from orca_bench.train import student_model

HEAD, EMBEDDINGS, QUERY = "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def state(tiny_model):
    """The weights of the tiny model by name."""
    return load_file(tiny_model / "model.safetensors")


@pytest.fixture
def variant(tiny_model, tmp_path):
    """A factory of the tiny model's folder with other weights, and other keys of config.json."""

    def write(state: dict, **keys):
        folder = tmp_path / "model"
        shutil.copytree(tiny_model, folder)
        contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
        save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | keys))
        return folder

    return write


def check_weights(folder) -> list[str]:
    return ModelFolder(str(folder)).unused_weight_names


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


def renamed(state, old, new):
    return {name.replace(old, new, 1): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("", "_orig_mod.", "'_orig_mod.', which torch.compile adds"),
        ("", "module.", "'module.', which DataParallel or DeepSpeed adds"),
        ("model.", "model._orig_mod.", "'_orig_mod.', which torch.compile adds"),
        ("layers.0.", "layers.0._checkpoint_wrapped_module.", "'_checkpoint_wrapped_module.'"),
        ("", "student.", "begin with 'student.'"),
        ("q_proj", "query", "incomplete, or config.json is another model's"),
    ],
)
def test_weights_under_other_names_are_refused_with_the_reason(variant, state, old, new, reason):
    with pytest.raises(UserError, match="would be random numbers") as error:
        check_weights(variant(renamed(state, old, new)))
    assert reason in str(error.value)


def test_each_weight_in_turn_is_missed_when_it_is_absent(variant, state, tmp_path):
    folder = variant(state)
    for name in state:
        save_file(without(state, name), folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match="the files lack 1 weight of the model") as error:
            check_weights(folder)
        assert name in str(error.value)


def test_each_weight_in_turn_is_refused_in_another_shape(variant, state):
    folder = variant(state)
    for name, tensor in state.items():
        save_file(state | {name: tensor[:-1].contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match="1 weight of another shape") as error:
            check_weights(folder)
        assert name in str(error.value)


def test_a_tied_head_need_not_be_saved_and_an_untied_one_must(variant, state, tmp_path):
    with pytest.raises(UserError, match="the output head was not saved"):
        check_weights(variant(without(state, HEAD)))
    shutil.rmtree(tmp_path / "model")
    tied = variant(without(state, HEAD), tie_word_embeddings=True)
    assert check_weights(tied) == []
    model = load_model(ModelFolder(str(tied)), "float32", "auto")
    assert torch.equal(model.lm_head.weight, state[EMBEDDINGS])
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(UserError, match="the files lack 2 weights"):
        check_weights(variant(without(state, HEAD, EMBEDDINGS), tie_word_embeddings=True))


@pytest.mark.parametrize(
    ("surplus", "keys", "reason"),
    [
        ({}, {"num_hidden_layers": 1}, "fewer layers"),
        ({f"{QUERY}.bias": torch.ones(48)}, {}, "no biases"),
        ({"layers.0.self_attn.q_norm.weight": torch.ones(12)}, {}, "another model's"),
        ({"lm_head.bias": torch.ones(1024)}, {}, "no biases"),
        ({f"{QUERY}.lora_A.weight": torch.ones(4, 48)}, {}, "adapter was not merged"),
    ],
)
def test_weights_that_belong_into_the_model_and_have_no_place_are_refused(variant, state, surplus, keys, reason):
    with pytest.raises(UserError, match="without a place in the model") as error:
        check_weights(variant(state | surplus, **keys))
    assert reason in str(error.value)


def test_weights_of_other_parts_are_named_and_old_buffers_are_not(variant, state):
    surplus = {
        "v_head.summary.weight": torch.ones(4),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6),
        "model.layers.0.self_attn.masked_bias": torch.ones(1),
    }
    assert check_weights(variant(state | surplus)) == ["v_head.summary.weight"]


def test_names_without_the_models_prefix_are_the_models(variant, state):
    folder = variant({name.removeprefix("model."): tensor for name, tensor in state.items()})
    assert check_weights(folder) == []
    model = load_model(ModelFolder(str(folder)), "float32", "auto")
    assert torch.equal(model.model.embed_tokens.weight, state[EMBEDDINGS])


@pytest.mark.parametrize("length", [0, 4, 5000, -1])
def test_a_file_that_is_cut_off_is_refused(variant, state, length):
    file = variant(state) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match="model.safetensors: not a whole safetensors file"):
        check_weights(file.parent)


@pytest.fixture
def shards(tiny_model, tmp_path):
    """The tiny model in shards of 200 KB."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(folder, max_shard_size="200KB")
    assert check_weights(folder) == []
    return folder


def test_a_shard_that_is_lost_or_cut_off_is_named(shards):
    shard = next(shards.glob("model-00002-of-*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(UserError, match=f"{shard.name}: not a whole safetensors file"):
        check_weights(shards)
    shard.unlink()
    with pytest.raises(UserError, match=f"1 are absent \\({shard.name}\\)"):
        check_weights(shards)


def test_shards_need_their_index(shards):
    (shards / weights.SAFETENSORS_INDEX).write_text('{"weight_map": []}')
    with pytest.raises(UserError, match="has no 'weight_map'"):
        check_weights(shards)
    (shards / weights.SAFETENSORS_INDEX).unlink()
    with pytest.raises(UserError, match="without their index"):
        check_weights(shards)


def test_a_pickle_of_tensors_is_checked_like_safetensors(tiny_model, state, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    ModelFolder(str(folder)).check_model()
    assert ModelFolder(str(folder)).unused_weight_names == []
    torch.save(without(state, HEAD), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=HEAD):
        ModelFolder(str(folder)).check_model()
    (folder / "pytorch_model.bin").write_bytes(b"broken")
    with pytest.raises(UserError, match="pytorch_model.bin: damaged, or it holds more than tensors"):
        ModelFolder(str(folder)).check_model()


def test_one_expert_of_several_that_is_absent_is_missed(tmp_path):
    from transformers import AutoModelForCausalLM, MixtralConfig

    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=90, num_key_value_heads=2, num_local_experts=3, **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert check_weights(tmp_path) == []
    state = load_file(tmp_path / "model.safetensors")
    expert = next(name for name in state if "experts.1." in name)
    save_file(without(state, expert), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="the files lack parts of 1 weight"):
        check_weights(tmp_path)


def test_an_adapter_is_refused_by_name(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="a PEFT adapter, not a whole model; merge it"):
        ModelFolder(str(tmp_path)).check_model()


def test_eval_generate_and_train_refuse_before_anything_is_loaded(command, variant, state, mini):
    folder = variant(renamed(state, "", "_orig_mod."))
    recipe = yaml.safe_load((ROOT / "recipes" / "mini.yaml").read_text())
    recipe["name"], recipe["model"] = "r", {"base": str(folder)}
    recipe["data"]["records"] = [str(mini["mini:records"])]
    (command.folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    for words in (
        ("eval", "--model", folder, "--benchmarks", mini["mini:benchmarks"]),
        ("generate", "hi", "--model", folder),
        ("train", "r.yaml"),
    ):
        assert "would be random numbers" in command.refused(*words)
    assert not (command.folder / "runs").exists()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 26832432\n"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_called_so(tiny_model, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(POINTER)
    with pytest.raises(UserError, match=f"{name}: .*; it is a Git LFS pointer: fetch the file itself"):
        load_model(ModelFolder(str(folder)), "float32", "auto")


def test_a_pickled_shard_that_is_lost_is_named(tiny_model, state, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    weight_map = {name: names[name == HEAD] for name in state}
    (folder / weights.PICKLE_INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    torch.save(without(state, HEAD), folder / names[0])
    with pytest.raises(UserError, match=f"1 are absent \\({names[1]}\\)"):
        check_weights(folder)
    torch.save({HEAD: state[HEAD]}, folder / names[1])
    assert check_weights(folder) == []


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_integers_are_no_weights_where_no_quantization_is_named(variant, state, kind, pickled):
    name = "model.layers.1.mlp.up_proj.weight"
    changed = state | {name: state[name].to(kind)}
    folder = variant(changed)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(changed, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=f"1 weight in the files are integers \\({name}\\)"):
        check_weights(folder)


def test_a_pickle_without_names_is_refused(variant, state):
    folder = variant(state)
    (folder / "model.safetensors").unlink()
    torch.save(list(state.values()), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pytorch_model.bin: not names with their weights"):
        check_weights(folder)


def test_a_file_is_not_a_model_folder(tiny_model):
    with pytest.raises(UserError, match="a file, not a model folder; name the folder"):
        ModelFolder(str(tiny_model / "model.safetensors")).check_model()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "null", "[]", '"x"', "{"])
def test_a_configuration_that_is_no_json_object_is_named(tiny_model, tmp_path, content, name):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=f"/{name}: not a JSON"):
        ModelFolder(str(folder)).check_model()


@pytest.mark.parametrize("pad", [1024, -1, 32000])
def test_a_pad_id_without_a_row_changes_no_answer_and_no_training(variant, state, mini, pad):
    """Folders of 2023 name a pad id that only the tokenizer has; torch refuses it, or keeps the last row from training."""
    folder = variant(state, pad_token_id=pad)
    ModelFolder(str(folder)).check_model()
    assert ModelFolder(str(folder)).unused_weight_names == []
    folder_of_model = ModelFolder(str(folder))
    model, tokenizer = load_model(folder_of_model, "float32", "auto"), folder_of_model.tokenizer
    embeddings = model.get_input_embeddings()
    assert embeddings.padding_idx is None and torch.equal(embeddings.weight, state[EMBEDDINGS])
    data = Data(records=[str(mini["mini:records"])], max_length=128)
    recipe = Recipe(name="t", model=Model(base=str(folder)), data=data)
    config = student_model.student_config(recipe, tokenizer)
    assert config.pad_token_id is None and student_model.count_parameters(config) == sum(
        t.numel() for t in state.values()
    )


def test_a_pad_id_with_a_row_stays(variant, state):
    assert architecture.load_config(variant(state, pad_token_id=1023)).pad_token_id == 1023


@pytest.mark.parametrize("tokens", [0, -1, -2048])
def test_a_context_window_without_a_token_is_refused_by_its_key(variant, state, tokens):
    folder = variant(state, max_position_embeddings=tokens)
    with pytest.raises(UserError, match=f"config.json: max_position_embeddings is {tokens}"):
        ModelFolder(str(folder)).check_model()
    with pytest.raises(UserError, match=f"config.json: max_position_embeddings is {tokens}"):
        _ = ModelFolder(str(folder)).window_tokens
