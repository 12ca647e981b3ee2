"""`orca-bench plot`: results in, pictures out."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import select_results


@click.command("plot")
@click.argument("results", nargs=-1, type=options.RESULT)
@click.option(
    "--to", "folder", type=options.PATH, default="plots", show_default=True, help="The folder to write pictures to."
)
@options.reported
@click.option("--over-steps", is_flag=True, help="Draw only the scores of one run's checkpoints over its steps.")
@click.option(
    "--steps",
    help="The step of each RESULT: 100,200,400.  [default: the step stored in the result, else in its file name]",
)
@options.runs
def command(
    results: tuple[str, ...], folder: Path, reported: str, over_steps: bool, steps: str | None, runs: Path
) -> None:
    """Draw RESULTS, which are names of runs, folders or result files, as PNG and SVG; by default the newest result.

    Three pictures are drawn. `scores` has all tasks with 95 % intervals, reported scores and chance. `mmlu` has the subjects of
    the first RESULT, sorted by score. `steps` has each task over the steps of a run, if the results are of its checkpoints;
    with --over-steps it is the only picture.

    \b
      orca-bench plot mini
      orca-bench plot mine/leaderboard mine/orca
      orca-bench plot early.json late.json --over-steps --steps 100,800
    """
    from orca_bench.report import pictures
    from orca_bench.report.reported_scores import read_reported_scores

    selection = select_results(results, runs)
    if over_steps or steps:
        drawings = [
            pictures.write_picture(picture, folder)
            for picture in pictures.build_step_pictures(selection.results, _step_numbers(steps))
        ]
    else:
        drawings = pictures.draw_pictures(selection.results, read_reported_scores(reported), folder)
    for picture in drawings:
        click.echo(f"{picture.png}\n{picture.svg}")
    for note in selection.notes:
        click.echo(f"note: {note}", err=True)


def _step_numbers(text: str | None) -> list[int] | None:
    """The numbers of --steps, or None without it."""
    from orca_bench.errors import UserError

    if not text:
        return None
    if not all(step_text.strip().isdecimal() and len(step_text.strip()) < 16 for step_text in text.split(",")):
        raise UserError(f"'{text}' is no list of numbers", where="--steps", hint="--steps 100,200")
    return [int(step_text) for step_text in text.split(",")]
