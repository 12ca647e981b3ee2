"""`orca-bench plot`: results in, pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import print_notes, select_results
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from orca_bench.report.pictures import Picture


@click.command("plot")
@click.argument("results", nargs=-1, type=options.RESULT)
@click.option(
    "--to",
    "folder",
    type=options.PATH,
    metavar="DIR",
    default="plots",
    show_default=True,
    help="The folder to write pictures to.",
)
@options.reported
@click.option("--over-steps", is_flag=True, help="Draw only the scores of one run's checkpoints over its steps.")
@click.option(
    "--steps",
    help="With --over-steps: the step of each RESULT: 100,200,400.  [default: the step stored in the result, else in its file "
    "name]",
)
@options.runs
def command(
    results: tuple[str, ...], folder: Path, reported: str, over_steps: bool, steps: str | None, runs: Path
) -> None:
    """Draw RESULTS, which are names of runs, folders or result files, as PNG and SVG; by default the newest result.

    Up to four pictures are drawn. `differences`, of two results: each task's difference with its 95 % interval and verdict.
    `scores`: all tasks with 95 % intervals, reported scores and chance. `mmlu`: MMLU by subject. `steps`: each task over the
    steps of a run, if the results are of its checkpoints; with --over-steps it is the only picture. Results of several
    protocols or suites get a picture each. The default is the newest result below runs/.

    \b
      orca-bench plot mini-untrained mini
      orca-bench plot mine/leaderboard mine/orca --reported none
      orca-bench plot early.json late.json --over-steps --steps 100,800
    """
    from orca_bench.cli.console import next_step
    from orca_bench.report import pictures
    from orca_bench.report.reported_scores import find_reported_scores
    from orca_bench.results.reading import has_questions

    if steps is not None and not over_steps:
        raise UserError("only the picture over steps has steps", where="--steps", hint="add --over-steps")
    step_numbers, reported_scores = _step_numbers(steps), find_reported_scores(reported)
    selection = select_results(results, runs)
    notes = selection.notes
    if over_steps:
        pictures_to_write = pictures.build_step_pictures(selection.results, step_numbers)
    else:
        result_files = selection.with_questions(required=False).results
        pictures_to_write = pictures.build_pictures(result_files, reported_scores)
        notes += pictures.missing_difference_notes(result_files)
    for picture in pictures_to_write:
        notes += _write(picture, folder)
    print_notes(notes)
    if all(has_questions(path) for path in selection.paths):
        next_step("page", *results, runs=runs)


def _write(picture: Picture, folder: Path) -> list[str]:
    """Write a picture and print what each file shows and its size; notes on what the PNG lacks."""
    from orca_bench.disk_space import disk_bytes, size_text
    from orca_bench.report.pictures import write_picture

    files = write_picture(picture, folder)
    width, height = files.png_size
    click.echo(f"{files.png}: {picture.title} ({width:,} × {height:,} pixels, {size_text(disk_bytes(files.png))})")
    click.echo(f"{files.svg}: the same, light or dark as its reader prefers ({size_text(disk_bytes(files.svg))})")
    if files.has_missing_glyphs:
        return [f"{files.png}: no font here has some letters, and boxes stand for them; the SVG file has them"]
    return []


def _step_numbers(text: str | None) -> list[int] | None:
    """The numbers of --steps, or None without it."""
    if text is None:
        return None
    if not all(step_text.strip().isdecimal() and len(step_text.strip()) < 16 for step_text in text.split(",")):
        raise UserError(f"'{text}' is no list of numbers", where="--steps", hint="--steps 100,200")
    return [int(step_text) for step_text in text.split(",")]
