"""What an output may not replace: inputs, their questions, and results."""

import pytest
from synthetic_results import random_result

COMMANDS = [
    ("page", "a.json", "--out", "{}"),
    ("check", "a.json", "--baseline", "b.json", "--summary", "{}"),
    ("check", "a.json", "--baseline", "b.json", "--junit", "{}"),
    ("requests", "--tasks", "arc_challenge", "--benchmarks", "mini:", "--out", "{}"),
    ("data", "convert", "rows.jsonl", "--out", "{}"),
    ("publish", "a.json", "--to", "pub", "--card", "{}"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: f"{words[0]} {words[-2]}")
@pytest.mark.parametrize("name", ["a.json", "a.questions.jsonl", "b.json", "other.json", "link", "./pub/../a.json"])
def test_no_command_replaces_an_input_or_a_result(command, tmp_path, words, name):
    for seed, label in enumerate(("a", "b", "other")):
        random_result(tmp_path, label, 0.5, seed=seed, tasks=["gsm8k"])
    (tmp_path / "link").symlink_to("b.questions.jsonl")
    (tmp_path / "pub").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"instruction": "2 + 2?", "output": "4"}\n')
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    process = command(*(word.format(name) for word in words))
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1, process.stderr
    assert "name another file" in process.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_the_rules_of_the_gate_and_reported_scores_are_inputs_too(command, tmp_path):
    for seed, label in enumerate("ab"):
        random_result(tmp_path, label, 0.5, seed=seed, tasks=["gsm8k"])
    (tmp_path / "rules.yaml").write_text("level: 0.05\n")
    for option in ("--summary", "--junit"):
        process = command("check", "a.json", "--baseline", "b.json", "--rules", "rules.yaml", option, "rules.yaml")
        assert process.returncode == 2 and "rules.yaml is an input" in process.stderr
    assert (tmp_path / "rules.yaml").read_text() == "level: 0.05\n"


def test_an_earlier_page_is_replaced(command, tmp_path):
    random_result(tmp_path, "a", 0.5, tasks=["gsm8k"])
    for _ in range(2):
        assert command("page", "a.json", "--out", "a.html").returncode == 0
