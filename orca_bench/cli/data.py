"""`orca-bench data …`: instruction files in, records out; build, show and the checks of records have files of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.cli.data_build import build
from orca_bench.cli.data_check import check, merge_shard_reports
from orca_bench.cli.data_show import show

if TYPE_CHECKING:
    from orca_bench.data.conversion import ConversionReport


@click.group("data")
def command() -> None:
    """Convert instruction files into records, build records with a teacher, and check what is in records."""


command.add_command(build)
command.add_command(show)
command.add_command(check)
command.add_command(merge_shard_reports)


@command.command("convert", short_help="Convert instruction files into records.")
@click.argument("files", nargs=-1, required=True, type=options.PATH)
@click.option(
    "--out",
    required=True,
    type=options.PATH,
    metavar="FILE",
    help="The file of records to write (JSON Lines); compressed if its name ends in .gz.",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="KEY=COLUMN,…",
    help="Columns to read: instruction=…,response=… with, if the files have them, input=…,system=…; or messages=…",
)
@click.option(
    "--systems",
    metavar="IDS",
    help="Ids of the Orca paper's system messages, 5 or 2,3,7-9: rows without their own message get one of them at random.  "
    "[default: 2-16 for published sets, message 5 for all other rows]",
)
@click.option(
    "--sample",
    "sample_size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Convert N of the rows only, chosen at random by --seed and their texts.  [default: all rows]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the sample and of the choice of system messages."
)
@click.option("--strict", is_flag=True, help="Stop at the first row that would be left out.")
def convert(
    files: tuple[Path, ...],
    out: Path,
    mapping: tuple[str, ...],
    systems: str | None,
    sample_size: int | None,
    seed: int,
    strict: bool,
) -> None:
    """Convert instruction FILES that have reference answers into records; no teacher model is used.

    FILES are JSON, JSON Lines, Parquet, CSV or TSV, plain or compressed; a folder or a pattern stands for its files in order.
    These columns are known:

    \b
      instruction, output [, input] [, system]     Alpaca, WizardLM, the published Orca sets
      instruction, context, response               Dolly
      system_prompt, question, response            OpenOrca
      question, answer [, chain_of_thought]        GSM8K (with ####), FLAN's chain of thought, your own
      messages or conversations                    chat and ShareGPT, of one question and one answer
      prompt, completion (or response)             your own
      system, instruction, input, response …       records: they are copied unchanged

    For other columns, --map names those to read. A row keeps its own system message. Other rows of Alpaca, WizardLM, Dolly,
    GSM8K and FLAN get one that depends on the seed and their texts; your own rows get message 5. An input such as "No input"
    counts as no input. Rows without an answer, and conversations of several turns, are left out and counted.

    \b
      orca-bench data convert alpaca_data.json dolly.jsonl.gz --out records/mine.jsonl
      orca-bench data convert faq.csv --map instruction=Question,response=Answer --out records/faq.jsonl
      orca-bench data convert alpaca_data.json --systems 1,2,5 --sample 1200 --out records/alpaca.jsonl
    """
    from orca_bench.cli.console import counting, next_step
    from orca_bench.counts import counted
    from orca_bench.data import column_shapes, conversion
    from orca_bench.row_texts import rows_phrase

    ids = None if systems is None else _parse_system_ids(systems)
    with counting("converting") as progress:
        conversion_report = conversion.convert_to_records(
            list(files),
            out,
            ids,
            seed,
            column_shapes.shape_of_options(mapping),
            strict,
            lambda row_count: progress(row_count, None),
            sample_size,
        )
    click.echo(f"{counted(conversion_report.record_count, 'record')}: {out}")
    if sample_size is not None:
        click.echo(_sample_line(conversion_report, sample_size, seed))
    for reason, count in conversion_report.left_out_count_by_reason.most_common():
        click.echo(
            f"left out: {rows_phrase(count, reason)}; the first is {conversion_report.first_location_by_reason[reason]}"
        )
    if conversion_report.placeholder_input_count:
        click.echo(f"inputs such as 'No input', taken as none: {conversion_report.placeholder_input_count:,}")
    if conversion_report.changed_id_count:
        click.echo(f"records with a new id, as another record had theirs: {conversion_report.changed_id_count:,}")
    click.echo(f"system messages: {', '.join(_system_counts(conversion_report, systems, seed))}")
    if out.is_file():  # a device keeps no records
        next_step("train", "recipes/13b.yaml", "-o", f"data.records={json.dumps([str(out)], ensure_ascii=False)}")


def _sample_line(report: ConversionReport, sample_size: int, seed: int) -> str:
    if report.usable_row_count <= sample_size:
        return f"sample: all {report.usable_row_count:,} rows, as --sample {sample_size} is not less"
    return f"sample: {report.record_count:,} of {report.usable_row_count:,} rows, by seed {seed}"


def _system_counts(report: ConversionReport, systems: str | None, seed: int) -> list[str]:
    from orca_bench.system_messages import DEFAULT_SYSTEM_ID

    empty_suffix = f" ({report.empty_system_count:,} of them empty)" if report.empty_system_count else ""
    is_one_message = systems is not None and set(_parse_system_ids(systems)) == {DEFAULT_SYSTEM_ID}
    neutral_hint = "" if is_one_message else f" (--systems {DEFAULT_SYSTEM_ID} gives all one neutral message)"
    counts_and_descriptions = (
        (report.row_system_count, f"kept from the rows{empty_suffix}"),
        (report.assigned_system_count, f"drawn from {systems or '2-16'} with seed {seed}{neutral_hint}"),
        (report.default_system_count, "set to message 5 (--systems draws others)"),
    )
    return [f"{count:,} {description}" for count, description in counts_and_descriptions if count]


def _parse_system_ids(text: str) -> list[int]:
    from orca_bench.errors import UserError
    from orca_bench.system_messages import system_message

    ids: list[int] = []
    for range_text in text.split(","):
        first, dash, last = range_text.strip().partition("-")
        bounds = (first, last) if dash else (first,)
        if not all(bound.isascii() and bound.isdecimal() for bound in bounds):
            raise UserError(
                f"'{range_text}' is not an id or a range of ids", where="--systems", hint="e.g. 5 or 2,3,7-9"
            )
        for bound in bounds:
            system_message(bound, option="--systems")
        ids += range(int(first), int(last or first) + 1)
    if not ids:
        raise UserError(f"'{text}' names no system message", where="--systems", hint="e.g. 5 or 2,3,7-9")
    return ids
