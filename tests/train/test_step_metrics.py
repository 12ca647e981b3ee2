"""metrics.jsonl: lines of all versions are read, half a line is not, and a continued run begins after its checkpoint."""

import json

import pytest

from orca_bench.train import step_metrics
from orca_bench.train.step_metrics import StepMetrics

LINE = StepMetrics(1, 20, 0.5, 1.25, 1e-5, 0.3, 100, 50, 1.0, 100.0, held_out_loss=1.5, mfu=None, memory_gib=0.5)
#: A line that the first version wrote.
OLD_LINE = (
    '{"step": 2, "steps": 20, "epoch": 0.5, "loss": 1.0, "lr": 1e-05, "grad_norm": null, "tokens": 100, '
    '"trained_tokens": 50, "seconds": 1.0, "tokens_per_second": 100.0}\n'
)


@pytest.fixture
def metrics_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    step_metrics.append_metrics_line(path, LINE)
    with open(path, "a") as handle:
        handle.write(OLD_LINE + '{"step": 3, "lo')
    return path


def test_a_line_has_every_number_and_null_where_there_is_none(metrics_file):
    line = json.loads(metrics_file.read_text().splitlines()[0])
    assert (line["held_out_loss"], line["mfu"], line["memory_gib"]) == (1.5, None, 0.5)


def test_a_number_that_is_not_finite_becomes_null(tmp_path):
    step_metrics.append_metrics_line(tmp_path / "m", StepMetrics(**vars(LINE) | {"loss": float("nan")}))
    assert step_metrics.read_metrics(tmp_path / "m")[0]["loss"] is None


def test_lines_of_the_first_version_are_read_and_half_a_line_is_not(metrics_file, tmp_path):
    assert [line["step"] for line in step_metrics.read_metrics(metrics_file)] == [1, 2]
    assert step_metrics.read_metrics(tmp_path / "absent") == []


def test_the_steps_after_a_checkpoint_are_removed_and_the_others_stay_as_they_are(metrics_file):
    first_line = metrics_file.read_text().splitlines()[0]
    step_metrics.remove_later_steps(metrics_file, 1)
    assert metrics_file.read_text() == first_line + "\n"
    step_metrics.remove_later_steps(metrics_file, 0)
    assert metrics_file.read_text() == ""
