"""`orca-bench table`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("table")
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--reported", default="orca_mini_13b", show_default=True, help="Reported scores: a name, or a JSON file.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "json"]),
    default="terminal",
    show_default=True,
    help="terminal and markdown round to two places; csv and json do not.",
)
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Where runs are kept.")
def command(results: tuple[Path, ...], reported: str, form: str, runs: Path):
    """Show RESULT files beside the reported scores, with difference, standard error and n.

    Without RESULT: the newest result below runs/. The notes say where protocol, limit or suite make the comparison unfair.

    \b
      orca-bench table
      orca-bench table runs/a/results/orca.json runs/b/results/orca.json --format markdown
    """
    from orca_bench.report import table

    files = list(results) or [_newest(runs)]
    read = [table.read_result(path) for path in files]
    built = table.build(list(zip(table.labels(read), read, strict=True)), table.read_reported(reported))
    if form == "terminal":
        from orca_bench.cli.console import console

        console.print(table.to_rich(built))
    else:
        write = {"markdown": table.to_markdown, "csv": table.to_csv, "json": table.to_json}[form]
        click.echo(write(built), nl=False)


def _newest(runs: Path) -> Path:
    from orca_bench.errors import UserError

    files = [path for path in runs.glob("*/results/*.json")]
    if not files:
        raise UserError(f"no result below {runs}", where="RESULT", hint="orca-bench eval writes one")
    return max(files, key=lambda path: path.stat().st_mtime)
