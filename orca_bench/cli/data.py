"""`orca-bench data …`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """Make records from instruction files."""


@command.command("convert")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file of records to write (.jsonl).")
@click.option(
    "--systems", default="2-16", show_default=True, help="Ids of the Orca paper's system messages: 5 or 2,3,7-9."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw of system messages.")
def convert(files, out, systems, seed):
    """Turn instruction FILES that have reference answers into records, without a teacher.

    JSON Lines, gzip or not, in the columns of Alpaca (instruction, input, output), Dolly (instruction, context, response),
    GSM8K (question, answer) or FLAN's chain of thought (question, answer, chain_of_thought). Each row gets a system message
    drawn with the seed; rows without an answer are left out and counted.

    \b
      orca-bench data convert alpaca.jsonl dolly.jsonl.gz --out records/mine.jsonl
    """
    from orca_bench.cli.console import counting
    from orca_bench.data.convert import convert as run

    with counting("converting") as progress:
        counts = run(list(files), out, _ids(systems), seed, lambda done: progress(done, None))
    left_out = (
        f"; {counts['without an answer']:,} rows without an answer left out" if counts["without an answer"] else ""
    )
    click.echo(f"{counts['records']:,} records: {out}{left_out}")


def _ids(text: str) -> list[int]:
    from orca_bench.errors import UserError
    from orca_bench.system_messages import system_message

    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UserError(f"'{part}' is not an id or a range of ids", where="--systems", hint="e.g. 5 or 2,3,7-9")
        ids += range(int(first), int(last or first) + 1)
    for number in ids:
        system_message(number)
    if not ids:
        raise UserError(f"'{text}' names no system message", where="--systems", hint="e.g. 5 or 2,3,7-9")
    return ids
