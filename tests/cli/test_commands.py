"""The commands as a user meets them: help at once, data, generation."""

import json
import re
import subprocess
import sys

import pytest

from orca_bench.cli.main import _COMMANDS

HEAVY = {"torch", "transformers", "deepspeed", "lm_eval", "datasets", "matplotlib", "numpy", "pydantic", "rich"}


def test_help_imports_nothing_heavy_and_teaches_in_one_screen():
    script = (
        "import sys; sys.argv = ['orca-bench', '--help']\n"
        "from orca_bench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in re.findall(r"'([^']+)'", done.stderr)}
    assert not loaded & HEAVY
    assert len(done.stdout.splitlines()) <= 45
    for name in _COMMANDS:
        assert f"orca-bench {name}" in done.stdout


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_every_command_explains_itself_with_an_example(command, name):
    done = command(name, "--help")
    assert done.returncode == 0
    assert "orca-bench" in done.stdout


def test_instruction_files_become_records(command, tmp_path):
    (tmp_path / "alpaca.jsonl").write_text(
        json.dumps({"instruction": "Do", "input": "x", "output": "done"})
        + "\n"
        + json.dumps({"instruction": "Do", "input": "x", "output": " "})
        + "\n"
    )
    (tmp_path / "dolly.jsonl").write_text(
        json.dumps({"instruction": "Who?", "context": "Ann.", "response": "Ann", "category": "qa"}) + "\n"
    )
    (tmp_path / "gsm.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "2\n#### 2"}) + "\n")
    files = ["alpaca.jsonl", "dolly.jsonl", "gsm.jsonl"]
    done = command("data", "convert", *files, "--out", "r/records.jsonl", "--systems", "5,7-8")
    assert done.returncode == 0 and "3 records" in done.stdout
    assert "left out: 1 row without an answer; the first is alpaca.jsonl:2" in done.stdout
    assert done.stdout.splitlines()[-1] == "system messages: 3 drawn from 5,7-8 with seed 0"
    text = (tmp_path / "r" / "records.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [(r["instruction"], r["input"], r["response"]) for r in records] == [
        ("Do", "x", "done"),
        ("Who?", "Ann.", "Ann"),
        ("1+1?", "", "2\n#### 2"),
    ]
    assert {r["system_id"] for r in records} <= {5, 7, 8}
    command("data", "convert", *files, "--out", "again.jsonl", "--systems", "5,7-8")
    assert (tmp_path / "again.jsonl").read_text() == text


def test_the_demo_does_the_whole_job_and_does_not_train_twice(command, tmp_path):
    words = ["demo", "--limit", 1, "-o", "train.max_steps=2"]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Reported +before +after", done.stdout) and "not comparable" in done.stdout
    for name in ("mini-untrained", "mini"):
        result = json.loads((tmp_path / "runs" / name / "results" / "orca-limit1.json").read_text())
        assert result["complete"] and result["suite"]["name"] == "mini"
    assert "it/s]" not in done.stderr  # no library's bar runs through ours
    again = command(*words)
    assert again.returncode == 0 and "already trained" in again.stdout
    suggested = re.search(r"orca-bench generate \$'(.*)' --greedy", again.stdout).group(1).replace("\\n", "\n")
    assert command("generate", suggested, "--greedy", "--max-new-tokens", 4).returncode == 0


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_answers_on_the_terminal(command, tiny_model):
    done = command("generate", "Why?", "--input", "x", "--model", tiny_model, "--greedy", "--max-new-tokens", 8)
    assert done.returncode == 0 and done.stdout.strip()
    line = command.refused("generate", "word " * 3000, "--model", tiny_model)
    assert "context window" in line
