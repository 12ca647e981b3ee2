"""`orca-bench publish`: results of one model in; tables, pictures, a page and its model card out."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import select_results


@click.command("publish")
@click.argument("results", nargs=-1, required=True, type=options.RESULT)
@click.option(
    "--to", "folder", type=options.PATH, default="results", show_default=True, help="The folder of published results."
)
@click.option("--name", help="The model's name on the card.  [default: the result's]")
@click.option(
    "--card",
    type=options.PATH,
    help="The model card to edit.  [default: README.md of the run's own model for results below that run, else of TO/NAME]",
)
@click.option("--source-url", help="Where a reader finds these scores: the link of each number on the card.")
@options.reported
@options.result_benchmarks
@options.runs
@click.option("--push", metavar="REPO", help="Upload the card to this model repository; the token is HF_TOKEN.")
def command(
    results: tuple[str, ...],
    folder: Path,
    name: str | None,
    card: Path | None,
    source_url: str | None,
    reported: str,
    benchmarks: Path | None,
    runs: Path,
    push: str | None,
) -> None:
    """Write tables, pictures and a page of RESULTS, of one model, and put its scores into its model card.

    RESULTS are names of runs, folders, or result files; of a run or a folder all results are used.

    TO/NAME gets the results with their questions; the table in Markdown, CSV, LaTeX and HTML; pictures; and index.html, one
    file with all of it and a viewer of every question, which needs no server and no network. The card gets each score as
    `model-index` metadata, as the hub shows it: task, data set, few-shot examples, metric and source. A card that exists
    keeps its text and all other metadata. The name of the data set tells the reader where a score is of another protocol than
    the leaderboard's, of some questions only, or of rows that may differ from the leaderboard's. The card gets no scores of
    the mini suite.

    \b
      orca-bench publish mine
      orca-bench publish mine/leaderboard --push me/my_model
    """
    from orca_bench import mini
    from orca_bench.cli.console import counting
    from orca_bench.cli.mini_benchmarks import default_benchmarks
    from orca_bench.evaluate.reconstructed_requests import requests_by_result
    from orca_bench.report import publishing

    selection = select_results(results, runs)
    benchmarks_folder = default_benchmarks(selection.paths, benchmarks)
    requests_of = (
        None if benchmarks_folder is None else requests_by_result(mini.resolve_benchmarks(benchmarks_folder, runs))
    )
    with counting("writing questions") as progress:
        publication = publishing.publish(
            selection.paths, folder, name, card, source_url, reported, requests_of, progress
        )
    for path in publication.files:
        click.echo(path)
    for note in [*selection.notes, *publication.notes]:
        click.echo(f"note: {note}", err=True)
    if push:
        click.echo(publishing.upload_card(publication.card, push))
