"""Results on standard output: their tables beside the reported scores, the files they are in, or their JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from orca_bench.cli.console import console
from orca_bench.report.grid import Grid

if TYPE_CHECKING:
    from orca_bench.report.reported_scores import ReportedScores
    from orca_bench.results.reading import ResultFile


def print_results(
    results: Sequence[ResultFile],
    output_format: str,
    reported_scores: ReportedScores | None,
    all_tasks: bool = False,
    with_notes: bool = False,
    notes_option: str = "--notes",
) -> None:
    """Print results and where they are; as `json`, the contents of one result file, or a list of those of several.

    The table has them beside `reported_scores`, if there are any.
    `all_tasks` shows tasks that no result has, too, and `with_notes` all notes, with hashes and versions; `notes_option` is
    what a user types for these.
    """
    if output_format == "json":
        contents = [file.result.file_content for file in results]
        click.echo(json.dumps(contents[0] if len(contents) == 1 else contents, indent=1, ensure_ascii=False))
        return
    from orca_bench.report.result_tables import result_grids
    from orca_bench.results.reading import find_questions_path

    grids = result_grids(results, reported_scores, "tasks", all_tasks)
    print_grids(grids, output_format, with_notes, notes_option=notes_option)
    for file in results:
        place = f"\nresult: {file.path}\nquestions: {find_questions_path(file.path)}"
        click.echo(place, err=output_format != "terminal")


def print_table(results: Sequence[ResultFile], headings: Sequence[str]) -> None:
    """Print the table of some results for the terminal, under these headings, beside the reported scores."""
    from orca_bench.report.reported_scores import read_reported_scores
    from orca_bench.report.result_tables import result_grids

    files = [replace(file, label=heading) for file, heading in zip(results, headings, strict=True)]
    grids = result_grids(files, read_reported_scores(), "tasks", keep_labels=True)
    print_grids(grids, "terminal", notes_option="orca-bench table --notes")


def with_lead(grids: Sequence[Grid], lead: str) -> list[Grid]:
    """Grids, and before several of them the sentence `lead`, where it is not empty."""
    return [*([Grid([], [], conclusion=lead)] if lead and len(grids) > 1 else []), *grids]


def print_grids(
    grids: Sequence[Grid], output_format: str, with_notes: bool = False, lead: str = "", notes_option: str = "--notes"
) -> None:
    """Print grids one below the other: `terminal`, `markdown`, `latex` or `html`; before several, the sentence `lead`.

    `notes_option` is what a user types for all notes.
    """
    from orca_bench.report import grid_formats, grid_terminal
    from orca_bench.report.notes import ALL_KINDS, DEFAULT_KINDS

    kinds = ALL_KINDS if with_notes else DEFAULT_KINDS
    write = {
        "markdown": grid_formats.to_markdown,
        "latex": grid_formats.to_latex,
        "html": grid_formats.to_html,
    }.get(output_format)
    all_grids = with_lead(grids, lead)
    for index, grid in enumerate(all_grids):
        if write is not None:
            click.echo(("\n" if index else "") + write(grid, kinds), nl=False)
            continue
        if index > len(all_grids) - len(grids):
            click.echo()
        console.print(grid_terminal.to_rich(grid, kinds, with_notes, notes_option))
