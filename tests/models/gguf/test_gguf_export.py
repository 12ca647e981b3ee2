"""A folder is written as a GGUF file that was read back first; what GGUF cannot hold is refused, and leaves no file."""

import json
import shutil
import subprocess
import sys

import gguf
import pytest

pytest.importorskip("libgguf")

from orca_bench.errors import UserError  # noqa: E402
from orca_bench.models.gguf import gguf_export, gguf_export_check  # noqa: E402
from orca_bench.models.gguf.gguf_export import check_export, export_gguf  # noqa: E402
from orca_bench.models.gguf.gguf_import import read_gguf  # noqa: E402
from orca_bench.models.gguf.gguf_types import FILE_TYPES  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402

#: The bits of a weight of `wide_llama` in a file of each type, reckoned by hand from the bits of a block and from the matrices
#: to which llama-quantize gives more: the head Q6_K (1024 x 256), attn_v (128 x 256) and ffn_down (256 x 512) of either layer.
BITS = {"f32": 32, "f16": 16.01, "bf16": 16.01, "q8_0": 8.52, "q6_k": 6.58, "q5_1": 6.02, "q5_k_m": 5.79, "q5_0": 5.52}
BITS |= {"q5_k_s": 5.68, "q4_1": 5.02, "q4_k_m": 5.04, "q4_0": 4.52, "q4_k_s": 4.88, "iq4_nl": 4.84, "iq4_xs": 4.63}
BITS |= {"q3_k_l": 4.49, "q3_k_m": 4.26, "q3_k_s": 3.94, "q2_k": 3.47}


@pytest.mark.parametrize("type_name", list(FILE_TYPES))
def test_every_type_is_written_and_says_what_it_is(wide_llama, tmp_path, type_name):
    report = export_gguf(ModelFolder(str(wide_llama)), tmp_path / "m.gguf", type_name)
    file = read_gguf(tmp_path / "m.gguf").file
    assert gguf.LlamaFileType(file.get("general.file_type", int)).name == FILE_TYPES[type_name]
    most_frequent_type = next(iter(file.types()))
    assert most_frequent_type == type_name.upper().removesuffix("_S").removesuffix("_M").removesuffix("_L")
    assert report.types == file.types() and report.position_count > 500
    assert report.bits_per_weight == pytest.approx(BITS[type_name], abs=0.01)
    assert report.mean_kl == 0 if type_name == "f32" else 1e-9 < report.mean_kl < 5


def test_fewer_bits_diverge_more(wide_llama, tmp_path):
    names = ("f32", "f16", "q8_0", "q6_k", "q5_k_s", "q4_k_s", "q3_k_s", "q2_k")
    reports = [export_gguf(ModelFolder(str(wide_llama)), tmp_path / f"{name}.gguf", name) for name in names]
    assert [report.mean_kl for report in reports] == sorted(report.mean_kl for report in reports)


def test_rows_that_are_no_whole_blocks_are_written_in_other_types(llamas, tmp_path):
    report = export_gguf(ModelFolder(str(llamas["llama-bpe"])), tmp_path / "m.gguf", "q4_k_m")
    assert set(report.types) == {"Q5_0", "Q8_0", "F32"}  # rows of 64 and 128 weights


def _unpermuted(monkeypatch):
    monkeypatch.setattr(gguf_export, "permute", lambda numbers, head_count: numbers)


def _without_added_tokens(monkeypatch):
    vocabulary_metadata = gguf_export.vocabulary_metadata

    def without_added_token(*arguments):
        metadata = vocabulary_metadata(*arguments)
        types = [1 if type_ == 4 else type_ for type_ in metadata["tokenizer.ggml.token_type"]]
        return metadata | {"tokenizer.ggml.token_type": types}

    monkeypatch.setattr(gguf_export, "vocabulary_metadata", without_added_token)


