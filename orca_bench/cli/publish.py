"""`orca-bench publish`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("publish")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", "to", type=click.Path(path_type=Path), default="results", show_default=True, help="Where tables are kept."
)
@click.option("--name", help="The model's name on the card.  [default: the result's]")
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    help="The model card to edit.  [default: README.md of the run's own model for results below that run, else of OUT/NAME]",
)
@click.option("--source-url", help="Where a reader finds these scores: the link of each number on the card.")
@options.reported
@options.rows_asked
@options.runs
@click.option("--push", metavar="REPO", help="Upload the card to this model repository; the token is HF_TOKEN.")
def command(
    results: tuple[Path, ...],
    to: Path,
    name: str | None,
    card: Path | None,
    source_url: str | None,
    reported: str,
    benchmarks: Path | None,
    runs: Path,
    push: str | None,
) -> None:
    """Write tables, pictures and a page of RESULTS, of one model, and put its scores into its model card.

    OUT/NAME gets the results with their questions; the table in Markdown, CSV, LaTeX and HTML; pictures; and index.html, one file
    with all of it and a viewer of every question, which needs no server and no network. The card gets each score as
    `model-index` metadata, as the hub shows it: task, data set, few-shot examples, metric and source. A card that is there
    keeps its text and all other metadata. Scores of another protocol than the leaderboard's, of some questions only, or of rows
    that are not known to be the leaderboard's say so in the name of the data set; scores of the mini suite stay off the card.

    \b
      orca-bench publish runs/mine/results/leaderboard.json runs/mine/results/orca.json
      orca-bench publish runs/mine/results/leaderboard.json --push me/my_model
    """
    from orca_bench.cli import evaluating
    from orca_bench.cli.console import counting
    from orca_bench.report import publishing

    requests_of = evaluating.requests_at_hand(results, benchmarks, runs)
    with counting("writing questions") as progress:
        publication = publishing.publish(results, to, name, card, source_url, reported, requests_of, progress)
    for path in publication.files:
        click.echo(path)
    for note in publication.notes:
        click.echo(f"note: {note}", err=True)
    if push:
        click.echo(publishing.upload_card(publication.card, push))
