"""`orca-bench page`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from orca_bench.cli import options


@click.command("page")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default="page.html", show_default=True, help="The page.")
@click.option("--title", help="Its title.  [default: the models' names]")
@options.reported
@options.rows_asked
@options.runs
def command(
    results: tuple[Path, ...], out: Path, title: str | None, reported: str, benchmarks: Path | None, runs: Path
):
    """Write one HTML page of RESULTS, of any models: table, pictures, warnings, and a viewer of every question.

    RESULTS are files, or folders of which all are taken. The page needs no server and no network. Its viewer finds the
    questions that one result has right and another wrong, and shows the exact request and answer of each.

    \b
      orca-bench page runs/mine/results
      orca-bench page early.json late.json --benchmarks path/to/benchmarks --out early-late.html
    """
    from orca_bench.cli import evaluating
    from orca_bench.cli.console import counting
    from orca_bench.files import make_folder
    from orca_bench.report import page, pictures, table
    from orca_bench.results import reading

    results = reading.files(results)
    told, read = table.read_reported(reported), [reading.read_result(path) for path in results]
    shown = [reading.read(path, label) for path, label in zip(results, table.labels(read), strict=True)]
    of = evaluating.requests_at_hand(results, benchmarks, runs)
    asked = [None if of is None else of(result) for result in read]
    title = title or ", ".join(dict.fromkeys(result["model"]["name"] for result in read))
    make_folder(out.parent)
    with tempfile.TemporaryDirectory() as folder, counting("writing questions") as progress:
        drawn = pictures.draw(shown, told, Path(folder))
        page.write(out, title, shown, told, drawn, [None if found is None else found[0] for found in asked], progress)
    click.echo(out)
    for note in dict.fromkeys(note for found in asked if found is not None for note in found[1]):
        click.echo(f"note: {note}", err=True)
