"""`orca-bench page`: results in, one HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import print_notes, select_results
from orca_bench.counts import counted

_MOST_NAMED_MODELS = 3  # from so many on the title says how many there are


@click.command("page")
@click.argument("results", nargs=-1, type=options.RESULT)
@click.option(
    "--out", type=options.PATH, metavar="FILE", default="page.html", show_default=True, help="The page to write."
)
@click.option("--title", help="The title of the page.  [default: the models' names]")
@options.reported
@options.result_benchmarks
@options.runs
def command(
    results: tuple[str, ...], out: Path, title: str | None, reported: str, benchmarks: Path | None, runs: Path
) -> None:
    """Write one HTML page of RESULTS, of any models: table, pictures, warnings, and a viewer of every question.

    RESULTS are names of runs, folders, or result files; of a run or a folder all results are used. The default is the newest
    result. The page needs no server and no network. Its viewer lists the questions that one result has right and another
    wrong, and shows the exact request and answer of each.

    \b
      orca-bench page mini-untrained mini
      orca-bench page early.json late.json --benchmarks path/to/benchmarks --out early-late.html
    """
    from orca_bench.cli.console import counting
    from orca_bench.cli.default_benchmarks import requests_lookup
    from orca_bench.files import make_writable_folder
    from orca_bench.report import html_page
    from orca_bench.report.reported_scores import find_reported_scores
    from orca_bench.results.output_files import check_output_file

    reported_scores = find_reported_scores(reported)
    selection = select_results(results, runs).with_questions()
    result_files = selection.results
    check_output_file(out, [*selection.paths, benchmarks, reported])
    requests_of = requests_lookup(benchmarks, runs)
    lookups_and_notes = [requests_of(file.result) for file in result_files]
    text_lookups = [lookup for lookup, _ in lookups_and_notes]
    absence_reasons = [note for _, notes in lookups_and_notes for note in notes]
    title = title or _default_title([file.result.model.name for file in result_files])
    make_writable_folder(out.parent)
    with counting("writing questions") as progress:
        html_page.write_page(out, title, result_files, reported_scores, text_lookups, absence_reasons, progress)
    click.echo(out)
    question_count = sum(entry.n for file in result_files for entry in file.result.tasks.values())
    answer_text = f"{counted(question_count, 'scored question')} of {counted(len(result_files), 'result')}"
    click.echo(f"{answer_text}, {out.stat().st_size / 1e6:.1f} MB; open it in a browser", err=True)
    print_notes(selection.notes + absence_reasons)


def _default_title(model_names: Sequence[str]) -> str:
    """The names of the models, or how many there are."""
    names = list(dict.fromkeys(model_names))
    return " and ".join(names) if len(names) < _MOST_NAMED_MODELS else f"{len(names)} models"
