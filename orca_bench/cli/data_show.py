"""`orca-bench data show FILE`: records on the terminal, chosen by number, source or system message."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from orca_bench.cli import options


@click.command("show", short_help="Show records of a file.")
@click.argument("files", nargs=-1, required=True, type=options.PATH)
@click.option(
    "--index", "record_numbers", multiple=True, type=click.IntRange(min=1), metavar="N", help="The N-th record, from 1."
)
@click.option("--source", metavar="NAME", help="Records of this source only.")
@click.option(
    "--system", metavar="ID", help="Records under this system message: an id of the Orca paper (1-16) or a text."
)
@click.option("--limit", type=click.IntRange(min=1), default=3, show_default=True, help="Show at most so many records.")
def show(
    files: tuple[Path, ...], record_numbers: tuple[int, ...], source: str | None, system: str | None, limit: int
) -> None:
    """Show records of FILES: their texts, and what else is in each record.

    FILES are read as `data check` reads them; rows of any published instruction set are shown too.

    \b
      orca-bench data show records/orca_mini/records.jsonl
      orca-bench data show records/orca_mini/records.jsonl --source dolly --system 7 --limit 5
      orca-bench data show alpaca_data.json --index 12 --index 13
    """
    from orca_bench.cli.console import console
    from orca_bench.errors import UserError

    chosen = _chosen_records(files, record_numbers, source, system)
    if record_numbers:
        limit = len(set(record_numbers))
    printed_count = 0
    for location, row, texts in itertools.islice(chosen, limit):
        if printed_count:
            console.print("")
        _print_record(location, row, texts)
        printed_count += 1
    if not printed_count:
        choices = (("--index", record_numbers), ("--source", source), ("--system", system))
        raise UserError(
            "no record is so", where=" ".join(option for option, value in choices if value) or str(files[0])
        )


def _chosen_records(
    files: tuple[Path, ...], record_numbers: tuple[int, ...], source: str | None, system: str | None
) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Place, row and texts of the rows that pass all the options."""
    from orca_bench import row_files
    from orca_bench.data.instructions import instruction_of_row
    from orca_bench.system_messages import system_message

    system_text = None if system is None else system_message(system)
    rows = (
        located_row
        for path in files
        for file in row_files.data_files_of(path)
        for located_row in row_files.read_rows(file)
    )
    for record_number, (location, row) in enumerate(rows, 1):
        if record_numbers and record_number > max(record_numbers):
            return
        if record_numbers and record_number not in record_numbers:
            continue
        if source is not None and row.get("source") != source:
            continue
        instruction = instruction_of_row(row, location)
        if system_text is not None and (instruction.system_text or "") != system_text:
            continue
        yield (
            location,
            row,
            {
                "system": instruction.system_text or "",
                "instruction": instruction.instruction_text,
                "input": instruction.input_text,
                "response": instruction.reference_answer,
            },
        )


def _print_record(location: str, row: dict[str, Any], texts: dict[str, str]) -> None:
    """The row's place and other columns on a line, then each text under its name."""
    from rich.text import Text

    from orca_bench.cli.console import console
    from orca_bench.data.instructions import text_columns_of_row
    from orca_bench.report.grid import display_text, printable_text

    text_columns = text_columns_of_row(row, location)
    other_columns = [
        f"{column} {value}" for column, value in row.items() if column not in text_columns and value is not None
    ]
    console.print(Text(printable_text(" · ".join([location, *other_columns])), style="dim"))
    for name, text in texts.items():
        if text:
            console.print(Text(f"{name}:", style="bold"))
            for line in text.splitlines():
                console.print(Text(f"  {display_text(line)}"))
