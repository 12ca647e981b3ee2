"""The programs that prove, load and time the server, each run whole at its smallest size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

pytestmark = pytest.mark.slow


def _run(program, tmp_path, *words):
    """The record that a program writes; it must find no fault."""
    record = tmp_path / "record.md"
    command = [sys.executable, FOLDER / program, *words, "--out", record]
    process = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    return record.read_text(encoding="utf-8")


def test_scores_over_the_server_are_those_in_process(tmp_path, tiny_model):
    size = ("--benchmarks", "mini:", "--tasks", "arc_challenge,winogrande,gsm8k", "--fraction", 0.02, "--new-tokens", 8)
    record = _run("serve_scores.py", tmp_path, "--model", tiny_model, *size)
    for way in ("lm_eval local-completions", "eval --engine api"):
        assert f"| {way} | all | " in record


def test_answers_under_load_are_those_of_each_request_alone(tmp_path, tiny_model):
    size = ("--requests", 12, "--rounds", 1, "--clients", "4", "--leavers", 12, "--overload", 90, "--slow-seconds", 1)
    record = _run("serve_load.py", tmp_path, "--model", tiny_model, "--minutes", 0.05, *size)
    for phase in ("Alone", "4 clients", "Clients that go away", "Overload", "Soak", "SIGTERM"):
        assert f"- **{phase}**" in record
    assert re.search(r"(?<!\d)0 of them other than alone", record)
    assert not re.search(r"[1-9]\d* of them other than alone", record)


def test_servers_are_timed_beside_one_another(tmp_path, tiny_model):
    size = ("--concurrent", 2, "--new-tokens", 4, "--turn-tokens", 60, "--repeats", 1)
    record = _run("bench_serve.py", tmp_path, "--model", tiny_model, *size)
    assert "| orca-bench serve | " in record and "## Scored prompts" in record
