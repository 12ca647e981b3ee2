"""A recipe in; the same training undisturbed, and with other numbers of processes on the way, out: both runs' losses.

    python tests/support/split_trainings.py RECIPE RUNS [KEY=VALUE]... [STEPS]:[KEY=VALUE,...]...

Trains RECIPE with the first keys into RUNS/whole, and into RUNS/split in parts: each is a number of steps after which the
training is stopped and goes on with the next part, and the keys of this one; the last part trains to the end. Prints a JSON
object: the losses, and the largest relative difference of two.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from forked_trainings import import_libraries, read_recipe, start, step_of, train_whole

from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import read_metrics


def losses(run: Run) -> list[float]:
    """The loss of each step."""
    return [metrics["loss"] for metrics in read_metrics(run.metrics_file)]


def main() -> None:
    """Run the script."""
    recipe_path, runs, words = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    keys, parts = ([word for word in words if (":" in word) == is_part] for is_part in (False, True))
    import_libraries()
    whole, split = Run(runs / "whole"), Run(runs / "split")
    train_whole(whole, read_recipe(recipe_path, runs, keys))
    for part in parts:
        steps, overrides = part.split(":")
        recipe = read_recipe(recipe_path, runs, [*keys, *filter(None, overrides.split(","))])
        if not steps:
            train_whole(split, recipe)
            break
        process_ids = start(split, recipe)
        while step_of(split) < int(steps):
            time.sleep(0.002)
        split.stop_file.touch()
        for process_id in process_ids:
            if os.waitpid(process_id, 0)[1]:
                raise SystemExit(split.log_file.read_text()[-2000:])
    losses_by_run = {run.folder.name: losses(run) for run in (whole, split)}
    difference = max(abs(b / a - 1) for a, b in zip(losses_by_run["whole"], losses_by_run["split"], strict=True))
    print(json.dumps(losses_by_run | {"largest_relative_difference": difference}))


if __name__ == "__main__":
    main()
