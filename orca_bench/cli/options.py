"""Options that several commands have, worded once."""

from __future__ import annotations

from pathlib import Path

import click

system = click.option(
    "--system",
    default="5",
    show_default=True,
    help="The orca protocol's system message: an id of the Orca paper (1–16) or a text.",
)
benchmarks = click.option(
    "--benchmarks",
    type=click.Path(path_type=Path),
    help="Read rows from DIR/TASK/SPLIT.jsonl.gz instead of the hub; `mini:` is the embedded mini suite.",
)
