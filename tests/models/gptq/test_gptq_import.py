"""A GPTQ folder is read exactly, whatever quantiser wrote it, wherever a model folder may stand; what is damaged is named."""

import json
import shutil
from pathlib import Path

import pytest
from gptq_folders import OTHER_WEIGHT_NAMES, quantize_layer, write_gptq, write_other_weights
from safetensors.torch import load_file, save_file
from tiny_llamas import make_model

from orca_bench.errors import UserError
from orca_bench.evaluate.config_building import engine_config, evaluation_config
from orca_bench.evaluate.protocol_run import _model_warnings
from orca_bench.models.gptq.gptq_import import import_gptq
from orca_bench.models.gptq.gptq_layout import PackedLayer
from orca_bench.models.model_folder import ModelFolder, locate_model
from orca_bench.models.model_loading import load_model

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def llama(tmp_path_factory, mini):
    return make_model(tmp_path_factory.mktemp("llama") / "model", mini["mini:tokenizer"], **SHAPE)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))


def edit_state(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("zeros_less_one", [True, False])
def test_every_kind_of_folder_is_read_exactly(llama, tmp_path, bits, symmetric, act_order, zeros_less_one):
    options = {"bits": bits, "symmetric": symmetric, "act_order": act_order, "zeros_less_one": zeros_less_one}
    exact = write_gptq(llama, tmp_path / "q", **options)
    model = load_model(locate_model(str(tmp_path / "q")), "auto", "auto")
    state = model.state_dict()
    assert set(exact) <= set(state) and all(bool((state[name] == exact[name]).all()) for name in exact)
    if not symmetric and zeros_less_one:  # a zero of 0 is stored as -1, all bits set
        zeros = load_file(tmp_path / "q" / "model.safetensors")["model.layers.0.mlp.down_proj.qzeros"]
        assert bool((zeros[:, 0] & (2**bits - 1) == 2**bits - 1).all())
    name = "model.layers.0.mlp.down_proj.weight"
    assert not (exact[name] == load_file(llama / "model.safetensors")[name]).all()


def test_a_layer_of_other_bits_than_the_folder_and_one_without_group_numbers(llama, tmp_path):
    exact = write_gptq(llama, tmp_path / "q")
    eight_bits, matrix = quantize_layer(exact["model.layers.1.mlp.down_proj.weight"].numpy(), bits=8)

    def change(state):
        for part, numbers in eight_bits.items():
            state[f"model.layers.1.mlp.down_proj.{part}"] = numbers
        del state["model.layers.0.mlp.down_proj.g_idx"]

    edit_state(tmp_path / "q", change)
    import_gptq(tmp_path / "q", tmp_path / "plain")
    state = load_file(tmp_path / "plain" / "model.safetensors")
    assert (state["model.layers.1.mlp.down_proj.weight"].numpy() == matrix).all()
    name = "model.layers.0.mlp.down_proj.weight"
    assert (state[name] == exact[name]).all()


def test_a_folder_of_2023_names_its_method_in_a_file_of_its_own_and_has_biases_of_zeros(llama, tmp_path):
    exact = write_gptq(llama, tmp_path / "q", zero_biases=True)
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    settings = config.pop("quantization_config")
    (tmp_path / "q" / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"}))
    (tmp_path / "q" / "quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": settings["group_size"]}))
    (tmp_path / "q" / "model.safetensors").rename(tmp_path / "q" / "gptq_model-4bit-32g.safetensors")
    folder = locate_model(str(tmp_path / "q"))
    folder.check_model()
    assert folder.unused_weight_names == []
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (load_model(folder, "auto", "auto").state_dict()[name] == exact[name]).all()


