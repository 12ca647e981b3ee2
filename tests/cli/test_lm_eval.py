"""`orca-bench lm-eval`: lm-eval's own command line, its files, and its errors in one line."""

import json

import pytest
from harness_rows import write_rows

from orca_bench.errors import UserError

pytestmark = pytest.mark.slow  # lm-eval finds its task files, ten seconds the first time


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), 4)


@pytest.fixture
def lm_eval(command, tiny_model, rows, monkeypatch):
    """Runs the command on the tiny model over the invented rows."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def run(*words, model_args=""):
        arguments = ("--model_args", f"pretrained={tiny_model},dtype=float32{model_args}", "--benchmarks", rows)
        return command("lm-eval", *words, *arguments)

    return run


def test_results_and_samples_are_written_as_lm_eval_writes_them(lm_eval, tmp_path):
    process = lm_eval(
        *("--tasks", "arc_easy,wikitext,triviaqa", "--gen_kwargs", "max_gen_toks=8", "--batch_size", 4),
        *("--output_path", tmp_path / "out", "--log_samples", "--limit", 3),
    )
    assert process.returncode == 0, process.stderr
    assert "arc_easy" in process.stdout and "word_perplexity" in process.stdout
    (results_file,) = (tmp_path / "out").rglob("results_*.json")
    result = json.loads(results_file.read_text(encoding="utf-8"))
    assert result["config"]["model"] == "orca-bench" and result["n-samples"]["arc_easy"]["effective"] == 3
    (samples_file,) = (tmp_path / "out").rglob("samples_triviaqa_*.jsonl")
    assert len(samples_file.read_text(encoding="utf-8").splitlines()) == 3


def test_the_other_models_of_lm_eval_are_there(lm_eval):
    process = lm_eval("run", "--model", "hf", "--tasks", "arc_easy", "--limit", 1, "--device", "cpu")
    assert process.returncode == 0 and process.stdout.startswith("hf (")


@pytest.mark.parametrize(
    ("words", "model_args", "message"),
    [
        (["--tasks", "arc_eazy"], "", "--tasks: lm-eval has no task, group or tag 'arc_eazy'; did you mean 'arc_easy'"),
        (["--tasks", "hellaswag"], "", "hellaswag: the rows of the data set Rowan/hellaswag cannot be had"),
        (["--tasks", "arc_easy"], ",peft=x", "--model_args: peft=x is not served"),
        (["--tasks", "arc_easy", "--gpu", "3"], "", "lm-eval: unrecognized arguments: --gpu 3"),
        (["--tasks", "arc_easy", "--limit", "few"], "", "argument --limit"),
        (["--tasks", "arc_easy", "--device", "tpu"], "", "--device: device tpu is not served"),
        (["--tasks", "arc_easy", "--log_samples"], "", "lm-eval: Specify --output_path"),
        (["--tasks", "triviaqa", "--gen_kwargs", "num_beams=3"], "", "triviaqa document 0 request 0: num_beams=3"),
        (["--tasks", "triviaqa", "--gen_kwargs", "max_gen_toks=9000"], "", "9000 new tokens do not fit"),
        (["--tasks", "triviaqa", "--gen_kwargs", "do_sample=True"], "", "temperature is 0.0"),
        (["--model", "none", "--tasks", "arc_easy"], "", "model 'none'"),
        (["--config", "none.yaml"], "", "none.yaml"),
    ],
)
def test_an_error_is_one_line_and_exit_2(lm_eval, words, model_args, message):
    process = lm_eval(*words, model_args=model_args)
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2 and message in line and "Traceback" not in process.stderr


def test_a_folder_without_a_chat_template_is_refused(lm_eval, tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    process = lm_eval("--tasks", "arc_easy", "--apply_chat_template", model_args=f",tokenizer={folder}")
    assert process.returncode == 2 and "the tokenizer has no chat template" in process.stderr


def test_the_tasks_of_lm_eval_are_listed_and_help_is_there(command):
    assert "arc_easy" in command("lm-eval", "ls", "subtasks").stdout
    assert "--num_fewshot" in command("lm-eval", "run", "--help").stdout
    assert "--model_args" in command("lm-eval").stdout or "ls" in command("lm-eval").stdout


def test_a_configuration_file_names_tasks_and_perhaps_the_model(tmp_path):
    from orca_bench.evaluate.harness.lm_eval_command import _with_model

    config_file = tmp_path / "c.yaml"
    config_file.write_text("tasks: [arc_easy]\n", encoding="utf-8")
    assert _with_model(["--config", str(config_file)])[:2] == ["--model", "orca-bench"]
    assert _with_model(["run", f"--config={config_file}"])[:3] == ["run", "--model", "orca-bench"]
    config_file.write_text("tasks: [arc_easy]\nmodel: hf\n", encoding="utf-8")
    assert _with_model(["-C", str(config_file)]) == ["-C", str(config_file)]
    with pytest.raises(UserError, match="none.yaml"):
        _with_model(["-C", str(tmp_path / "none.yaml")])
