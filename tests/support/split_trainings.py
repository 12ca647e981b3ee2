"""A recipe in; the same training undisturbed, and with other numbers of processes on the way, out: both runs' losses.

    python tests/support/split_trainings.py RECIPE RUNS OVERRIDES...

Trains RECIPE into RUNS/whole, and into RUNS/split in parts: each OVERRIDES is `STEPS:KEY=VALUE,...`, a number of steps after
which the training is stopped and goes on with the next ones; the last part trains to the end. Prints the losses as a JSON
object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from forked_trainings import import_libraries, start, step_of, train_whole

from orca_bench import recipe_file
from orca_bench.train.run_folder import Run


def losses(run: Run) -> list[float]:
    """The loss of each step."""
    return [json.loads(line)["loss"] for line in run.metrics_file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Run the script."""
    recipe_path, runs, parts = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    import_libraries()
    whole, split = Run(runs / "whole"), Run(runs / "split")
    train_whole(whole, recipe_file.read_recipe_file(recipe_path))
    for part in parts:
        steps, overrides = part.split(":")
        recipe = recipe_file.read_recipe_file(recipe_path, tuple(filter(None, overrides.split(","))))
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
    print(json.dumps({run.folder.name: losses(run) for run in (whole, split)}))


if __name__ == "__main__":
    main()