@pytest.mark.parametrize("pad_id", ["vocab_size", -1])
def test_biases_of_zeros_are_dropped_where_the_padding_id_is_not_in_the_vocabulary(llama, tmp_path, pad_id):
    write_gptq(llama, tmp_path / "q", zero_biases=True)
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    config["pad_token_id"] = config["vocab_size"] if pad_id == "vocab_size" else pad_id
    (tmp_path / "q" / "config.json").write_text(json.dumps(config))
    folder = locate_model(str(tmp_path / "q"))
    folder.check_model()
    assert not any(name.endswith(".bias") for name in load_file(f"{folder.path}/model.safetensors"))


def test_biases_in_a_folder_of_a_model_that_cannot_be_built_end_in_an_error_that_names_it(llama, tmp_path):
    for name, changes, message in (
        ("unknown", {"model_type": "made_up"}, "no configuration that transformers can read"),
        ("encoder", {"model_type": "bert"}, "bert is an encoder"),
        ("damaged", {"num_hidden_layers": "two"}, "q: .*(transformers|configuration)"),
    ):
        folder = tmp_path / name / "q"
        folder.parent.mkdir()
        write_gptq(llama, folder, zero_biases=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=message):
            locate_model(str(folder)).check_model()


def test_small_files_are_copied_and_the_weights_of_other_libraries_are_not(llama, tmp_path):
    write_gptq(llama, tmp_path / "q")
    write_other_weights(tmp_path / "q")
    (tmp_path / "q" / "LICENSE").write_text("as it is")
    names = {path.name for path in (tmp_path / "q").iterdir() if path.name not in OTHER_WEIGHT_NAMES}
    folder = locate_model(str(tmp_path / "q"))
    assert {path.name for path in Path(folder.path).iterdir()} == names | {"gptq.json"}


def test_a_bias_that_is_not_zero_is_not_dropped(llama, tmp_path):
    write_gptq(llama, tmp_path / "q", zero_biases=True)
    edit_state(tmp_path / "q", lambda state: state["model.layers.0.mlp.up_proj.bias"].add_(1))
    with pytest.raises(UserError, match="without a place in the model.*up_proj.bias"):
        locate_model(str(tmp_path / "q")).check_model()


def test_a_folder_is_dequantised_once_and_again_when_it_changes(llama, tmp_path, cache):
    write_gptq(llama, tmp_path / "pea")
    messages: list[str] = []
    folders = [locate_model(str(tmp_path / "pea"), show_message=messages.append) for _ in range(2)]
    assert folders[0] == folders[1] and len(messages) == 1 and str(cache) in messages[0]
    folder = folders[0]
    assert folder.name == "pea" and folder.path_or_hub_id == str(tmp_path / "pea") and not folder.is_quantized
    stored_bytes = sum(tensor.nbytes for tensor in load_file(tmp_path / "pea" / "model.safetensors").values())
    count = sum(tensor.numel() for tensor in load_file(llama / "model.safetensors").values())
    assert folder.describe()["bits"] == pytest.approx(8 * stored_bytes / count, abs=1e-3)
    assert folder.has_own_prompt == ModelFolder(str(llama)).has_own_prompt
    assert folder.tokenizer.fingerprint == ModelFolder(str(llama)).tokenizer.fingerprint
    shutil.rmtree(tmp_path / "pea")
    write_gptq(llama, tmp_path / "pea", symmetric=False)
    assert locate_model(str(tmp_path / "pea")).path != folder.path


def test_other_files_of_a_folder_may_change_without_another_copy(llama, tmp_path, cache):
    write_gptq(llama, tmp_path / "q")
    folder = locate_model(str(tmp_path / "q"))
    for name in ("README.md", ".DS_Store", "._config.json", "picture.png"):
        (tmp_path / "q" / name).write_text("another")
    assert locate_model(str(tmp_path / "q")) == folder and len(list(cache.rglob("config.json"))) == 1
    for name in ("model.safetensors", "config.json", "tokenizer.model", "tokenizer.json", "chat_template.jinja"):
        path = tmp_path / "q" / name
        path.touch() if path.exists() else path.write_text("{{ messages }}")
        assert locate_model(str(tmp_path / "q")) != folder, name
        folder = locate_model(str(tmp_path / "q"))


