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
) -> None:
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
    from orca_bench.report import html_page
    from orca_bench.report.pictures import draw_pictures
    from orca_bench.report.reported_scores import read_reported_scores
    from orca_bench.report.result_selection import select_results

    reported_scores = read_reported_scores(reported)
    selection = select_results(results).with_questions()
    files = selection.results
    requests_of = evaluating.requests_at_hand(tuple(file.path for file in files), benchmarks, runs)
    lookups = [None if requests_of is None else requests_of(file.result) for file in files]
    title = title or ", ".join(dict.fromkeys(file.result.model.name for file in files))
    make_folder(out.parent)
    with tempfile.TemporaryDirectory() as folder, counting("writing questions") as progress:
        pictures = draw_pictures(files, reported_scores, Path(folder))
        requests = [None if lookup is None else lookup[0] for lookup in lookups]
        html_page.write_page(out, title, files, reported_scores, pictures, requests, progress)
    click.echo(out)
    notes = selection.notes + [note for lookup in lookups if lookup is not None for note in lookup[1]]
    for note in dict.fromkeys(notes):
        click.echo(f"note: {note}", err=True)
