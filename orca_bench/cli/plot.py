"""`orca-bench plot`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("plot")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default="plots", show_default=True, help="The folder of the pictures."
)
@options.reported
@click.option("--over-steps", is_flag=True, help="Draw checkpoints of one run over their steps, and nothing else.")
@click.option("--steps", help="The step of each RESULT: 100,200,400.  [default: as the result or its name says]")
def command(results: tuple[Path, ...], out: Path, reported: str, over_steps: bool, steps: str | None):
    """Draw RESULTS, files or folders of them, each picture as PNG and SVG.

    scores: by task, with 95 % intervals, reported scores and chance. mmlu: the subjects of the first RESULT, sorted. steps:
    each task over the steps of a run, where the results are of its checkpoints; with --over-steps, this alone.

    \b
      orca-bench plot runs/mine/results
      orca-bench plot runs/mine/results/leaderboard.json runs/mine/results/orca.json
      orca-bench plot early.json late.json --over-steps --steps 100,800
    """
    from orca_bench.errors import UserError
    from orca_bench.report import pictures, table
    from orca_bench.results import reading

    results = reading.files(results)
    read = [reading.read_result(path) for path in results]
    labels = table.labels(read)
    made = [reading.ResultFile(path, label, data) for path, label, data in zip(results, labels, read, strict=True)]
    if over_steps or steps:
        at = None
        if steps:
            if not all(part.strip().isdecimal() and len(part.strip()) < 16 for part in steps.split(",")):
                raise UserError(f"'{steps}' is no list of numbers", where="--steps", hint="--steps 100,200")
            at = [int(part) for part in steps.split(",")]
        paths = pictures.steps(made, at, out)
    else:
        paths = [path for _, files in pictures.draw(made, table.read_reported(reported), out) for path in files]
    for path in paths:
        click.echo(path)
