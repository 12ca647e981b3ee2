"""The picture of a run's curves: what it draws, from lines of any version, and what it does without them."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from orca_bench.errors import UserError
from orca_bench.train import curves

TRAINING, HELD_OUT = (0, 120, 180), (216, 96, 0)


def write_metrics(path, step_count=60, held_out_every=None):
    lines = []
    for step in range(1, step_count + 1):
        line = {"step": step, "steps": 100, "loss": 5 / step, "lr": 1e-4, "grad_norm": None if step == 3 else 1.0}
        if held_out_every is not None:
            line["held_out_loss"] = 6 / step if step % held_out_every == 0 else None
        lines.append(json.dumps(line) + "\n")
    path.write_text("".join(lines))


def pixel_count(picture, color):
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return int((np.abs(pixels - color).max(axis=-1) < 10).sum())


@pytest.mark.parametrize("held_out_every", [None, 20])
def test_the_held_out_loss_is_drawn_where_there_is_one(tmp_path, held_out_every):
    write_metrics(tmp_path / "m", held_out_every=held_out_every)
    assert curves.write_curves(tmp_path / "m", tmp_path / "c.png", "$a_run$")  # no formula of TeX
    assert Image.open(tmp_path / "c.png").size == (1600, 1400)
    assert pixel_count(tmp_path / "c.png", TRAINING) > 1000
    assert (pixel_count(tmp_path / "c.png", HELD_OUT) > 100) == (held_out_every is not None)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_held_out_loss_of_the_base_is_where_its_curve_begins(tmp_path):
    pictures = []
    for base_loss in (None, 4.0):
        first = {"step": 1, "steps": 9, "loss": 5.0, "base_held_out_loss": base_loss}
        later = {"step": 9, "steps": 9, "loss": 2.0, "held_out_loss": 3.0}
        (tmp_path / "m").write_text(f"{json.dumps(first)}\n{json.dumps(later)}\n")
        curves.write_curves(tmp_path / "m", tmp_path / "c.png", "r")
        pictures.append(pixel_count(tmp_path / "c.png", HELD_OUT))
    assert pictures[1] > 5 * pictures[0]  # a line across the picture, and not one point


@pytest.mark.parametrize("loss", [None, 1e30])
def test_one_step_and_a_useless_loss_are_drawn(tmp_path, loss):
    (tmp_path / "m").write_text(json.dumps({"step": 1, "loss": loss}) + "\n")
    assert curves.write_curves(tmp_path / "m", tmp_path / "c.png", "r")


def test_without_a_step_there_is_no_picture(tmp_path):
    assert not curves.write_curves(tmp_path / "m", tmp_path / "c.png", "r")
    assert not (tmp_path / "c.png").exists()


def test_a_smoothed_value_is_the_mean_of_the_finite_ones_around_it():
    values = np.array([1.0, 2.0, np.nan, 4.0, 50.0])
    means = curves._moving_mean(values, 3)
    assert means.tolist()[:2] == [1.5, 1.5] and np.isnan(means[2]) and means.tolist()[3:] == [27.0, 27.0]
    assert curves._moving_mean(values[:2], 101).tolist() == [1.5, 1.5]


def test_a_run_that_trains_is_drawn_seldom_and_a_full_disk_does_not_stop_it(tmp_path):
    write_metrics(tmp_path / "m")
    picture = curves.CurvesPicture(tmp_path / "m", tmp_path / "c.png", "r")
    picture.redraw()
    first_time = (tmp_path / "c.png").stat().st_mtime_ns
    time.sleep(0.05)
    picture.redraw()
    assert (tmp_path / "c.png").stat().st_mtime_ns == first_time
    elsewhere = tmp_path / "absent" / "c.png"
    with pytest.raises(UserError, match="cannot write"):
        curves.write_curves(tmp_path / "m", elsewhere, "r")
    curves.CurvesPicture(tmp_path / "m", elsewhere, "r").redraw()


def test_whatever_keeps_the_curves_from_being_drawn_is_one_line(tmp_path, capsys):
    (tmp_path / "m").write_text(json.dumps({"step": 10**30, "loss": 1.0}) + "\n")  # more than NumPy's integers
    with pytest.raises(OverflowError):
        curves.write_curves(tmp_path / "m", tmp_path / "c.png", "r")
    curves.CurvesPicture(tmp_path / "m", tmp_path / "c.png", "r").redraw()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the curves were not drawn: OverflowError: ")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
