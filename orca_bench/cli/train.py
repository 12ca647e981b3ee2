"""`orca-bench train RECIPE`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe: -o train.lr=1e-5."
)
@options.runs
@click.option("--dry-run", is_flag=True, help="Show sizes, steps, memory and the resolved recipe; train nothing.")
@click.option(
    "--fresh", is_flag=True, help="Start over; an earlier run of this name becomes NAME.old-1, with its results."
)
@click.option(
    "--launcher",
    type=click.Choice(["torchrun", "deepspeed"]),
    default="torchrun",
    show_default=True,
    help="What starts the processes.",
)
def command(recipe: Path, overrides: tuple[str, ...], runs: Path, dry_run: bool, fresh: bool, launcher: str):
    """Train the student that RECIPE describes, with DeepSpeed ZeRO-3.

    Reads the records, checks them, tokenizes prompt and response separately, and trains on the response alone. The run is
    kept in runs/NAME: the resolved recipe, a manifest, metrics.jsonl (one line a step), checkpoints, and model/, a plain
    Hugging Face folder. Where the recipe asks for more than one process, they are started here; under torchrun or
    deepspeed this command is one of them.

    Ctrl-C writes a checkpoint and stops, a second one stops at once; the same command continues. Meanwhile
    checkpoint_every, export_every, max_loss and the launcher may change. A run whose loss is no number, or above
    max_loss, has diverged: it says at which step and records, keeps the checkpoint from before, and leaves no model.

    \b
      orca-bench train recipes/mini.yaml
      orca-bench train recipes/13b.yaml --dry-run
      orca-bench train recipes/7b.yaml -o data.records='[my.jsonl]' -o model.base=/models/open_llama_7b
      deepspeed --num_gpus 8 --module orca_bench train recipes/13b.yaml
    """
    from orca_bench.cli import training

    loaded = training.load_recipe(recipe, overrides, runs)
    if dry_run:
        training.show_dry_run(loaded)
        return
    training.train(loaded, runs, fresh=fresh, launcher=launcher)
