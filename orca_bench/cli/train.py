"""`orca-bench train RECIPE`: a recipe in, a run with a model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options

if TYPE_CHECKING:
    from orca_bench.recipe import Recipe


@click.command("train")
@click.argument("recipe", type=options.PATH)
@options.overrides
@options.runs
@click.option("--dry-run", is_flag=True, help="Print sizes, steps, memory and the resolved recipe; train nothing.")
@click.option(
    "--fresh", is_flag=True, help="Start over; an earlier run of this name becomes NAME.old-1, with its results."
)
@click.option(
    "--launcher",
    type=click.Choice(["torchrun", "deepspeed"]),
    default="torchrun",
    show_default=True,
    help="The program that starts the processes.",
)
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, dry_run: bool, fresh: bool, launcher: str) -> None:
    """Train the model that RECIPE describes, with DeepSpeed ZeRO-3.

    Reads and checks the records, tokenizes prompt and response separately, and trains on the response alone. The run is
    written to runs/NAME: the resolved recipe, a manifest, metrics.jsonl (one line for each step), checkpoints, and model/, a
    plain Hugging Face folder. A recipe of several processes starts them; under torchrun or deepspeed this command is one
    of them.

    Ctrl-C writes a checkpoint and stops; a second Ctrl-C stops at once. The same command continues the run. Only the
    launcher and the keys marked with * in recipes/README.md may change in between, and processes, micro_batch and
    accumulation where global_batch stays the same. A run whose loss is not a number, above max_loss or a spike above
    spike_factor has diverged: the command names the step and its records, keeps the checkpoint before it, and writes no
    model.

    With `data.benchmarks` the records are first compared with these benchmark rows, as by `orca-bench data check`; `data.report`
    is a report that is there already. The run and the model then say which test questions are in the records, and so do all
    scores of the model.

    \b
      orca-bench train recipes/mini.yaml
      orca-bench train recipes/13b.yaml --dry-run
      orca-bench train recipes/mini.yaml -o data.benchmarks=mini:benchmarks
      orca-bench train recipes/7b.yaml -o data.records='[my.jsonl]' -o model.base=/models/open_llama_7b
      deepspeed --num_gpus 8 --module orca_bench train recipes/13b.yaml
    """
    from orca_bench import api, launcher_environment
    from orca_bench.cli.training_display import TrainingConsole

    checked_recipe = api.load_recipe(recipe, overrides, runs)
    if dry_run:
        _print_plan(checked_recipe)
    else:
        run = api.train(checked_recipe, runs=runs, fresh=fresh, launcher=launcher, display=TrainingConsole())
        if launcher_environment.rank() == 0:
            _print_next_step(checked_recipe, run.model, runs)


def _print_next_step(recipe: Recipe, model: Path, runs: Path) -> None:
    """The command that evaluates the model; on the mini suite where the records are those of the embedded default."""
    from orca_bench import mini
    from orca_bench.cli.console import next_step

    is_mini = all(mini.is_embedded_file(Path(name), runs) for name in recipe.data.records)
    words: list[object] = ["eval", "--model", model, "--tasks", "all"]
    words += ["--benchmarks", mini.EMBEDDED_BENCHMARKS] if is_mini else []
    next_step(*words, runs=runs)


def _print_plan(recipe: Recipe) -> None:
    """Print the resolved recipe and what training it would take, or why that cannot be computed here."""
    from orca_bench.cli.console import console
    from orca_bench.cli.training_display import TrainingConsole, show_plan
    from orca_bench.train.train_recipe import UnreachableSource, describe_training

    display = TrainingConsole()
    console.print("the resolved recipe:\n")
    console.print(recipe.to_yaml())
    try:
        prepared = describe_training(recipe, display)
    except UnreachableSource as error:
        console.print(f"sizes, steps and memory cannot be computed here: {error}")
        return
    display.show_prepared_run(prepared)
    show_plan(prepared)