def test_vllm_gets_the_folder_itself_and_no_weights_are_written_where_none_are_needed(llama, mini, tmp_path, cache):
    write_gptq(llama, tmp_path / "q")
    engine = engine_config(engine="vllm")
    config = evaluation_config(
        str(tmp_path / "q"), runs_folder=tmp_path, benchmarks=mini["mini:benchmarks"], engine=engine
    )
    assert config.model_folder == ModelFolder(str(tmp_path / "q")) and config.model_folder.is_quantized
    assert locate_model(str(tmp_path / "q"), with_weights=False).path == str(tmp_path / "q")
    assert not cache.exists()
    (warning,) = _model_warnings(config, "leaderboard")
    assert "bits a weight, run by the engine's own kernel, which rounds too" in warning


def test_a_folder_that_an_engine_runs_itself_has_the_bits_of_its_dequantised_copy(llama, tmp_path):
    for name, options in (("q", {}), ("biases", {"zero_biases": True}), ("two", {"bits": 2, "symmetric": False})):
        write_gptq(llama, tmp_path / name, **options)
        bits = locate_model(str(tmp_path / name), dequantizes=False).describe()["bits"]
        assert 2 < bits < 32 and bits == locate_model(str(tmp_path / name)).describe()["bits"]
    edit_config(tmp_path / "q", checkpoint_format="marlin")
    (tmp_path / "two" / "model.safetensors").unlink()
    for name in ("q", "two"):
        assert "bits" not in locate_model(str(tmp_path / name), dequantizes=False).describe()


def test_the_command_evaluates_a_folder_and_its_result_says_how_many_bits(command, llama, mini, tmp_path):
    write_gptq(llama, tmp_path / "q")
    rows = mini["mini:benchmarks"]
    words = ["eval", "--model", tmp_path / "q", "--benchmarks", rows, "--tasks", "winogrande", "--limit", "2"]
    process = command(*words, "--protocol", "orca", "--out", "r.json")
    assert process.returncode == 0, process.stderr
    model = json.loads((command.folder / "r.json").read_text())["model"]
    assert model["path"] == str(tmp_path / "q") and 4 < model["bits"] < 32
    assert any("what a GPTQ kernel's own rounding costs" in warning for warning in model["warnings"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint_format": "marlin"}, "in the order of marlin"),
        ({"pack_dtype": "int16"}, "in words of int16"),
        ({"bits": "four"}, "bits of the quantisation is 'four'"),
        ({"group_size": None}, "group_size of the quantisation is None"),
        ({"group_size": 0}, "group_size of the quantisation is 0, expected a positive number, or -1"),
        ({"group_size": -2}, "group_size of the quantisation is -2, expected a positive number, or -1"),
    ],
)
def test_settings_that_cannot_be_read_are_named(llama, tmp_path, change, message):
    write_gptq(llama, tmp_path / "q")
    edit_config(tmp_path / "q", **change)
    with pytest.raises(UserError, match=message):
        locate_model(str(tmp_path / "q"))


@pytest.mark.parametrize(("group_size", "count"), [(64, 1), (16, 4), (-1, 1)])
def test_without_group_numbers_the_group_size_must_fit_the_scales(llama, tmp_path, group_size, count):
    write_gptq(llama, tmp_path / "q")
    edit_config(tmp_path / "q", group_size=group_size)
    locate_model(str(tmp_path / "q"))  # the groups are those of g_idx
    edit_state(tmp_path / "q", lambda state: [state.pop(name) for name in list(state) if name.endswith("g_idx")])
    size = 64 if group_size == -1 else group_size
    with pytest.raises(
        UserError, match=f"scales of [24] groups and no g_idx; (64|128) inputs in groups of ({size}|128) have"
    ):
        locate_model(str(tmp_path / "q"))


