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
def command(results: tuple[Path, ...], reported: str, layout: str, form: str, runs: Path):
    """Show RESULT files beside the reported scores, with difference, standard error and n.

    RESULT is a result file, or a folder of which all are taken. Without RESULT: the newest result below runs/. The notes say
    where protocol, limit or suite make the comparison unfair. As on the leaderboard (layout models), the best of a column is
    bold only where it is significantly best.

    \b
      orca-bench table
      orca-bench table runs/a/results/orca.json runs/b/results/orca.json --format markdown
      orca-bench table runs/ --layout models --format latex
    """
    from orca_bench.report import grid_formats, leaderboard, table
    from orca_bench.results import reading

    files = reading.files(results) or [_newest(runs)]
    read = [reading.read_result(path) for path in files]
    labels = table.labels(read)
    told = table.read_reported(reported)
    if layout == "models" or (layout == "auto" and len(read) > 2 and form not in ("csv", "json")):
        if form in ("csv", "json"):
            from orca_bench.errors import UserError

            raise UserError(f"{form} is of the layout tasks", where="--layout", hint="it has a line for each number")
        grid = leaderboard.build([_whole(path, label) for path, label in zip(files, labels, strict=True)], [told])
    else:
        built = table.build(list(zip(labels, read, strict=True)), told)
        if form in ("csv", "json"):
            click.echo({"csv": table.to_csv, "json": table.to_json}[form](built), nl=False)
            return
        grid = table.grid(built)
    if form == "terminal":
        from orca_bench.cli.console import console

        console.print(grid_formats.to_rich(grid))
        return
    write = {"markdown": grid_formats.to_markdown, "latex": grid_formats.to_latex, "html": grid_formats.to_html}[form]
    click.echo(write(grid), nl=False)


def _whole(path: Path, label: str):
    """A result with its questions, where they are beside it."""
    from orca_bench.results import reading

    if reading.questions_file(path).is_file():
        return reading.read(path, label)
    return reading.ResultFile(path, label, reading.read_result(path))


def _newest(runs: Path) -> Path:
    from orca_bench.errors import UserError
    from orca_bench.results.reading import is_result

    files = [path for path in runs.glob("*/results/**/*.json") if is_result(path)]
    if not files:
        raise UserError(f"no result below {runs}", where="RESULT", hint="orca-bench eval writes one")
    return max(files, key=lambda path: path.stat().st_mtime)
