"""The metrics of each step in, TensorBoard's files or a run of Weights & Biases out.

The recipe's `train.trackers` names them. Both are optional packages. What a tracker cannot do ends the tracker and not the
training. After a resume every step is there once, also where a tracker is new to the run: each gets the earlier steps that it
lacks, and TensorBoard gets the step from which on its files are void. Its own module because it alone needs these packages, and
only the first process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_write_errors, write_text
from orca_bench.recipe import Recipe
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import StepMetrics

if TYPE_CHECKING:
    import wandb
    from torch.utils.tensorboard import SummaryWriter

_WANDB_PROJECT = "orca-bench"  # where WANDB_PROJECT names no other
_STEP_KEYS = ("step", "steps")  # the axis, and a constant: no curves
_STEP_MARK_KEY = "tokens"  # a number that every step has


def check_packages(tracker_names: Iterable[str]) -> None:
    """Raise UserError where the package of a tracker is not installed. Package, extra and tracker have the same name."""
    for name in tracker_names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"the package {name} is not installed",
                where="train.trackers",
                hint=f"install orca-bench[{name}], or leave {name} out",
            )


class Tracker(Protocol):
    """Something that shows the metrics of a run elsewhere."""

    def start(self, steps_done: int, earlier_metrics: Sequence[dict[str, Any]]) -> None:
        """The run begins, or continues after `steps_done` steps, whose lines of metrics.jsonl these are.

        A later step that the tracker has already comes again.
        """

    def log(self, metrics: StepMetrics) -> None:
        """A step is done."""

    def flush(self) -> None:
        """A checkpoint is about to be written: what came so far must not be lost where this process is killed."""

    def close(self, has_failed: bool) -> None:
        """No step follows in this process."""


class Trackers:
    """All trackers of a run as one. One that fails is left out from then on, with a line on standard error."""

    def __init__(self, trackers: Iterable[Tracker] = ()) -> None:
        self._trackers = list(trackers)

    def start(self, steps_done: int, earlier_metrics: Sequence[dict[str, Any]]) -> None:
        """As `Tracker.start`."""
        self._for_each(lambda tracker: tracker.start(steps_done, earlier_metrics))

    def log(self, metrics: StepMetrics) -> None:
        """As `Tracker.log`."""
        self._for_each(lambda tracker: tracker.log(metrics))

    def flush(self) -> None:
        """As `Tracker.flush`."""
        self._for_each(lambda tracker: tracker.flush())

    def close(self, has_failed: bool) -> None:
        """As `Tracker.close`."""
        self._for_each(lambda tracker: tracker.close(has_failed))

    def _for_each(self, action: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                action(tracker)
            except Exception as error:  # a full disk, a server that is gone: the training is what counts
                self._trackers.remove(tracker)
                print(f"{type(tracker).__name__} is left out: {one_line(error, 300)}", file=sys.stderr)


@contextlib.contextmanager
def open_trackers(run: Run, recipe: Recipe) -> Iterator[Trackers]:
    """A block with the trackers that a recipe names, for the first process of its training.

    Raises UserError where Weights & Biases has no key, its server cannot be reached, or a variable of it has a wrong value.
    """
    tracker_class_by_name: dict[str, Callable[[Run, Recipe], Tracker]] = {
        "tensorboard": TensorBoardTracker,
        "wandb": WandbTracker,
    }
    trackers = Trackers([tracker_class_by_name[name](run, recipe) for name in recipe.train.trackers])
    has_failed = True
    try:
        yield trackers
        has_failed = False
    finally:
        trackers.close(has_failed)


class TensorBoardTracker:
    """Event files in runs/NAME/tensorboard, one a process that trained; `tensorboard --logdir runs` shows all runs."""

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._folder, self._recipe = run.folder / "tensorboard", recipe
        self._writer: SummaryWriter | None = None

    def start(self, steps_done: int, earlier_metrics: Sequence[dict[str, Any]]) -> None:
        """Begin a file that makes the later steps of earlier files void, with the earlier steps that those lack."""
        from torch.utils.tensorboard import SummaryWriter

        known_steps = _tensorboard_steps(self._folder) if earlier_metrics else set()
        earlier_steps = [metrics["step"] for metrics in earlier_metrics]
        first_step = next((step for step in earlier_steps if step not in known_steps), steps_done + 1)
        self._writer = SummaryWriter(str(self._folder), purge_step=first_step)
        self._writer.add_text("recipe", f"```yaml\n{self._recipe.to_yaml()}```", global_step=first_step)
        for metrics in earlier_metrics:
            if metrics["step"] >= first_step:
                self._add(metrics)

    def log(self, metrics: StepMetrics) -> None:
        """Add each number of the step."""
        self._add(asdict(metrics))

    def _add(self, metrics: dict[str, Any]) -> None:
        if self._writer is not None:
            for key, number in _tracked_numbers(metrics).items():
                self._writer.add_scalar(key, number, global_step=metrics["step"])

    def flush(self) -> None:
        """Wait until the file has all events."""
        if self._writer is not None:
            self._writer.flush()

    def close(self, has_failed: bool) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard_steps(folder: Path) -> set[int]:
    """The steps whose metrics are in a folder of event files."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    if not folder.is_dir():
        return set()
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})  # 0: all
    events.Reload()
    if _STEP_MARK_KEY not in events.Tags()[SCALARS]:
        return set()
    return {event.step for event in events.Scalars(_STEP_MARK_KEY)}


