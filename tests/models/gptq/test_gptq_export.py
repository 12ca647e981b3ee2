"""A folder is written as GPTQ by auto-round, better than rounded to the nearest, and read back before it has its name."""

import json
import shutil

import pytest
from gptq_folders import OTHER_WEIGHT_NAMES, quantize_layer, write_other_weights
from safetensors.torch import load_file, save_file
from tiny_llamas import make_model

pytest.importorskip("auto_round")

from orca_bench.errors import UserError  # noqa: E402
from orca_bench.models.gptq import gptq_export  # noqa: E402
from orca_bench.models.gptq.gptq_export import check_gptq_export, export_gptq  # noqa: E402
from orca_bench.models.model_folder import ModelFolder, locate_model  # noqa: E402
from orca_bench.models.model_loading import load_model  # noqa: E402

SHAPE = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1}
TOKEN_COUNT = 8 * 512


@pytest.fixture(scope="module")
def llama(tmp_path_factory, mini):
    folder = make_model(tmp_path_factory.mktemp("llama") / "model", mini["mini:tokenizer"], **SHAPE)
    (folder / "orca_bench.json").write_text('{"run": "r", "step": 5}')
    write_other_weights(folder)
    return folder


@pytest.fixture(scope="module")
def token_ids(llama, mini_records):
    tokenizer = ModelFolder(str(llama)).tokenizer
    ids = [id_ for record in mini_records[:900] for id_ in tokenizer.encode(record["instruction"])]
    assert len(ids) >= TOKEN_COUNT
    return ids[:TOKEN_COUNT]


@pytest.fixture(scope="module")
def nearest(tmp_path_factory, llama):
    """The folder that is rounded to the nearest."""
    folder = tmp_path_factory.mktemp("nearest") / "model"
    export_gptq(ModelFolder(str(llama)), folder, [], 0, 64)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))


def test_the_folder_has_the_layout_that_loaders_read_and_the_tokenizer_as_it_was(llama, nearest):
    config = json.loads((nearest / "config.json").read_text())
    settings = config["quantization_config"]
    expected = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True}
    assert expected.items() <= settings.items() and settings["checkpoint_format"] == "gptq"
    assert json.loads((nearest / "quantize_config.json").read_text()) == settings and config["dtype"] == "float16"
    state = load_file(nearest / "model.safetensors")
    base = "model.layers.1.mlp.down_proj"
    shapes = {part: list(state[f"{base}.{part}"].shape) for part in ("qweight", "qzeros", "scales", "g_idx")}
    assert shapes == {"qweight": [24, 64], "qzeros": [3, 8], "scales": [3, 64], "g_idx": [192]}
    assert state["model.embed_tokens.weight"].dtype == state["model.norm.weight"].dtype == state[f"{base}.scales"].dtype
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "generation_config.json"):
        assert (nearest / name).read_bytes() == (llama / name).read_bytes(), name
    assert (llama / "orca_bench.json").is_file() and not (nearest / "orca_bench.json").exists()
    assert not {path.name for path in nearest.iterdir()} & set(OTHER_WEIGHT_NAMES)
    assert not list(nearest.glob("*packed*")) + list(nearest.glob("plain*"))


def test_without_iterations_each_weight_is_rounded_to_the_nearest_step(llama, nearest):
    model = load_model(locate_model(str(nearest)), "auto", "auto").state_dict()
    original = load_file(llama / "model.safetensors")
    for name in ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        weight, rounded = original[name].float(), model[name]
        scales = load_file(nearest / "model.safetensors")[name.replace("weight", "scales")].float()
        steps = scales.T.repeat_interleave(64, dim=1)
        inside = (weight / steps).abs() < 6.5  # the ends of the range cut off more; scales are rounded to float16
        assert ((rounded - weight).abs() <= steps.abs() * 0.55)[inside].all() and inside.float().mean() > 0.8
        _, own = quantize_layer(weight.numpy(), group_size=64)
        own_error = ((own - weight.numpy()) ** 2).mean()
        assert float(((rounded - weight) ** 2).mean()) < 1.5 * own_error


