"""One training process. Started by a launcher as `python -m orca_bench.train.training_process RUN`, or called by the command
itself where a launcher already started it. Says how it ended in the run's outcome file.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import traceback
from pathlib import Path

from orca_bench import child_processes, launcher_environment, library_settings, recipe_file, tokenizers
from orca_bench.errors import UserError
from orca_bench.files import write_json
from orca_bench.train.divergence import Diverged, explain
from orca_bench.train.run_folder import Run, newest_checkpoint

_LITTLE = 64 * 2**20  # bytes free under which a failed write is laid to the full disk


def main() -> None:
    """Entry point of a launched process; exit code 0, 1 or 2."""
    child_processes.follow()
    sys.exit(work(Run(Path(sys.argv[-1]))))  # deepspeed's launcher puts --local_rank before it


def work(run: Run) -> int:
    """Train the prepared run in this process; returns the exit code."""
    try:
        _say(run, _train(run))
        return 0
    except UserError as error:
        _say(run, "failed", str(error), 2)
        return 2
    except Diverged as error:  # on every process at once
        checkpoint = newest_checkpoint(run.checkpoints)
        message = explain(error.report, run.manifest["records"], checkpoint and str(checkpoint))
        _say(run, "diverged", message, 1, diverged=error.report.entry())
        return 1
    except Exception as error:
        traceback.print_exc()
        if message := full_disk(run):
            _say(run, "failed", message, 2)
            return 2
        _say(run, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", 1)
        return 1


def full_disk(run: Run) -> str | None:
    """What to say where the run's disk is full, or None: libraries raise all kinds of errors then."""
    if shutil.disk_usage(run.folder).free >= _LITTLE:
        return None
    return f"{run.folder}: the disk is full; what was saved before is kept, free space and run again"


def _train(run: Run) -> str:
    from orca_bench.train import deepspeed_engine as engines
    from orca_bench.train import resolved_sources
    from orca_bench.train.batch_plan import Plan
    from orca_bench.train.example_encoding import Encoded
    from orca_bench.train.progress_display import training_progress
    from orca_bench.train.training_loop import train

    library_settings.prepare()
    recipe, _ = resolved_sources.locate(recipe_file.load(run.recipe_file), run.manifest.get("commits", {}))
    tokenizer = tokenizers.load(recipe.model.tokenizer or recipe.model.base)
    encoded = Encoded.load(run.tokens_file)
    plan = Plan(encoded.lengths, recipe.train)
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, library_settings.cores() // recipe.train.processes))
    with contextlib.redirect_stdout(sys.stderr):  # deepspeed 0.19.8 prints what it compiles
        engine = engines.start(recipe, tokenizer)
    first = torch.distributed.get_rank() == 0
    shown = training_progress(recipe.name, plan.steps) if first else contextlib.nullcontext(lambda metrics: None)
    with shown as report:
        status = train(run, recipe, engine, encoded, plan, tokenizer, report)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return status


def _say(run: Run, status: str, message: str = "", code: int = 0, **more) -> None:
    """The first process to fail says why; what they all know is said by process 0."""
    if status == "failed":
        if run.outcome_file.exists():
            return
    elif launcher_environment.rank() != 0:
        return
    with contextlib.suppress(UserError):  # a full disk cannot take even this; the parent reads the exit code
        write_json(run.outcome_file, {"status": status, "message": message, "code": code} | more)


if __name__ == "__main__":
    main()
