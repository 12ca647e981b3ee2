"""What a person sees of a training: no number before there is one, and a bar that begins where the run continues."""

import re

import pytest
from pseudo_terminal import Terminal
from rich.console import Console

from orca_bench.train import progress_display
from orca_bench.train.progress_display import training_progress
from orca_bench.train.step_metrics import StepMetrics

SCRIPT = """
import pathlib, time
from orca_bench.train.progress_display import training_progress
from orca_bench.train.step_metrics import StepMetrics
with training_progress("mine", 20, 10) as show_metrics:
    show_metrics(StepMetrics(11, 20, 0.5, 1.25, 0.0, None, 100, 50, 1.0, 100.0))
    while not pathlib.Path("is_drawn").exists():  # a live line is drawn ten times a second
        time.sleep(0.05)
    show_metrics(StepMetrics(12, 20, 0.6, 1.0, 0.0, None, 100, 50, 1.0, 100.0, 1.5, 0.401, 61.25))
    show_metrics(StepMetrics(13, 20, 0.7, 0.9, 0.0, None, 100, 50, 1.0, 100.0, None, 0.402, 61.5))
"""


def run_script(folder, columns=100):
    """The script's exit code and all that it showed, step 11 among it."""
    with Terminal(folder, "-c", SCRIPT, columns=columns) as terminal:
        terminal.wait_for("11/20 loss 1.2500")
        (folder / "is_drawn").touch()
        return terminal.wait_for_end()


def test_the_line_begins_at_the_step_that_the_run_continues_from_without_a_loss(tmp_path):
    code, text = run_script(tmp_path)
    assert code == 0 and "nan" not in text and not re.search(r"\b0/20", text)
    assert re.search(r"mine 10/20 loss –", text)
    assert re.search(r"mine 11/20 loss 1\.2500  100 tok/s  lr 0\.00e\+00 0:\d\d:\d\d left", text)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (60, r"mine 13/20 loss 0\.9000 0:"),
        (80, r"mine 13/20 loss 0\.9000  held-out 1\.5000  100 tok/s 0:"),
        (160, r"mine ━+.* 13/20 loss 0\.9000  held-out 1\.5000  100 tok/s  61\.5 GiB  lr 0\.00e\+00  mfu 40\.2 % 0:"),
    ],
)
def test_a_narrow_terminal_has_the_losses_and_a_wide_one_everything(tmp_path, columns, line):
    code, text = run_script(tmp_path, columns)
    last_line = text.rstrip().splitlines()[-1]
    assert code == 0 and re.search(line, last_line) and len(last_line) <= columns, text


def test_without_a_terminal_steps_are_lines(capsys):
    with training_progress("mine", 20, 10) as show_metrics:
        show_metrics(StepMetrics(11, 20, 0.5, 1.25, 1e-5, None, 100, 50, 1.0, 100.0, memory_gib=0.51))
    line = r"step 11/20  loss 1\.2500  100 tok/s  0\.5 GiB  lr 1\.00e-05  \d+ s left\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_the_time_left_is_computed_from_the_steps_of_this_process_alone(capsys, monkeypatch):
    times_s = iter([100.0, 160.0])
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: next(times_s))
    display = progress_display._PlainLineDisplay(Console(), step_count=20, steps_done=10)
    display(StepMetrics(12, 20, 0.6, 1.0, 0.0, None, 100, 50, 1.0, 100.0))
    assert capsys.readouterr().out.endswith("  4 min left\n")  # 30 s a step


def test_long_times_are_in_minutes_and_hours():
    texts = [progress_display._duration_text(seconds) for seconds in (45, 720, 3 * 3600 + 290)]
    assert texts == ["45 s", "12 min", "3 h 05 min"]