class WandbTracker:
    """A run of Weights & Biases under the same id for the whole training; its local files are in runs/NAME/wandb.

    Its own variables hold: WANDB_MODE (`offline` needs neither network nor key), WANDB_PROJECT, WANDB_API_KEY and others. It
    writes in blocks, so a kill loses steps that it had: when training goes on, those that it lacks are sent again. Offline it
    has none after a restart, so that the newest local run has all steps: `wandb sync runs/NAME/wandb/latest-run`.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        import wandb

        try:
            self._run: wandb.Run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _WANDB_PROJECT),
                name=recipe.name,
                id=_run_id(run.folder / "wandb" / "run-id"),
                resume="allow",
                dir=run.folder,
                config=recipe.model_dump(),
                settings=wandb.Settings(console="off", silent=True),
            )
        except ValidationError as error:  # it checks its variables with pydantic; a field `mode` is WANDB_MODE
            wrong_variables = [
                f"WANDB_{'_'.join(map(str, entry['loc'])).upper()}: {entry['msg']}" for entry in error.errors()
            ]
            raise UserError(
                f"Weights & Biases cannot be used ({one_line('; '.join(wrong_variables), 200)})",
                where="train.trackers",
                hint="correct or unset the variable, or leave wandb out",
            ) from None
        except (wandb.Error, ValueError) as error:  # no key, or no server
            raise UserError(
                f"Weights & Biases cannot be used ({one_line(error, 200)})",
                where="train.trackers",
                hint="run wandb login, set WANDB_MODE=offline, or leave wandb out",
            ) from None
        self._next_step = self._run.step  # of a run that it continues, the one after the last that it has

    def start(self, steps_done: int, earlier_metrics: Sequence[dict[str, Any]]) -> None:
        """Send the earlier steps that it lacks."""
        for metrics in earlier_metrics:
            self._send(metrics)

    def log(self, metrics: StepMetrics) -> None:
        """Send each number of the step."""
        self._send(asdict(metrics))

    def _send(self, metrics: dict[str, Any]) -> None:
        if metrics["step"] >= self._next_step:
            self._run.log(_tracked_numbers(metrics), step=metrics["step"])

    def flush(self) -> None:
        """Nothing to do: what a kill loses is sent again."""

    def close(self, has_failed: bool) -> None:
        """Wait until everything is sent."""
        self._run.finish(exit_code=1 if has_failed else 0)


def _run_id(id_file: Path) -> str:
    """The id of a training at Weights & Biases, from the run's folder; a new one where there is none yet."""
    if not id_file.is_file():
        with catch_write_errors(id_file):
            id_file.parent.mkdir(exist_ok=True)
        write_text(id_file, secrets.token_hex(4))
    return id_file.read_text(encoding="utf-8")


def _tracked_numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The numbers of a step by their key in metrics.jsonl; those that are unknown or not finite are left out."""
    return {
        key: value
        for key, value in metrics.items()
        if key not in _STEP_KEYS and isinstance(value, (int, float)) and math.isfinite(value)
    }