def _wrong_rope_base(monkeypatch):
    add_configuration = gguf_export._add_configuration

    def add_wrong_configuration(writer, config):
        rope_parameters = config["rope_parameters"] | {"rope_theta": 5e5}
        add_configuration(writer, config | {"rope_parameters": rope_parameters})

    monkeypatch.setattr(gguf_export, "_add_configuration", add_wrong_configuration)


@pytest.mark.parametrize("type_name", ["f32", "q4_k_m"])
@pytest.mark.parametrize(
    "plant_fault, message",
    [
        (_unpermuted, "norm"),
        (_without_added_tokens, "token ids"),
        (_wrong_rope_base, "rope_parameters"),
    ],
)
def test_planted_faults_are_refused_and_leave_no_file(llamas, tmp_path, monkeypatch, plant_fault, message, type_name):
    plant_fault(monkeypatch)
    with pytest.raises(UserError, match=message):
        export_gguf(ModelFolder(str(llamas["symbols"])), tmp_path / "m.gguf", type_name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "plant_fault, type_name", [(_unpermuted, "f32"), (_wrong_rope_base, "f32"), (_wrong_rope_base, "q8_0")]
)
def test_the_logits_alone_show_a_fault(llamas, tmp_path, monkeypatch, plant_fault, type_name):
    """Without the comparison that comes before them; of rounded matrices, what is in the matrices is theirs to see."""
    plant_fault(monkeypatch)
    check_state = gguf_export_check._check_state

    def check_no_matrix(folder, state, back_state, file):
        return type_name == "f32" or check_state(folder, state, back_state, file)

    monkeypatch.setattr(gguf_export_check, "_check_configuration", lambda *arguments: None)
    monkeypatch.setattr(gguf_export_check, "_check_state", check_no_matrix)
    with pytest.raises(UserError, match="the logits of the file"):
        export_gguf(ModelFolder(str(llamas["symbols"])), tmp_path / "m.gguf", type_name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("type_name, byte_limit", [("f32", 100_000), ("q4_0", 200_000)])
def test_a_full_disk_is_named_and_leaves_no_file(wide_llama, tmp_path, type_name, byte_limit):
    """While the file is written, or while it is read back into a folder that is larger than it."""
    # a file-size limit fails a write the way a full disk does, without filling one
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({byte_limit}, {byte_limit}));"
        "from orca_bench.cli.main import main; sys.argv = ['orca-bench', *sys.argv[1:]]; main()"
    )
    words = ["export", str(wide_llama), "--gguf", type_name, "--out", "m.gguf"]
    process = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 2 and "Traceback" not in process.stderr, process.stderr
    assert "cannot write: " in process.stderr and "free space" in process.stderr, process.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_larger_than_the_embedding_is_refused(llamas, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(llamas["llama-bpe"], folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokens = [
        {"id": id_, "content": f"<extra {id_}>", "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for id_ in range(703, 800)
    ]
    tokenizer["added_tokens"] += tokens
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="the tokenizer has 800 ids and the embedding 7.. rows"):
        export_gguf(ModelFolder(str(folder)), tmp_path / "m.gguf", "f32")
    assert not (tmp_path / "m.gguf").exists()


def _with_normalizer(tokenizer):
    tokenizer["normalizer"] = {"type": "NFC"}


def _with_other_splitting(tokenizer):
    tokenizer["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }


@pytest.mark.parametrize(
    "change, message", [(_with_normalizer, "without a normalizer"), (_with_other_splitting, "no name in GGUF")]
)
def test_a_tokenizer_that_gguf_cannot_express_is_refused_before_anything_is_computed(llamas, tmp_path, change, message):
    folder = tmp_path / "folder"
    shutil.copytree(llamas["gpt-2"], folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    change(tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match=message):
        check_export(ModelFolder(str(folder)), tmp_path / "m.gguf", "f32")
    assert not (tmp_path / "m.gguf").exists()


LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
LLAMA3_ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    "rope, message",
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "rope scaling of type 'dynamic' cannot be written as GGUF"),
        (LLAMA3_ROPE | {"original_max_position_embeddings": 512}, r"original_max_position_embeddings 512 .*only 8192"),
        (LLAMA3_ROPE | {"high_freq_factor": 5.0}, r"high_freq_factor 5.0 .*only 4"),
        (LLAMA3_ROPE | {"rope_theta": 100.0}, r"factor 32.0 .*only 1"),  # no frequency is so low that it is scaled
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 16.0}, r"beta_fast 16.0 .*no place there"),
        ({"rope_type": "linear", "type": "yarn", "factor": 2.0}, r"type 'yarn' .*no place there"),
        ({"rope_type": "linear", "factor": 1.0}, r"rope_type 'linear' .*only 'default'"),
    ],
)
def test_a_rope_scaling_that_gguf_cannot_hold_is_refused_before_anything_is_computed(llamas, tmp_path, rope, message):
    folder = tmp_path / "folder"
    shutil.copytree(llamas["mini"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= rope
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        check_export(ModelFolder(str(folder)), tmp_path / "m.gguf", "f32")
    assert str(caught.value).startswith(f"{folder / 'config.json'}: ")


@pytest.mark.parametrize(
    "rope", [{"type": "linear", "factor": 2.0}, {"type": "linear", "rope_type": "linear", "factor": 2.0}]
)
def test_the_older_spelling_of_a_rope_scaling_is_written(llamas, tmp_path, rope):
    folder = tmp_path / "folder"
    shutil.copytree(llamas["mini"], folder)
    config = json.loads((folder / "config.json").read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": theta, "rope_scaling": rope}))
    export_gguf(ModelFolder(str(folder)), tmp_path / "m.gguf", "f32")
    expected_parameters = {"rope_theta": theta, "rope_type": "linear", "factor": 2.0}
    assert read_gguf(tmp_path / "m.gguf").configuration["rope_parameters"] == expected_parameters


def test_numbers_that_float32_makes_of_a_configuration_are_its_own(llamas, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(llamas["mini"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["rms_norm_eps"], config["rope_parameters"]["rope_theta"] = 9.999999747378752e-06, 10000.000123
    (folder / "config.json").write_text(json.dumps(config))
    export_gguf(ModelFolder(str(folder)), tmp_path / "m.gguf", "f32")
    assert read_gguf(tmp_path / "m.gguf").configuration["rms_norm_eps"] == 1e-05


def test_what_needs_libgguf_is_refused_before_the_weights_are_loaded(wide_llama, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "libgguf", None)
    monkeypatch.setattr(gguf_export, "load_on_cpu", lambda *arguments: pytest.fail("the weights were loaded"))
    with pytest.raises(UserError, match="q4_k_m needs the package libgguf"):
        export_gguf(ModelFolder(str(wide_llama)), tmp_path / "m.gguf", "q4_k_m")


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


def test_one_command_checks_a_folder_once(command, llamas, monkeypatch):
    vocabulary_metadata, calls = gguf_export.vocabulary_metadata, []

    def count_call(*arguments):
        calls.append(arguments)
        return vocabulary_metadata(*arguments)

    monkeypatch.setattr(gguf_export, "vocabulary_metadata", count_call)
    process = command("export", llamas["mini"], "--gguf", "f16", "--out", "m.gguf")
    assert process.returncode == 0 and len(calls) == 1, process.stderr


def test_the_command_writes_a_file_and_refuses_one_that_exists(command, llamas):
    words = ["export", llamas["mini"], "--gguf", "q8_0", "--out", "m.gguf", "--runs", "my runs"]
    process = command(*words)
    assert process.returncode == 0 and "exported: m.gguf" in process.stdout, process.stderr
    assert read_gguf(command.folder / "m.gguf").weight_count > 0
    assert process.stderr.splitlines()[-1] == "next: orca-bench eval --model m.gguf --runs 'my runs'"
    assert "m.gguf: exists already" in command.refused(*words)
    words[1] = "absent-model"  # which is not looked for where the file could not be written
    assert "m.gguf: exists already" in command.refused(*words)
