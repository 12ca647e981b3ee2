"""What a person sees of a training: no number before there is one, and a bar that begins where the run continues."""

import re

from pseudo_terminal import run_python_on_terminal

from orca_bench.train.progress_display import training_progress
from orca_bench.train.step_metrics import StepMetrics

SCRIPT = """
from orca_bench.train.progress_display import training_progress
from orca_bench.train.step_metrics import StepMetrics
with training_progress("mine", 20, 10) as show_metrics:
    show_metrics(StepMetrics(11, 20, 0.5, 1.25, 0.0, None, 100, 50, 1.0, 100.0))
"""


def test_the_bar_begins_at_the_step_that_the_run_continues_from_without_a_loss(tmp_path):
    code, text = run_python_on_terminal(tmp_path, "-c", SCRIPT)
    assert code == 0 and "nan" not in text and not re.search(r"\b0/20", text)
    assert re.search(r"mine .* 10/20 loss –", text)
    assert re.search(r"mine .* 11/20 loss 1\.2500  lr 0\.00e\+00  100 tok/s", text)


def test_without_a_terminal_steps_are_lines(capsys):
    with training_progress("mine", 20, 10) as show_metrics:
        show_metrics(StepMetrics(11, 20, 0.5, 1.25, 1e-5, None, 100, 50, 1.0, 100.0))
    assert re.fullmatch(r"step 11/20  loss 1\.2500  lr 1\.00e-05  100 tok/s  \d+ s left\n", capsys.readouterr().out)
