"""The examples of every `--help` and of the documents: they run as they are written, beside runs like those of the demo.

What needs a network, a server, a large model or minutes is parsed by other tests; here the files that it names must exist.
"""

import csv
import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from synthetic_results import random_result

from orca_bench.cli.command_list import COMMANDS
from orca_bench.cli.main import cli
from orca_bench.system_messages import SYSTEM_MESSAGES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("orca_bench/*/README.md")), *sorted(ROOT.glob("*/README.md")), ROOT / "README.md"]
#: Commands whose examples run here; those that judge may exit with 1.
RUNNABLE = ("runs", "table", "compare", "check", "verify", "plot", "page", "publish", "data", "plan")
JUDGES = ("check", "verify")
#: Folders of the project that an example may name a file of.
PROJECT_FOLDERS = ("recipes/", "results/")


def _help_examples():
    """The words of each example in the help of each command, after `orca-bench`."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            yield from re.findall(r"^\s+orca-bench (.*)$", leaf.help.replace("\b\n", "\n"), re.MULTILINE)


def _document_examples():
    """What follows `orca-bench` in each line of a fenced block of the documents, continued lines joined."""
    for document in DOCUMENTS:
        for block in re.findall(
            r"^```[a-z]*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            yield from re.findall(r"^(?:\S*/)?orca-bench (.*)$", re.sub(r"\\\n\s*", "", block), re.MULTILINE)


EXAMPLES = sorted({line for line in (*_help_examples(), *_document_examples()) if "$" not in line})


#: What an example that cannot run here has: the hub, a large model, one shard of several, what lm-eval itself has written, a
#: teacher.
_NOT_HERE = ("--push", "psmathur", "llama15m", "part-", "lm-eval-output", "data build")


def _is_runnable(line):
    return line.split()[0] in RUNNABLE and not any(word in line for word in _NOT_HERE)


@pytest.fixture(scope="module")
def beside_the_demo(tmp_path_factory, command_in, mini, mini_records):
    """The command in a folder with what the examples name: runs, baselines, rows, rules and instruction files."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "results" / "baselines", folder / "results" / "baselines")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "benchmarks").symlink_to(mini["mini:benchmarks"])
    places = {"runs/mini-untrained/results/orca": 1, "runs/mini/results/orca": 2, "old": 3, "new": 4}
    for place, seed in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".json", ".questions.jsonl"):
            shutil.copy(ROOT / "results" / "baselines" / f"mini-{seed}{suffix}", folder / f"{place}{suffix}")
    for run in ("a", "b", "mine"):
        (folder / "runs" / run / "results").mkdir(parents=True)
        for protocol in ("leaderboard", "orca"):
            options = {"file": f"{protocol}.json", "protocol": protocol, "overlapping": {"gsm8k": 3}}
            random_result(folder / "runs" / run / "results", run, 0.5, **options)
    for run, share in (("mine.Q4_0", 0.5), ("mine.Q4_0-llamacpp", 0.4)):
        (folder / "runs" / run / "results").mkdir(parents=True)
        random_result(folder / "runs" / run / "results", run, share, file="orca.json", protocol="orca")
    for label, share in (("early", 0.3), ("late", 0.6)):
        random_result(folder, label, share)
    (folder / "gate.yaml").write_text("smallest_loss: 1\nfloors: {hellaswag: 60}\n")
    for name in ("alpaca_data.json", "alpaca.json"):
        (folder / name).write_text(json.dumps([{"instruction": "Do", "input": "", "output": "done"}] * 13))
    (folder / "records").mkdir()
    (folder / "records" / "mine.jsonl").write_text("".join(json.dumps(record) + "\n" for record in mini_records[:50]))
    dolly_records = [{**mini_records[0], "source": "dolly", "system": SYSTEM_MESSAGES[7]}] * 3
    for path in (folder / "records" / "orca_mini" / "records.jsonl", folder / "records" / "mine.jsonl"):
        path.parent.mkdir(exist_ok=True)
        with open(path, "a", encoding="utf-8") as records_file:
            records_file.writelines(json.dumps(record) + "\n" for record in dolly_records)
    (folder / "path" / "to" / "llama").mkdir()
    (folder / "path" / "to" / "llama" / "tokenizer.model").symlink_to(mini["mini:tokenizer"])
    dolly_row = {"instruction": "Who?", "context": "Ann.", "response": "Ann", "category": "qa"}
    with gzip.open(folder / "dolly.jsonl.gz", "wt") as dolly:
        dolly.write(json.dumps(dolly_row) + "\n")
    with open(folder / "faq.csv", "w", newline="") as faq:
        csv.writer(faq).writerows([["Question", "Answer"], ["How?", "So."]])
    return command_in(folder)


@pytest.mark.parametrize("line", [line for line in EXAMPLES if _is_runnable(line)])
def test_an_example_runs_as_it_is_written(beside_the_demo, line):
    words = shlex.split(line, comments=True)
    process = beside_the_demo(*words)
    assert process.returncode in ((0, 1) if words[0] in JUDGES else (0,)), process.stderr
    assert "error: " not in process.stderr and "failed: " not in process.stderr


def test_most_examples_of_the_commands_that_report_run():
    assert len(list(filter(_is_runnable, EXAMPLES))) >= 25
    assert {line.split()[0] for line in filter(_is_runnable, EXAMPLES)} == set(RUNNABLE)


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_names_files_of_the_project_that_exist(line):
    for word in shlex.split(line, comments=True):
        if word.startswith(PROJECT_FOLDERS) and "*" not in word:
            assert (ROOT / word).exists(), word
