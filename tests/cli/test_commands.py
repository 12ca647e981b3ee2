"""The commands as a user meets them: help at once, data, generation, and the demo."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orca_bench.cli.command_list import COMMANDS, GROUPS
from orca_bench.cli.main import cli
from orca_bench.models.model_folder import ModelFolder

HEAVY = {"torch", "transformers", "deepspeed", "lm_eval", "datasets", "matplotlib", "numpy", "pydantic", "rich"}


def _leaf_commands():
    """Every command with its words; of a group of commands, those in it."""
    for name in COMMANDS:
        entry = cli.get_command(None, name)
        if hasattr(entry, "commands"):
            yield from (((name, inner), command) for inner, command in entry.commands.items())
        else:
            yield (name,), entry


LEAVES = dict(_leaf_commands())


def _examples(help_text: str):
    """The words after `orca-bench` of each line of a help text that is an example, but for those that the shell takes."""
    for line in re.findall(r"^\s+orca-bench (.*)$", help_text.replace("\b\n", "\n"), re.MULTILINE):
        yield list(itertools.takewhile(lambda word: word not in ("<", ">", "|"), shlex.split(line.replace("…", ""))))


@pytest.mark.parametrize("words", [("--help",), ("eval", "--help"), ("train", "--help"), ("table", "--help")])
def test_help_imports_nothing_heavy(words):
    script = (
        f"import sys; sys.argv = ['orca-bench', *{list(words)}]\n"
        "from orca_bench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    module_names = {name.split(".")[0] for name in re.findall(r"'([^']+)'", process.stderr)}
    assert "orca_bench" in module_names and not module_names & HEAVY
    assert process.stdout.startswith("Usage: orca-bench")


def test_the_line_of_a_command_in_its_groups_help_is_whole():
    inner = [command for words, command in LEAVES.items() if len(words) == 2]
    assert inner and not any(command.get_short_help_str(60).endswith("...") for command in inner)


def test_the_help_of_the_group_lists_each_command_once_in_its_group_on_one_screen(command):
    lines = command("--help").stdout.splitlines()
    assert len(lines) <= 60
    sections = {line.removesuffix(":"): number for number, line in enumerate(lines) if line.removesuffix(":") in GROUPS}
    assert list(sections) == ["Data", "Train", "Evaluate", "Decide", "Publish", "Talk"]
    for title, entries in GROUPS.items():
        start = sections[title] + 1
        section = [line.split(None, 1) for line in lines[start : start + len(entries)]]
        assert section == [[entry.name, entry.summary] for entry in entries]
    assert [line for line in lines[max(sections.values()) + 1 + len(GROUPS["Talk"]) :] if line] == []


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_explains_itself_and_its_options_with_examples_that_parse(words, command):
    leaf = LEAVES[words]
    process = command(*words, "--help")
    assert process.returncode == 0 and process.stdout.startswith(f"Usage: orca-bench {' '.join(words)} ")
    unexplained = [p.opts[-1] for p in leaf.params if p.param_type_name == "option" and not getattr(p, "help", "")]
    assert unexplained == []
    own = [example for example in _examples(leaf.help) if tuple(example[: len(words)]) == words]
    assert own, "no example of this command"
    for example in _examples(leaf.help):
        name = next(name for name in LEAVES if tuple(example[: len(name)]) == name)
        LEAVES[name].make_context(" ".join(name), example[len(name) :])  # raises where a word is no option or argument


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
    process = command("data", "convert", *files, "--out", "r/records.jsonl", "--systems", "5,7-8")
    assert process.returncode == 0 and "3 records" in process.stdout
    assert "left out: 1 row without an answer; the first is alpaca.jsonl:2" in process.stdout
    neutral_hint = "(--systems 5 gives all one neutral message)"
    assert process.stdout.splitlines()[-1] == f"system messages: 3 drawn from 5,7-8 with seed 0 {neutral_hint}"
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


@pytest.mark.slow
def test_the_demo_does_the_whole_job_and_does_not_train_twice(command, tmp_path):
    words = ["demo", "--limit", 1, "-o", "train.max_steps=2"]
    process = command(*words)
    assert process.returncode == 0, process.stderr
    assert re.search(r"Reported +before +after", process.stdout) and "not comparable" in process.stdout
    for name in ("mini-untrained", "mini"):
        result = json.loads((tmp_path / "runs" / name / "results" / "orca-limit1.json").read_text())
        assert result["complete"] and result["suite"]["name"] == "mini"
    assert "it/s]" not in process.stderr  # no library's bar runs through ours
    again = command(*words)
    assert again.returncode == 0 and "already trained" in again.stdout
    suggestion = re.search(r"orca-bench generate \$'(.*)' --greedy", again.stdout).group(1).replace("\\n", "\n")
    assert command("generate", suggestion, "--greedy", "--max-new-tokens", 4).returncode == 0
    assert again.stdout.rstrip().endswith(" --greedy --model mini")


def test_the_question_after_the_demo_names_its_model_and_its_folder():
    from orca_bench.cli.demo import _example_question

    words = _example_question("mini", Path("else where")).partition("A:' ")[2]
    assert shlex.split(words) == ["--greedy", "--model", "mini", "--runs", "else where"]


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_prints_the_models_greedy_answer_in_the_orca_prompt(command, tiny_model):
    from orca_bench.serve.sampling import Sampling
    from orca_bench.serve.text_generation import Generator
    from orca_bench.system_messages import system_message

    words = ("--input", "x", "--model", tiny_model, "--greedy", "--max-new-tokens", 8)
    answers = {}
    for system in ("5", "Be short."):
        process = command("generate", "Why?", "--system", system, *words)
        assert process.returncode == 0, process.stderr
        sampling = Sampling(greedy=True, max_new_tokens=8)
        answer = "".join(Generator(ModelFolder(str(tiny_model))).answer(system_message(system), "Why?", "x", sampling))
        assert answer and process.stdout == answer + "\n"
        answers[system] = answer
    assert answers["5"] != answers["Be short."]


def test_generate_refuses_a_prompt_that_fills_the_context_window(command, tiny_model):
    assert "context window" in command.refused("generate", "word " * 3000, "--model", tiny_model)
