"""`orca-bench publish`: results of one model in; its card, and tables, pictures and a page, out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import print_notes
from orca_bench.counts import counted

if TYPE_CHECKING:
    from orca_bench.report.publishing import Publication


@click.command("publish")
@click.argument("results", nargs=-1, required=True, type=options.RESULT)
@click.option(
    "--to",
    "folder",
    type=options.PATH,
    metavar="DIR",
    help="Folder for everything, the card too.  [default: runs/NAME/published; the card of a run stays with its model]",
)
@click.option("--name", help="The model's name on the card.  [default: the result's]")
@click.option(
    "--card",
    type=options.PATH,
    metavar="FILE",
    help="The model card to write or edit.  [default: README.md of the run's own model, else of the folder]",
)
@click.option(
    "--partial", is_flag=True, help="Put scores of a part of the questions (eval --limit) on the card, marked."
)
@click.option("--source-url", help="Where a reader finds these scores: the link of each number in the card's metadata.")
@options.reported
@options.result_benchmarks
@options.runs
@click.option(
    "--push", metavar="REPO", help="Upload the card with its picture to this model repository; the token is HF_TOKEN."
)
def command(
    results: tuple[str, ...],
    folder: Path | None,
    name: str | None,
    card: Path | None,
    partial: bool,
    source_url: str | None,
    reported: str,
    benchmarks: Path | None,
    runs: Path,
    push: str | None,
) -> None:
    """Write the model card of one model from its RESULTS, and a folder with tables, pictures and a page.

    RESULTS are names of runs, folders, or result files; of a run or a folder the results highest up in it are used.

    The card says what the model is, what was found, its prompt and how it is used, and has the table with errors, a picture,
    recipe, data, licences, hashes, and what the model is not good for. What nothing says, the card calls not known. Each
    score of the leaderboard's benchmarks is in its metadata too, as the hub shows it; of the mini suite none is. A card that
    exists keeps its own text and metadata: only what stands between orca-bench's marks is written anew.

    The folder gets the results with their questions; the table in Markdown, CSV, LaTeX and HTML; pictures; and index.html,
    one file with a viewer of every question, which needs no server and no network.

    \b
      orca-bench publish mine
      orca-bench publish mine --to site/mine --source-url https://example.org/mine
      orca-bench publish mine/leaderboard --push me/my_model
    """
    from orca_bench import hub
    from orca_bench.cli.console import counting
    from orca_bench.cli.default_benchmarks import requests_lookup
    from orca_bench.report import publishing
    from orca_bench.report.card_publishing import PublishTargets
    from orca_bench.results import foreign
    from orca_bench.results.limited_results import main_paths_without_limited
    from orca_bench.results.result_lookup import look_up_results

    if push:
        hub.check_push(push)
    named_results = [look_up_results(word, runs) for word in results]
    paths, limited_notes = main_paths_without_limited(named_results, runs)
    foreign.refuse_logs(paths, "a card names the hashes of the model, which a log does not tell")
    requests_of = requests_lookup(benchmarks, runs)
    targets = PublishTargets(runs_folder=runs, folder=folder, card=card, name=name, repository=push)
    with counting("writing questions") as progress:
        publication = publishing.publish(paths, targets, source_url, reported, partial, requests_of, progress)
    for line in _written_lines(publication):
        click.echo(line)
    print_notes([*(named.note for named in named_results), *limited_notes, *publication.notes])
    if push:
        click.echo(publishing.upload_card(publication, push))
        return
    click.echo(f"next: read {publication.card}; {_upload_hint(publication.card)}", err=True)


def _upload_hint(card: Path) -> str:
    """How the card gets onto the hub: with its model where it lies in the model's folder, else alone."""
    if (card.parent / "config.json").is_file():
        return f"hf upload OWNER/NAME {card.parent} uploads the model with it, this command with --push OWNER/NAME the card alone"
    return "this command with --push OWNER/NAME uploads it"


def _written_lines(publication: Publication) -> Iterator[str]:
    """What was written, in words."""
    count, metadata_count = publication.card_score_count, publication.metadata_score_count
    scores_text = counted(count, "score") if count else "without scores"
    if count and metadata_count != count:
        scores_text += f", {metadata_count or 'none'} of them in its metadata"
    yield f"card: {publication.card} ({scores_text})"
    for picture in publication.card_pictures:
        yield f"its picture: {picture}"
    page = publication.folder / "index.html"
    count_text = f"{publication.question_count:,} questions, " if publication.question_count else ""
    yield f"page: {page} ({count_text}{page.stat().st_size / 1e6:.1f} MB); open it in a browser"
    names = [path.name for path in publication.files if path.parent == publication.folder and path != page]
    others = [name for name in names if publication.folder / name not in (publication.card, *publication.card_pictures)]
    yield f"beside the page: {', '.join(others)}"
