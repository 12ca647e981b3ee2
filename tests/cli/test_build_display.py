"""The screen of a build: rate, outcomes, dollars, time left and the last answer, on a terminal and without one."""

import io
from collections import Counter

import pytest
from data_recipes import write_build_inputs
from pseudo_terminal import run_on_terminal
from rich.console import Console
from teacher_server import running_teacher_server

from orca_bench.cli.build_display import BuildView
from orca_bench.data.build.answers import Answer
from orca_bench.data.build.teacher import AskProgress, BatchCounts
from orca_bench.data.build.teacher_requests import TeacherRequest


@pytest.fixture
def clock():
    return [0.0]


def progress_of(answered, **changes):
    progress = AskProgress()
    progress.answered, progress.in_flight, progress.in_flight_limit = answered, 3, 8
    progress.requests_by_outcome = Counter(answered=answered)
    for name, value in changes.items():
        setattr(progress, name, value)
    return progress


def test_the_rate_is_that_of_the_last_half_minute_and_gives_the_time_left(clock):
    progress = progress_of(0)
    view = BuildView(progress, 1000, 5.0, lambda: clock[0])
    assert view.rate() == 0.0 and "left" not in view.line()
    for second in range(1, 101):
        clock[0] = float(second)
        progress.answered += 1 if second <= 60 else 5
        view.rate()
    assert view.rate() == pytest.approx(5.0) and progress.answered == 260
    assert view.line() == "260 of 1,000 requests, 5.0/s, 3 of 8 in flight, $0.00 of $5.00, 2 min left"


def test_answers_of_an_earlier_build_are_done_and_give_no_rate(clock):
    view = BuildView(progress_of(0, answered_before=400), 1000, 5.0, lambda: clock[0])
    view.rate()
    clock[0] = 10.0
    assert view.line().startswith("400 of 1,000 requests, 0.0/s")


def test_the_line_says_why_a_build_stands_still(clock):
    view = BuildView(progress_of(0, rate_refusals=7, failed_attempts=2), 40, 5.0, lambda: clock[0])
    assert (
        view.line() == "0 of 40 requests, 0.0/s, 3 of 8 in flight, 7 times too fast, 2 failed attempts, $0.00 of $5.00"
    )


def test_the_screen_shows_outcomes_dollars_and_the_last_answer_on_one_line_each(clock):
    request = TeacherRequest("00", "alpaca", 7, "alpaca-7", 2, "Be brief.", "Name\n\x1b[31mthree rivers.", "")
    progress = progress_of(
        40,
        spent_dollars=0.0123,
        unknown_dollars=0.002,
        rate_refusals=2,
        last_request=request,
        last_answer=Answer("answered", "Rhine,\nRhône, Elbe"),
    )
    progress.requests_by_outcome["refused"] = 4
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(BuildView(progress, 100, 5.0, lambda: clock[0]).render())
    text = console.export_text()
    assert "40 of 100" in text and "3 of at most 8" in text
    assert "40 answered, 4 refused, 2 times too fast" in text
    assert "$0.0123 of $5.00 (and at most $0.0020 of unknown attempts)" in text
    assert "alpaca-7: Name " in text and "Rhine, Rhône, Elbe" in text and "\x1b" not in text


def test_line_and_screen_show_the_batches_instead_of_requests_in_flight(clock):
    batches = BatchCounts(
        open=2, collected=3, without_answers=1, requests=800, completed_requests=310, failed_requests=4
    )
    view = BuildView(progress_of(40, batches=batches), 1000, 5.0, lambda: clock[0])
    text = "3 batches collected (1 without an answer), 2 open: 310 of 800 requests completed, 4 failed"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(view.render())
    screen = console.export_text()
    assert text in view.line() and text in screen
    assert "in flight" not in view.line() and "in flight" not in screen


def test_a_build_on_a_terminal_shows_the_screen(command, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with running_teacher_server(delay_s=0.5) as server:
        recipe = write_build_inputs(command.folder, base_url=server.base_url)
        options = ("-o", "output=out", "-o", "teacher.most_in_flight=2")
        code, text = run_on_terminal(command.folder, "data", "build", recipe, *options)
    assert code == 0, text
    assert "of at most" in text and " of 20" in text and "of $5.00" in text and "dolly-" in text
    assert "20 records: out/records.jsonl" in text
