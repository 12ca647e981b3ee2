"""Results on the terminal: the table beside the reported scores, the files they are in, or their JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from orca_bench import api
from orca_bench.cli.console import console

if TYPE_CHECKING:
    from orca_bench.results.reading import ResultFile


def print_results(results: Sequence[ResultFile], output_format: str) -> None:
    """Print results and where they are; as `json`, the contents of one result file, or a list of those of several."""
    if output_format == "json":
        contents = [file.result.file_content for file in results]
        click.echo(json.dumps(contents[0] if len(contents) == 1 else contents, indent=1, ensure_ascii=False))
        return
    from orca_bench.report.result_selection import result_labels
    from orca_bench.results.reading import questions_path_for

    print_table(results, result_labels([file.result for file in results]), output_format)
    for file in results:
        place = f"\nresult: {file.path}\nquestions: {questions_path_for(file.path)}"
        click.echo(place, err=output_format != "terminal")


def print_table(results: Sequence[ResultFile], headings: Sequence[str], output_format: str = "terminal") -> None:
    """Print the table of some results under these headings, beside the reported scores; `terminal` or `markdown`."""
    from orca_bench.report import grid_formats, score_table_formats

    files = [replace(file, label=heading) for file, heading in zip(results, headings, strict=True)]
    grid = score_table_formats.to_grid(api.table(files))
    if output_format == "markdown":
        click.echo(grid_formats.to_markdown(grid), nl=False)
    else:
        console.print(grid_formats.to_rich(grid))
