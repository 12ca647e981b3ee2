"""`orca-bench table`: results in, one table beside the reported scores out."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import select_results
from orca_bench.errors import UserError

_FORMATS = ["terminal", "markdown", "csv", "json", "latex", "html"]


@click.command("table")
@click.argument("results", nargs=-1, type=options.RESULT)
@options.reported
@click.option(
    "--layout",
    type=click.Choice(["auto", "tasks", "models"]),
    default="auto",
    show_default=True,
    help="tasks: one line for each task, results side by side. models: one line for each model, as on the leaderboard. auto: "
    "models if there are three results or more.",
)
@options.output_format(*_FORMATS, explanation="csv and json are not rounded, and always use `--layout tasks`.")
@options.runs
def command(results: tuple[str, ...], reported: str, layout: str, output_format: str, runs: Path) -> None:
    """Show RESULTS beside the reported scores, with difference, standard error and n.

    RESULTS are names of runs, folders, or result files; of a run or a folder all results are used, and one that cannot be read
    is named and left out. The default is the newest result below runs/. Notes below the table name protocols, limits and
    suites that make a comparison unfair. `--layout models` is the leaderboard's layout; the best number of a column is bold
    only if it is significantly best.

    \b
      orca-bench table
      orca-bench table mini-untrained mini --format markdown
      orca-bench table runs/ --layout models --format latex
    """
    from orca_bench import api
    from orca_bench.report import grid_formats, score_table_formats
    from orca_bench.report.leaderboard import build_leaderboard
    from orca_bench.report.reported_scores import read_reported_scores

    selection = select_results(results, runs)
    reported_scores = read_reported_scores(reported)
    is_for_programs = output_format in ("csv", "json")
    if layout == "models" and is_for_programs:
        raise UserError(
            f"{output_format} is of the layout tasks", where="--layout", hint="it has a line for each number"
        )
    if layout == "models" or (layout == "auto" and len(selection.results) > 2 and not is_for_programs):
        selection = selection.with_questions(required=False)
        grid = build_leaderboard(selection.results, [reported_scores])
    else:
        table = api.table(selection.results, reported)
        grid = score_table_formats.to_grid(table)
    if output_format == "terminal":
        from orca_bench.cli.console import console

        console.print(grid_formats.to_rich(grid))
    elif is_for_programs:
        click.echo(
            {"csv": score_table_formats.to_csv, "json": score_table_formats.to_json}[output_format](table), nl=False
        )
    else:
        formatters = {
            "markdown": grid_formats.to_markdown,
            "latex": grid_formats.to_latex,
            "html": grid_formats.to_html,
        }
        click.echo(formatters[output_format](grid), nl=False)
    for note in selection.notes:
        click.echo(f"note: {note}", err=True)