def test_one_group_of_all_inputs_needs_no_group_numbers(llama, tmp_path):
    exact = write_gptq(llama, tmp_path / "q", group_size=128, settings={"group_size": -1})
    edit_state(tmp_path / "q", lambda state: [state.pop(name) for name in list(state) if name.endswith("g_idx")])
    state = load_model(locate_model(str(tmp_path / "q")), "auto", "auto").state_dict()
    assert all(bool((state[name] == exact[name]).all()) for name in exact)


def _three_bits(state):
    name = "model.layers.0.mlp.up_proj.qweight"
    state[name] = state[name][:6].contiguous()


def _change_part(part, change):
    """A change of one part of a layer in a folder's state."""

    def edit(state):
        name = f"model.layers.0.mlp.up_proj.{part}"
        state[name] = change(state[name]).contiguous()

    return edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("model.layers.0.mlp.up_proj.scales"), "lack model.layers.0.mlp.up_proj.scales"),
        (
            lambda state: state["model.layers.0.mlp.up_proj.g_idx"].fill_(9),
            "up_proj has 2 groups, and inputs of others",
        ),
        (_three_bits, "GPTQ of 3 bits"),
        (
            lambda state: state.update({"model.layers.0.mlp.up_proj.scales": state["model.norm.weight"].clone()}),
            r"up_proj.scales has the shape \[64\], expected a matrix",
        ),
        (_change_part("qweight", lambda t: t.float()), "up_proj.qweight has numbers of the type F32, expected I32"),
        (_change_part("qzeros", lambda t: t.half()), "up_proj.qzeros has numbers of the type F16, expected I32"),
        (_change_part("g_idx", lambda t: t + 0.5), "up_proj.g_idx has numbers of the type F32, expected I32 or I64"),
        (_change_part("scales", lambda t: t.int()), "up_proj.scales has numbers of the type I32, expected F16 or"),
        (_change_part("qweight", lambda t: t[0, 0]), r"up_proj.qweight has the shape \[\], expected a matrix"),
        (_change_part("qweight", lambda t: t[:0]), r"up_proj.qweight has the shape \[0, 128\], expected a matrix"),
        (_change_part("g_idx", lambda t: t[:, None]), r"up_proj.g_idx has the shape \[64, 1\], expected a row"),
        (_change_part("scales", lambda t: t * float("nan")), "up_proj.scales has numbers that are not finite"),
        (_change_part("qweight", lambda t: t[:, :124]), "up_proj has 124 outputs, whose zeros fill no whole words"),
        (
            lambda state: state.update(
                {"model.layers.0.mlp.up_proj.scales": state["model.layers.0.mlp.down_proj.scales"].clone()}
            ),
            "has the shape",
        ),
        (
            lambda state: [state.pop(name) for name in list(state) if "_proj." in name],
            "says GPTQ, and no layer is quantised",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named_and_leave_nothing_in_the_cache(llama, tmp_path, cache, change, message):
    write_gptq(llama, tmp_path / "q")
    edit_state(tmp_path / "q", change)
    with pytest.raises(UserError, match=message):
        locate_model(str(tmp_path / "q"))
    assert not list(cache.rglob("*.safetensors"))


def test_a_truncated_file_and_a_folder_without_safetensors_are_named(llama, tmp_path):
    write_gptq(llama, tmp_path / "q")
    path = tmp_path / "q" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        locate_model(str(tmp_path / "q"))
    path.rename(tmp_path / "q" / "model.pt")
    with pytest.raises(UserError, match="no weights"):
        locate_model(str(tmp_path / "q"))


def test_group_numbers_for_other_inputs_are_refused():
    import numpy as np

    parts, _ = quantize_layer(np.ones((8, 64), np.float32))
    parts["g_idx"] = parts["g_idx"][:32]
    with pytest.raises(UserError, match="not one group for each of 64 inputs"):
        PackedLayer("layer", 4, 32, True, parts).dequantize(None)