def test_calibration_makes_the_outputs_on_its_text_nearer_than_rounding_to_the_nearest(
    llama, nearest, token_ids, tmp_path
):
    import torch

    report = export_gptq(ModelFolder(str(llama)), tmp_path / "m", token_ids, 10, 64)
    assert (
        report.byte_count == (tmp_path / "m" / "model.safetensors").stat().st_size and 4.3 < report.bits_per_weight < 16
    )
    rows = torch.tensor(token_ids).reshape(8, 512)
    with torch.no_grad():
        logits = {
            folder: load_model(locate_model(str(folder)), "auto", "auto")(rows).logits.log_softmax(-1)
            for folder in (llama, nearest, tmp_path / "m")
        }
    divergence = {
        folder: float((logits[llama].exp() * (logits[llama] - values)).sum(-1).mean())
        for folder, values in logits.items()
    }
    assert 0 < divergence[tmp_path / "m"] < divergence[nearest]


def test_the_group_size_is_the_largest_of_which_all_layers_are_multiples(mini, tmp_path):
    for hidden_size, group_size in ((128, 128), (64, 64), (96, 32)):
        shape = SHAPE | {"hidden_size": hidden_size, "intermediate_size": 384, "num_attention_heads": 1}
        folder = make_model(tmp_path / str(hidden_size), mini["mini:tokenizer"], **shape)
        assert check_gptq_export(ModelFolder(str(folder))) == group_size
    odd = make_model(tmp_path / "odd", mini["mini:tokenizer"], hidden_size=48)
    with pytest.raises(UserError, match="layers of 48, 96 numbers; GPTQ needs multiples of 32"):
        check_gptq_export(ModelFolder(str(odd)))


def test_another_architecture_and_a_missing_package_are_named(llama, tmp_path, monkeypatch):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mistral", hidden_size=64, intermediate_size=64, num_hidden_layers=1, vocab_size=99)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mistral")
    with pytest.raises(UserError, match="a mistral model; only LLaMAs"):
        check_gptq_export(ModelFolder(str(tmp_path / "mistral")))
    monkeypatch.setattr(gptq_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"auto-round; install it: pip install 'orca-bench\[gptq\]'"):
        check_gptq_export(ModelFolder(str(llama)))


def test_too_few_tokens_and_a_rounding_that_fails_leave_nothing(llama, token_ids, tmp_path, monkeypatch, capfd):
    with pytest.raises(UserError, match="3,000 tokens of records; the calibration needs at least 4,096"):
        export_gptq(ModelFolder(str(llama)), tmp_path / "m", token_ids[:3000], 5, 64)
    monkeypatch.setattr(gptq_export, "BITS", 99)
    monkeypatch.setattr(gptq_export.sys.stderr, "isatty", lambda: True)
    with pytest.raises(UserError, match=r"auto-round ended with exit code 1 \(\w+: .*bits"):
        export_gptq(ModelFolder(str(llama)), tmp_path / "m", [], 0, 64)
    assert list(tmp_path.iterdir()) == [] and "Traceback" not in capfd.readouterr().err


def test_a_model_of_a_small_window_and_with_a_padding_id_beyond_its_vocabulary_is_calibrated(
    mini, token_ids, tmp_path, monkeypatch
):
    folder = make_model(tmp_path / "model", mini["mini:tokenizer"], **SHAPE, max_position_embeddings=64)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": config["vocab_size"]}))
    with pytest.raises(UserError, match="511 tokens of records; the calibration needs at least 512"):
        export_gptq(ModelFolder(str(folder)), tmp_path / "q", token_ids[:511], 1, 64)
    quantize, lengths = gptq_export._quantize, []

    def quantize_and_note(folder_text, sequences, *arguments):
        lengths.extend(len(sequence) for sequence in sequences)
        return quantize(folder_text, sequences, *arguments)

    monkeypatch.setattr(gptq_export, "_quantize", quantize_and_note)
    export_gptq(ModelFolder(str(folder)), tmp_path / "q", token_ids[:540], 1, 64)
    assert lengths == [64] * 8 and (tmp_path / "q" / "model.safetensors").is_file()


