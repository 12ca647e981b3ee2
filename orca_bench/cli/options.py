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
    help="Read rows from this folder instead of the hub: TASK/SPLIT.jsonl.gz (or .json, .parquet, …), or the hub's own files "
    "as they are cloned or cached. `mini:` is the embedded mini suite.",
)
rows_asked = click.option(
    "--benchmarks",
    type=click.Path(path_type=Path),
    help="The rows that were asked, as for eval: the page then shows the exact requests.  [default: those of the mini suite "
    "for its results]",
)
reported = click.option(
    "--reported", default="orca_mini_13b", show_default=True, help="Reported scores: a name, or a JSON file."
)
max_new_tokens = click.option(
    "--max-new-tokens",
    multiple=True,
    metavar="TASK=N",
    help="The most tokens of an answer to TASK, gsm8k or drop; repeat it for both.  [default: 512 for gsm8k under orca; "
    "256 for all others]",
)
runs = click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Where runs are kept."
)
revision = click.option(
    "--revision", help="Branch, tag or commit of a --model of the hub.  [default: its newest commit, which is said]"
)
benchmarks_revision = click.option(
    "--benchmarks-revision",
    "benchmarks_revisions",
    multiple=True,
    metavar="[TASK=]REV",
    help="Branch, tag or commit of the hub's data sets, of all or of one task; may be repeated.  [default: their newest commits]",
)
