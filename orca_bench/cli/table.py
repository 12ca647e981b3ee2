"""`orca-bench table`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options

_FORMS = ["terminal", "markdown", "csv", "json", "latex", "html"]


@click.command("table")
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@options.reported
@click.option(
    "--layout",
    type=click.Choice(["auto", "tasks", "models"]),
    default="auto",
    show_default=True,
    help="tasks: a line each, results side by side. models: a line each, as on the leaderboard. auto: models from three on.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMS),
    default="terminal",
    show_default=True,
    help="csv and json do not round, and are of the layout `tasks`.",
)
@options.runs
def command(results: tuple[Path, ...], reported: str, layout: str, form: str, runs: Path) -> None:
    """Show RESULT files beside the reported scores, with difference, standard error and n.

    RESULT is a result file, or a folder of which all are taken; one there that cannot be read is named and left out. Without
    RESULT: the newest result below runs/. The notes say where protocol, limit or suite make the comparison unfair. As on the
    leaderboard (layout models), the best of a column is bold only where it is significantly best.

    \b
      orca-bench table
      orca-bench table runs/a/results/orca.json runs/b/results/orca.json --format markdown
      orca-bench table runs/ --layout models --format latex
    """
    from orca_bench.errors import UserError
    from orca_bench.report import grid_formats, score_table_formats
    from orca_bench.report.leaderboard import build_leaderboard
    from orca_bench.report.reported_scores import read_reported_scores
    from orca_bench.report.result_selection import select_results
    from orca_bench.report.score_table import build_score_table

    selection = select_results(results or [_newest(runs)])
    reported_scores = read_reported_scores(reported)
    is_for_programs = form in ("csv", "json")
    if layout == "models" and is_for_programs:
        raise UserError(f"{form} is of the layout tasks", where="--layout", hint="it has a line for each number")
    if layout == "models" or (layout == "auto" and len(selection.results) > 2 and not is_for_programs):
        selection = selection.with_questions(required=False)
        grid = build_leaderboard(selection.results, [reported_scores])
    else:
        table = build_score_table([(file.label, file.result) for file in selection.results], reported_scores)
        grid = score_table_formats.to_grid(table)
    if form == "terminal":
        from orca_bench.cli.console import console

        console.print(grid_formats.to_rich(grid))
    elif is_for_programs:
        click.echo({"csv": score_table_formats.to_csv, "json": score_table_formats.to_json}[form](table), nl=False)
    else:
        forms = {"markdown": grid_formats.to_markdown, "latex": grid_formats.to_latex, "html": grid_formats.to_html}
        click.echo(forms[form](grid), nl=False)
    for note in selection.notes:
        click.echo(f"note: {note}", err=True)


def _newest(runs: Path) -> Path:
    from orca_bench.errors import UserError
    from orca_bench.results.reading import is_result

    files = [path for path in runs.glob("*/results/**/*.json") if is_result(path)]
    if not files:
        raise UserError(f"no result below {runs}", where="RESULT", hint="orca-bench eval writes one")
    return max(files, key=lambda path: path.stat().st_mtime)