def test_a_rounding_that_ends_without_words_is_named_by_its_last_line(tmp_path):
    assert gptq_export._failure_reason(tmp_path / "job.json", b"one\nkilled  by\n") == " (killed by)"
    assert gptq_export._failure_reason(tmp_path / "job.json", None) == ""


@pytest.mark.parametrize("fault", ["zeros", "embedding", "whole layer"])
def test_a_folder_that_reads_back_as_another_model_is_refused(llama, nearest, tmp_path, monkeypatch, fault):
    write_folder = gptq_export._write_folder

    def write_wrong_folder(source, packed, folder):
        write_folder(source, packed, folder)
        state = load_file(folder / "model.safetensors")
        if fault == "whole layer":
            for part in ("qweight", "qzeros", "scales", "g_idx"):
                del state[f"model.layers.0.mlp.up_proj.{part}"]
            state["model.layers.0.mlp.up_proj.weight"] = load_file(llama / "model.safetensors")[
                "model.layers.0.mlp.up_proj.weight"
            ]
        elif fault == "zeros":
            state["model.layers.0.mlp.up_proj.qzeros"].fill_(0)
        else:
            state["model.embed_tokens.weight"][5, 7] += 1
        save_file(state, folder / "model.safetensors")

    def copy_nearest(folder_text, sequences, iterations, group_size, folder):
        return shutil.copytree(nearest, folder)

    monkeypatch.setattr(gptq_export, "_quantize", copy_nearest)
    export_gptq(ModelFolder(str(llama)), tmp_path / "right", [], 0, 64)
    monkeypatch.setattr(gptq_export, "_write_folder", write_wrong_folder)
    message = "not quantised by auto-round" if fault == "whole layer" else "differs in the folder that was read back"
    with pytest.raises(UserError, match=message):
        export_gptq(ModelFolder(str(llama)), tmp_path / "wrong", [], 0, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


def test_records_of_a_calibration_are_named_by_their_option_and_what_is_left_out_of_them(command, llama):
    record = {"system": "", "instruction": "Hello " * 5000, "input": "", "response": "Yes"}
    lines = [json.dumps(record) + "\n", json.dumps(record | {"response": ""}) + "\n"]
    (command.folder / "long.jsonl").write_text("".join(lines), encoding="utf-8")
    process = command("export", llama, "--gptq", "--out", "m-gptq", "--records", "long.jsonl")
    assert process.returncode == 2 and not (command.folder / "m-gptq").exists()
    assert "--records long.jsonl: all 1 records lose their whole response" in process.stderr
    assert "tokens; use shorter ones" in process.stderr and "max_length" not in process.stderr
    assert "left out: 1 row without an answer; the first is long.jsonl:2" in process.stderr


def test_a_model_that_cannot_be_written_is_refused_before_the_records_of_its_report_are_read(command, mini):
    make_model(command.folder / "odd", mini["mini:tokenizer"], hidden_size=48)
    words = ["export", "./odd", "--gptq", "--gptq-iterations", "0", "--report", "absent.jsonl"]
    assert "layers of 48, 96 numbers" in command.refused(*words)


def test_the_command_writes_a_folder_that_eval_and_a_report_take(command, llama, mini_records):
    records = "".join(json.dumps(record) + "\n" for record in mini_records[:10])
    (command.folder / "held-out.jsonl").write_text(records, encoding="utf-8")
    words = ["export", llama, "--gptq", "--out", "m-gptq"]
    process = command(*words, "--gptq-iterations", "0", "--report", "held-out.jsonl")
    assert process.returncode == 0, process.stderr
    assert "groups of 64 weights: the model's layers are no multiples of 128" in process.stderr
    assert "4 bits in groups of 64, rounded to the nearest" in process.stdout
    report = json.loads((command.folder / "m-gptq.report.json").read_text())
    assert "m-gptq" in json.dumps(report)
    process = command(*words, "--gptq-iterations", "0")
    assert process.returncode == 2 and "exists already" in process.stderr
