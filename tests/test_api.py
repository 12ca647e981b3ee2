"""The public Python interface: a model trained, evaluated, read back, compared and tabulated, as the commands do it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orca_bench import api
from orca_bench.errors import UserError
from orca_bench.report import grid_formats, score_table_formats
from orca_bench.results import reading
from orca_bench.train.train_recipe import SilentTrainingDisplay

HEAVY = {
    "torch",
    "transformers",
    "deepspeed",
    "lm_eval",
    "datasets",
    "matplotlib",
    "numpy",
    "pydantic",
    "rich",
    "click",
}


def test_importing_the_interface_imports_nothing_heavy():
    script = "import sys, orca_bench.api; print(*{name.split('.')[0] for name in sys.modules})"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(process.stdout.split())


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_model):
    """Results of the tiny model on two mini tasks under two system messages, in one runs folder."""
    runs = tmp_path_factory.mktemp("api")
    options = {"tasks": "arc_challenge,winogrande", "benchmarks": "mini:", "limit": 8}
    first = api.evaluate(tiny_model, runs, **options)
    second = api.evaluate(tiny_model, runs, system=16, **options)
    return runs, first, second


def test_evaluate_writes_and_returns_one_typed_result_for_each_protocol(results, command, tiny_model):
    runs, first, _ = results
    assert list(first) == ["orca"]
    file = first["orca"]
    assert (
        file.path.is_relative_to(runs)
        and file.result.complete
        and list(file.result.tasks) == ["arc_challenge", "winogrande"]
    )
    assert len(file.questions_by_task["winogrande"].questions_by_key) == file.result.tasks["winogrande"].n == 8
    words = ("--tasks", "arc_challenge,winogrande", "--benchmarks", "mini:", "--limit", 8, "--format", "json")
    process = command("eval", "--model", tiny_model, *words)
    assert process.returncode == 0, process.stderr
    by_command = json.loads(process.stdout)
    assert by_command["requests_sha256"] == file.result.requests_sha256
    values = {name: entry["value"] for name, entry in by_command["tasks"].items()}
    assert values == {name: entry.value for name, entry in file.result.tasks.items()}


def test_a_result_is_read_compared_and_tabulated(results, command):
    runs, first, second = results
    base, other = api.load_result(first["orca"].path, "base"), api.load_result(second["orca"].path, "other")
    assert base.label == "base" and base.result == first["orca"].result
    comparisons = api.compare(base, other)
    assert [line.name for line in comparisons[0].lines][:2] == ["arc_challenge", "winogrande"]
    markdown = grid_formats.to_markdown(score_table_formats.to_grid(api.table([base, other])))
    process = command("table", base.path, other.path, "--format", "markdown")
    cells = [[cell.strip() for cell in line.split("|")[4:6]] for line in markdown.splitlines() if "Winogrande" in line]
    assert cells and all(cell in process.stdout for cell in cells[0])
    assert api.newest_result(runs) == second["orca"].path


def test_a_result_is_named_by_its_run(results):
    runs, _, second = results
    path = second["orca"].path
    run_name = path.relative_to(runs).parts[0]
    for name in (f"{run_name}/{path.stem}", str(path), path):
        assert api.load_result(name, runs=runs).path == path
    with pytest.raises(UserError, match="no such run, folder or file"):
        api.load_result("absent", runs=runs)


def test_a_result_without_its_questions_is_read_alone(results, tmp_path):
    _, first, _ = results
    (tmp_path / "r.json").write_bytes(first["orca"].path.read_bytes())
    file = api.load_result(tmp_path / "r.json")
    assert file.label == file.result.model.name and file.questions_by_task == {}
    with pytest.raises(UserError, match="the questions of this result are not beside it"):
        reading.read_with_questions(tmp_path / "r.json")


def test_train_resolves_the_embedded_files_and_returns_a_finished_run_as_it_is(tmp_path, capfd):
    recipe = api.load_recipe(
        "mini", ["train.max_steps=1", "train.processes=1", "train.accumulation=4", "name=one"], tmp_path
    )
    assert recipe.data.records == [str(tmp_path / "mini-files" / "records.jsonl")]
    run = api.train(recipe, runs=tmp_path)
    assert "step " not in capfd.readouterr().out
    assert run.status == "finished" and api.newest_model(tmp_path) == run.model
    finished = run.manifest["finished"]
    lines = []

    class Lines(SilentTrainingDisplay):
        def message(self, line):
            lines.append(line)

    assert api.train(recipe, runs=tmp_path, display=Lines()).manifest["finished"] == finished
    assert lines == [f"already trained: {run.model} (--fresh trains again)"]


@pytest.mark.slow
def test_the_python_of_the_architecture_page_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[1] / "orca_bench" / "README.md"
    first, second = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(first, "first example", "exec"), {})
    assert "chat-one-turn-limit8.json\nWinogrande " in capsys.readouterr().out.replace("ARC-Challenge", "Winogrande")
    exec(compile(second, "second example", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and all(line.startswith("('gsm8k', ") for line in printed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "bogus"}, "--protocol: 'bogus' is not one of orca, leaderboard, both, chat, plain"),
        ({"dtype": "bogus"}, "--dtype: 'bogus' is not one of auto, float32, bfloat16, float16"),
        ({"limit": 1.5}, "--limit: 1.5 is not a number of questions"),
        ({"limit": True}, "--limit: True is not a number of questions"),
        ({"max_seconds": -1}, "--max-time: -1 is not a length of time"),
        ({"tasks": ["gsm8k", "nix"]}, "--tasks: unknown task 'nix'"),
        ({"max_new_tokens": "gsm8k=x"}, "--max-new-tokens: 'gsm8k=x' gives no number"),
        ({"benchmarks_revisions": "main"}, "--benchmarks-revision: only rows of the hub"),
    ],
)
def test_a_wrong_argument_of_an_evaluation_is_one_line(tiny_model, tmp_path, options, message):
    with pytest.raises(UserError) as refusal:
        api.evaluate(tiny_model, tmp_path, benchmarks="mini:", **options)
    assert str(refusal.value).startswith(message)


def test_one_text_is_taken_as_one_item_and_tasks_as_a_list(tiny_model, tmp_path):
    names = ["winogrande", "gsm8k"]
    results = api.evaluate(tiny_model, tmp_path, tasks=names, benchmarks="mini:", limit=1, max_new_tokens="gsm8k=3")
    assert sorted(results["orca"].result.tasks) == sorted(names)
    assert api.load_recipe("mini", "train.lr=3", tmp_path).train.lr == 3
    with pytest.raises(UserError, match="--launcher: 'mpi' is not one of torchrun, deepspeed"):
        api.train("mini", "name=one", tmp_path, launcher="mpi")


def test_a_base_without_another_result_is_not_compared(results):
    _, first, _ = results
    with pytest.raises(UserError, match="nothing to compare with"):
        api.compare(first["orca"])


def test_nothing_trained_and_nothing_evaluated_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no finished run in"):
        api.newest_model(tmp_path)
    with pytest.raises(UserError, match="no result below"):
        api.newest_result(tmp_path)
