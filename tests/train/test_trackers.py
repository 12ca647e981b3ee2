"""TensorBoard and Weights & Biases have every step once, also where a process was killed in between, and stop no training."""

import os
import signal
import subprocess
import sys

import pytest
from wandb_files import logged_steps

from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.train import step_metrics, trackers
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import StepMetrics

RECIPE = Recipe.model_validate(
    {
        "name": "mine",
        "model": {"base": "b"},
        "data": {"records": ["r"]},
        "train": {"trackers": ["tensorboard", "wandb"]},
    }
)


def metrics_of(step, loss):
    return StepMetrics(step, 20, 0.5, loss, 1e-5, None, 100, 50, 1.0, 100.0, 7.5 if step == 2 else None, None, 0.5)


def track(folder, steps_done, last_step, loss, kills_itself):
    """The steps after `steps_done`, with a checkpoint after the third."""
    run = Run(folder)
    step_metrics.remove_later_steps(run.metrics_file, steps_done)
    with trackers.open_trackers(run, RECIPE) as opened:
        opened.start(steps_done, step_metrics.read_metrics(run.metrics_file))
        for step in range(steps_done + 1, last_step + 1):
            opened.log(metrics_of(step, loss))
            step_metrics.append_metrics_line(run.metrics_file, metrics_of(step, loss))
            if step == 3:
                opened.flush()
        if kills_itself:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def tracked_folder(tmp_path):
    """A run that was killed after step 5 and went on from step 3 to step 8, each in a process of its own."""
    for arguments in ((0, 5, 1.5, True), (3, 8, 2.5, False)):
        script = f"from pathlib import Path; import test_trackers; test_trackers.track(Path({str(tmp_path)!r}), *{arguments})"
        path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
        environment = os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": path}
        process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert process.returncode == (-signal.SIGKILL if arguments[-1] else 0), process.stderr
        assert process.stdout == "" and "left out" not in process.stderr
    return tmp_path


def test_each_tracker_has_each_step_once(tracked_folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked_folder / "tensorboard"))
    events.Reload()
    scalars = [(event.step, event.value) for event in events.Scalars("loss")]
    assert scalars == [(step, 1.5 if step <= 3 else 2.5) for step in range(1, 9)]
    assert [(event.step, event.value) for event in events.Scalars("held_out_loss")] == [(2, 7.5)]
    assert "grad_norm" not in events.Tags()["scalars"] and "mfu" not in events.Tags()["scalars"]
    assert b"global_batch: 16" in events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]

    assert len(list((tracked_folder / "wandb").glob("offline-run-*"))) == 2
    newest_run = (tracked_folder / "wandb" / "latest-run").resolve()
    steps = logged_steps(newest_run)
    assert [(step["_step"], step["loss"]) for step in steps] == scalars
    assert [step.get("held_out_loss") for step in steps] == [None, 7.5] + [None] * 6
    assert newest_run.name.endswith(f"-{(tracked_folder / 'wandb' / 'run-id').read_text()}")


def test_tensorboard_that_is_switched_on_later_has_the_earlier_steps(tmp_path):
    def train_steps(first_step, last_step, tracker_names):
        recipe = RECIPE.model_copy(update={"train": RECIPE.train.model_copy(update={"trackers": tracker_names})})
        run = Run(tmp_path)
        with trackers.open_trackers(run, recipe) as opened:
            opened.start(first_step - 1, step_metrics.read_metrics(run.metrics_file))
            for step in range(first_step, last_step + 1):
                opened.log(metrics_of(step, float(step)))
                step_metrics.append_metrics_line(run.metrics_file, metrics_of(step, float(step)))

    train_steps(1, 3, [])
    train_steps(4, 5, ["tensorboard"])
    assert scalars_of(tmp_path, "loss") == [(step, step) for step in range(1, 6)]
    [first_file] = (tmp_path / "tensorboard").iterdir()
    train_steps(6, 7, [])
    train_steps(8, 8, ["tensorboard"])
    assert scalars_of(tmp_path, "loss") == [(step, step) for step in range(1, 9)]
    assert scalars_of(tmp_path, "held_out_loss") == [(2, 7.5)]
    first_file.unlink()
    assert scalars_of(tmp_path, "loss") == [(step, step) for step in (6, 7, 8)]  # only what the first file lacks


def scalars_of(folder, key):
    """(step, value) of each number under a key that TensorBoard shows for a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(key)]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    trackers.check_packages(["tensorboard", "wandb"])
    monkeypatch.setitem(sys.modules, "wandb", None)  # as Python marks a module that cannot be imported
    with pytest.raises(
        UserError, match=r"train\.trackers: the package wandb is not installed; install orca-bench\[wandb\]"
    ):
        trackers.check_packages(["tensorboard", "wandb"])


@pytest.fixture
def unused_wandb():
    """Weights & Biases as in a new process: it reads its variables once."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("unused_wandb")
def test_without_a_key_weights_and_biases_is_refused_before_training(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "online")
    with (
        pytest.raises(UserError, match="No API key configured.*WANDB_MODE=offline"),
        trackers.open_trackers(Run(tmp_path), RECIPE),
    ):
        pass


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WANDB_MODE", "of", r"\(WANDB_MODE: Input should be .*'offline'.*\); correct or unset the variable"),
        (
            "WANDB_BASE_URL",
            "foo",
            r"\(WANDB_BASE_URL: Input should be a valid URL, .*\); correct or unset the variable",
        ),
    ],
)
@pytest.mark.usefixtures("unused_wandb")
def test_a_wrong_variable_of_weights_and_biases_is_refused_before_training(
    tmp_path, monkeypatch, variable, value, message
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=message), trackers.open_trackers(Run(tmp_path), RECIPE):
        pass


class Broken:
    """A tracker whose disk is full from the second step on."""

    def __init__(self):
        self.steps = []

    def start(self, steps_done, earlier_metrics):
        pass

    def log(self, metrics):
        if self.steps:
            raise OSError(28, "No space left on device")
        self.steps.append(metrics.step)

    def flush(self):
        raise AssertionError("called after it has failed")

    def close(self, has_failed):
        raise AssertionError("called after it has failed")


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(capsys):
    broken, working = Broken(), Broken()
    opened = trackers.Trackers([broken])
    for step in (1, 2, 3):
        opened.log(metrics_of(step, 1.0))
    opened.flush()
    opened.close(False)
    assert broken.steps == [1]
    assert "Broken is left out: [Errno 28] No space left on device" in capsys.readouterr().err
    opened = trackers.Trackers([broken, working])
    opened.log(metrics_of(4, 1.0))
    assert working.steps == [4]
