"""What a person sees of an evaluation: what is evaluated, what is left, scores as in the table, and what to do next."""

import re

import pytest
from pseudo_terminal import run_on_terminal

from orca_bench.cli.console import next_step
from orca_bench.cli.evaluation_display import EvaluationDisplay
from orca_bench.cli.training_display import TrainingConsole
from orca_bench.evaluate.answers.portions import SCORES, TEXTS, Call, Portion
from orca_bench.evaluate.answers.workload import CompletionClock, Workload
from orca_bench.suite import HELLASWAG


@pytest.fixture
def words(tiny_model, mini):
    """`eval` of two tasks of the mini suite."""
    options = ("--tasks", "hellaswag,gsm8k", "--limit", "3", "--name", "tiny")
    return ("eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], *options)


def test_the_lines_name_model_size_tasks_and_requests_then_each_score_then_the_next_command(command, words):
    process = command(*words)
    lines = process.stderr.splitlines()
    assert re.fullmatch(r"tiny: \S+k parameters, float32, cpu; 2 tasks under orca, 15 requests", lines[0]), lines
    assert lines[1].startswith("to compute: ")
    cell = r"\d+\.\d\d( ± \d+\.\d\d| \[\d+\.\d, \d+\.\d\])"
    computed = r"\([\d,]+ tokens computed, of [\d,]+ in all requests\)"
    assert re.fullmatch(rf"orca HellaSwag: acc_norm {cell}, 3 questions, \d+ s {computed}", lines[2]), lines
    score = re.search(cell, next(line for line in lines if line.startswith("orca GSM8K: acc ")))[0]
    assert score in process.stdout  # the very cell of the table
    assert lines[-1] == "next: orca-bench page runs/tiny/results/orca-limit3.json"


def test_cached_answers_are_not_counted_as_computed(command, words):
    assert command(*words).returncode == 0
    again = command(*words).stderr
    assert re.search(r"^to compute: nothing, ", again, re.MULTILINE)
    assert len(re.findall(r"\(0 (?:tokens|texts) computed: all answers were cached\)", again)) == 2


def test_the_rate_is_of_what_was_computed_not_of_cached_answers():
    """900 of 1,000 tokens are cached; of the others each takes 0.02 s."""
    clock_s = [0.0]
    display = EvaluationDisplay()
    workload = Workload({SCORES: 1000, TEXTS: 0}, {SCORES: 900, TEXTS: 0})
    display.expect(workload)
    display._clock = CompletionClock(workload, read_clock_s=lambda: clock_s[0])
    display.begin(HELLASWAG, "orca")
    display.plan(Call(SCORES, [Portion([], 1000, [], [], [])], 100, 1000, 0, 0, ""))
    display.skip(900)
    bar = display._progress.tasks[-1]
    assert (bar.completed, bar.total, bar.speed) == (900, 1000, None) and bar.fields["left"] == "90 % · 100 tokens left"
    for _ in range(5):
        clock_s[0] += 0.2
        display.advance(10)
    assert bar.fields["left"] == "95 % · 50 tokens left · 50 tokens/s"


def test_a_message_with_control_characters_is_one_line(capsys):
    for display in (EvaluationDisplay(), TrainingConsole()):
        display.message("a\nb\x1b[2J")
    next_step("page", "a\nb\x1b[2J")
    captured = capsys.readouterr()
    assert captured.out == "a b\ufffd[2J\n" and captured.err == "a b\ufffd[2J\nnext: orca-bench page 'a b\ufffd[2J'\n"


def test_json_comes_without_a_next_command(command, words):
    assert "next: " not in command(*words, "--format", "json").stderr


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_an_evaluation_that_is_stopped_says_which_command_goes_on(command, tiny_model, mini, fresh):
    words = ("eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--tasks", "truthful_qa,hellaswag")
    stopped = command(*words, *fresh, "--max-time", "0.001")
    command_text = "the same command without --fresh" if fresh else "the same command"
    assert stopped.returncode == 130 and stopped.stderr.splitlines()[-1] == (
        "interrupted: stopped by --max-time before the first task of protocol orca was finished; "
        f"{command_text} goes on from there"
    )


def test_a_terminal_shows_what_is_left_and_then_the_score(command, tiny_model, mini):
    words = (
        "eval",
        "--model",
        tiny_model,
        "--benchmarks",
        mini["mini:benchmarks"],
        "--tasks",
        "hellaswag",
        "--name",
        "t",
    )
    code, text = run_on_terminal(command.folder, *words)
    assert code == 0 and "1 in " not in text
    assert re.search(r"orca HellaSwag .*\d+ % · \d[\d.]*k? tokens left", text)
    assert re.search(r"orca HellaSwag  .* \d:\d\d:\d\d \d+\.\d\d (±|\[)", text)
