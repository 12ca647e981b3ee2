"""Everything a user can get wrong on the command line: one line, exit 2, no traceback, nothing half-written."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from orca_bench.cli.command_list import RENAMED_OPTIONS
from orca_bench.cli.main import cli

GOOD = {"system": "S", "instruction": "Say yes.", "input": "", "response": "yes"}

RECIPE = """\
name: r
model:
  random: {{hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
  tokenizer: {tokenizer}
data:
  records: [records.jsonl]
  max_length: 64
train: {{global_batch: 2, micro_batch: 1, processes: 2}}
"""


@pytest.fixture
def recipe(tmp_path, mini):
    (tmp_path / "r.yaml").write_text(RECIPE.format(tokenizer=mini["mini:tokenizer"]))
    (tmp_path / "records.jsonl").write_text(json.dumps(GOOD) + "\n")
    return tmp_path / "r.yaml"


def test_a_missing_recipe(command):
    assert "no such recipe" in command.refused("train", "absent.yaml")


def test_malformed_yaml_unknown_key_wrong_type_and_batch(command, recipe):
    text = recipe.read_text()
    for old, new, message in (
        ("name: r", "name: [r", "not YAML"),
        ("train: {", "train: {epoch: 1, ", "did you mean 'epochs'?"),
        ("train: {", "train: {lr: fast, ", "should be a valid number"),
        ("processes: 2", "processes: 3", "is not micro_batch 1 × accumulation 1 × processes 3 = 3"),
    ):
        recipe.write_text(text.replace(old, new))
        line = command.refused("train", "r.yaml")
        assert message in line and "r.yaml" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "records.jsonl: no such file"),
        ("", "records.jsonl: no rows"),
        ('[{"instruction": "x"}]\n', "records.jsonl:1 row 1: columns instruction are not those of records"),
        (json.dumps(GOOD) + "\nnot json\n", "records.jsonl:2: not JSON"),
        (json.dumps(GOOD | {"response": ""}), "records.jsonl:1: no record is left: 1 row without an answer"),
        (
            json.dumps({"instruction": "x", "input": "y"}),
            "records.jsonl:1: columns instruction, input are not those of",
        ),
        (json.dumps({"question": "x", "answer": "y"}), "orca-bench data convert FILE"),
        (json.dumps(GOOD | {"input": [3]}), "records.jsonl:1: 'input' is a list"),
        (json.dumps(GOOD | {"system": "a\ud800"}), "records.jsonl:1: a text with a lone surrogate"),
    ],
)
def test_records_that_are_none(command, recipe, tmp_path, content, message):
    path = tmp_path / "records.jsonl"
    path.unlink() if content is None else path.write_text(content)
    assert message in command.refused("train", "r.yaml")
    assert not (tmp_path / "runs" / "r").exists()


def test_a_precision_that_this_machine_lacks_is_refused_before_training(command, recipe):
    import torch

    if torch.cuda.is_available():
        pytest.skip("no such device here")
    assert "no fp16 on a CPU" in command.refused("train", "r.yaml", "-o", "train.precision=fp16")
    assert not (command.folder / "runs" / "r").exists()
    assert command("train", "r.yaml", "-o", "train.precision=fp16", "--dry-run").returncode == 0


def test_a_row_without_a_response_stops_training_where_the_recipe_is_strict(command, recipe, tmp_path):
    (tmp_path / "records.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"response": ""}))
    line = command.refused("train", "r.yaml", "-o", "data.strict=true")
    assert "records.jsonl:2: data.strict allows no rows without an answer" in line
    process = command("train", "r.yaml", "--dry-run")
    assert (
        process.returncode == 0 and "left out: 1 row without an answer; the first is records.jsonl:2" in process.stdout
    )


def test_records_whose_responses_are_all_cut_away(command, recipe):
    line = command.refused("train", "r.yaml", "-o", "data.max_length=4")
    assert "data.max_length: all 1 records lose their whole response to the cut at 4 tokens; raise it" in line


def test_a_model_folder_that_is_absent_or_lacks_something(command, recipe, tmp_path, tiny_model, mini):
    words = ["-o", "model.random=null", "-o", "model.tokenizer=null"]
    assert "no such model folder" in command.refused("train", "r.yaml", *words, "-o", "model.base=./absent")
    (tmp_path / "empty").mkdir()
    for order in (
        ("train", "r.yaml", *words, "-o", "model.base=empty"),
        ("eval", "--model", "empty"),
        ("generate", "--model", "empty", "hi"),
    ):
        assert "no config.json: not a model folder" in command.refused(*order)
    shutil.copytree(tiny_model, tmp_path / "model")
    for name in ("tokenizer.model", "tokenizer.json"):
        (tmp_path / "model" / name).unlink()
    line = command.refused("eval", "--model", "model", "--benchmarks", mini["mini:benchmarks"])
    assert "no tokenizer here" in line
    (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
    shutil.copy(tiny_model / "tokenizer.model", tmp_path / "model")
    line = command.refused("eval", "--model", "model", "--benchmarks", mini["mini:benchmarks"])
    assert "model.safetensors: not a whole safetensors file" in line
    assert "no such model folder" in command.refused(
        "eval", "--model", "./absent", "--benchmarks", mini["mini:benchmarks"]
    )


def test_no_run_to_evaluate(command, mini):
    assert "no finished run in runs" in command.refused("eval", "--benchmarks", mini["mini:benchmarks"])
    assert "no finished run" in command.refused("generate", "hi")
    assert "no result below runs" in command.refused("table")


def test_unknown_tasks_limits_and_messages(command, tiny_model):
    assert "unknown task 'gsm'" in command.refused("eval", "--tasks", "gsm", "--model", tiny_model)
    for limit in (0, -3):
        assert "--limit" in command.refused("eval", "--limit", limit, "--model", tiny_model)
    assert "ids run from 1 to 16" in command.refused("eval", "--system", 17, "--model", tiny_model)


def test_a_benchmark_directory_without_split_or_column(command, tiny_model, tmp_path, mini):
    assert "no such benchmarks directory" in command.refused("eval", "--model", tiny_model, "--benchmarks", "absent")
    shutil.copytree(mini["mini:benchmarks"], tmp_path / "b")
    order = ["eval", "--model", tiny_model, "--benchmarks", "b"]
    (tmp_path / "b" / "drop" / "train.jsonl").unlink()
    assert "the split 'train' of drop is missing" in command.refused(*order)
    test_split = tmp_path / "b" / "arc_challenge" / "test.jsonl"
    rows = [json.loads(line) for line in test_split.read_text().splitlines()]
    rows[2]["answer"] = rows[2].pop("answerKey")
    test_split.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = command.refused(*order)
    assert "test.jsonl:3: no column 'answerKey'" in line and "did you mean 'answer'" in line
    rows[2]["answerKey"] = "Z"
    test_split.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "test.jsonl:3: not a row of arc_challenge" in command.refused(*order)
    assert not (tmp_path / "runs").exists()


def test_a_result_file_that_is_none(command, tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert "not an orca-bench result" in command.refused("table", "x.json")
    assert "no such file" in command.refused("table", "y.json")
    (tmp_path / "z.json").write_bytes(b"\xff\xfe")
    assert "not a JSON file" in command.refused("table", "z.json")


def test_an_output_folder_that_cannot_be_written(command, recipe, tmp_path, tiny_model, mini):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in command.refused("train", "r.yaml", "--runs", "file")
    order = ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--limit", 1, "--tasks", "drop"]
    assert "cannot write" in command.refused(*order, "--out", "file/r.json")
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q", "answer": "a #### 1"}))
    assert "cannot write" in command.refused("data", "convert", "a.jsonl", "--out", "file/r.jsonl")


def test_a_full_disk_is_named_and_what_was_there_stays(command, tmp_path):
    rows = [{"question": "q" * 5000, "answer": "a #### 1"} for _ in range(200)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "out.jsonl").write_text("earlier")
    # a file-size limit fails a write the way a full disk does, without filling one
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from orca_bench.cli.main import main;"
        "sys.argv = ['orca-bench', 'data', 'convert', 'a.jsonl', '--out', 'out.jsonl']; main()"
    )
    process = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 2 and "cannot write" in process.stderr and "Traceback" not in process.stderr
    assert (tmp_path / "out.jsonl").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl"]


def test_a_device_is_written_to_and_never_replaced(command, tmp_path):
    device = "/dev/full"
    if not os.path.exists(device):
        pytest.skip("no such device here")
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q", "answer": "a #### 1"}))
    line = command.refused("data", "convert", "a.jsonl", "--out", device)
    assert "No space left" in line
    assert stat.S_ISCHR(os.stat(device).st_mode)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder", "folder: cannot write: Is a directory; name a file, not a folder"),
        ("a.jsonl/r.jsonl", "a part of this path is a file: choose another folder"),
        ("r.jsonl.zst", "r.jsonl.zst: .zst is not written; end the name in .gz, or in no compression"),
    ],
)
def test_a_file_that_cannot_be_written_comes_with_what_would_help(command, tmp_path, out, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q", "answer": "a #### 1"}))
    assert message in command.refused("data", "convert", "a.jsonl", "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "folder"]


def test_records_that_are_left_out_are_counted_from_1(command, recipe, tmp_path):
    long = GOOD | {"instruction": "Say yes. " * 40}
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in (GOOD, long, GOOD, long)))
    process = command("train", "r.yaml", "--dry-run")
    assert process.returncode == 0, process.stderr
    assert "2 records lost their whole response to the cut and are left out (counted from 1: 2, 4)" in process.stdout


def test_instructions_of_an_unknown_shape(command, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"foo": 1}\n')
    assert "a.jsonl:1: columns foo are those of no known instruction set" in command.refused(
        "data", "convert", "a.jsonl", "--out", "o.jsonl"
    )
    assert "--systems" in command.refused("data", "convert", "a.jsonl", "--out", "o.jsonl", "--systems", "x")
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [(name, old, new) for name, options in RENAMED_OPTIONS.items() for old, new in options.items()],
)
def test_an_option_that_was_renamed_is_refused_with_its_new_name(command, name, old, new):
    for words in ([old, "x"], [f"{old}=x"]):
        assert command.refused(name, *words) == f"error: {old} is now {new}"
    options = {option for parameter in cli.get_command(None, name).params for option in parameter.opts}
    assert new.split()[0] in options and old not in options


def test_the_program_exits_as_the_command_line_does(command):
    """One real process: what the others see in this one is what a user's shell sees."""
    process, here = command.process("train", "absent.yaml"), command("train", "absent.yaml")
    assert (process.returncode, process.stdout, process.stderr) == (2, "", here.stderr)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("tabel",), "no such command 'tabel'; did you mean 'table'?; orca-bench --help shows the commands"),
        (
            ("data", "conver", "x"),
            "no such command 'conver'; did you mean 'convert'?; orca-bench data --help shows examples",
        ),
        (
            ("eval", "--task", "x"),
            "no such option '--task'; did you mean '--tasks'?; orca-bench eval --help shows examples",
        ),
        (("eval", "me/m"), "got unexpected extra argument (me/m); --model me/m names a model; orca-bench eval --help"),
        (("eval", "--limit", "x"), "--limit: 'x' is not a number of questions"),
        (("eval", "--protocol", "none"), "--protocol: 'none' is not one of 'orca', 'leaderboard', "),
        (("runs", "--json"), "no such option '--json'; did you mean --format json?; orca-bench runs --help"),
        (("compare",), "missing argument 'FIRST'; orca-bench compare --help shows examples"),
        (("check", "x"), "missing option '--baseline'; orca-bench check --help shows examples"),
        (("generate", "--model"), "option '--model' requires an argument"),
    ],
)
def test_words_that_no_command_takes_are_refused_in_one_line(command, words, line):
    assert command.refused(*words).startswith(f"error: {line}")
