"""Training processes forked from this one, which has imported the libraries: a start takes a second and not many.

What they run is what a launcher starts, and the run's folder is prepared as the command does it. For scripts that start many
trainings; never for a process that has threads, as pytest may have.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from orca_bench import child_processes, library_settings, recipe_file
from orca_bench.mini import embedded_names
from orca_bench.recipe import Recipe
from orca_bench.train import run_setup, training_process
from orca_bench.train.run_folder import Run


def import_libraries() -> None:
    """Import before the first fork what takes long."""
    library_settings.prepare_libraries()
    import deepspeed  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    from orca_bench.train import training_loop  # noqa: F401


def read_recipe(recipe_path: Path, runs: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe with overrides; the embedded files that it names are written below `runs`."""
    return embedded_names.resolve_recipe(recipe_file.read_recipe_file(recipe_path, overrides), runs, recipe_path)


def start(run: Run, recipe: Recipe) -> list[int]:
    """Prepare the run and fork its training processes; returns their ids by rank."""
    prepared = run_setup.compute_prepared_run(recipe, run_tokens_folder=run.tokens_folder)
    run_setup.prepare_run_folder(prepared, run, lambda line: print(line, file=sys.stderr, flush=True))
    run.stop_file.unlink(missing_ok=True)
    run.outcome_file.unlink(missing_ok=True)
    port, count = child_processes.find_free_port(), recipe.train.processes
    process_ids = []
    for rank in range(count):
        process_id = os.fork()
        if process_id == 0:
            places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            places |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in places.items()})
            descriptor = os.open(run.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(descriptor, 2)
            exit_code = 1
            try:
                failure = training_process.train_in_this_process(run, shows_steps=False)
                exit_code = 0 if failure is None else failure.exit_code
            finally:
                os._exit(exit_code)
        process_ids.append(process_id)
    return process_ids


def is_alive(process_id: int) -> bool:
    """Whether a child still runs; collects one that has ended."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(process_id, os.WNOHANG)[0] == 0
    return False


def train_whole(run: Run, recipe: Recipe) -> None:
    """Train to the end."""
    exit_codes = [os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) for process_id in start(run, recipe)]
    if any(exit_codes):
        raise SystemExit(f"{run.folder}: exit codes {exit_codes}: {run.log_file.read_text()[-2000:]}")


def step_of(run: Run) -> int:
    """The number of lines of metrics."""
    return run.metrics_file.read_bytes().count(b"\n") if run.metrics_file.is_file() else 0
