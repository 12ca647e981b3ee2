"""`orca-bench verify`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.errors import UserError


@click.command("verify")
@click.argument("result", required=False, type=click.Path(path_type=Path))
@click.option(
    "--benchmarks",
    type=click.Path(path_type=Path),
    help="The rows that were asked: DIR/TASK/SPLIT.jsonl.gz, or mini:.  [default: those of the mini suite for its results, "
    "else the hub]",
)
@click.option(
    "--no-rescore",
    "no_rows",
    is_flag=True,
    help="Take each question's score as it is kept; check values and hashes alone.",
)
@click.option(
    "--check-rows",
    "directory",
    type=click.Path(path_type=Path),
    help="Instead of RESULT: say which rows of this benchmarks directory are the leaderboard's own, with the hash of each split.",
)
@options.runs
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on standard output.")
def command(
    result: Path | None, benchmarks: Path | None, no_rows: bool, directory: Path | None, runs: Path, as_json: bool
) -> int:
    """Recompute the scores of RESULT from its kept answers; exit 1 where anything does not match.

    The requests are made again from the rows and their hash compared; each question is scored again from its answers; values,
    standard errors, averages and warnings are computed again from the scores. What cannot be computed again (times, versions, the
    model's identity, token ids) is named, and held by a hash of the whole result: a digit that was changed anywhere is found.
    Whether a model gave those answers only asking it again can tell.

    With --check-rows, benchmark rows are verified instead. The hash of a split covers the columns that its task reads, in
    order, whatever their line ends.

    \b
      orca-bench verify runs/mini/results/orca.json
      orca-bench verify runs/mine/results/leaderboard.json --benchmarks path/to/benchmarks
      orca-bench verify --check-rows path/to/benchmarks
    """
    if (result is None) == (directory is None):
        raise UserError("one of RESULT and --check-rows is needed", where="verify")
    if directory is not None:
        return _rows(directory, runs, as_json)
    return _result(result, benchmarks, no_rows, runs, as_json)


def _rows(directory: Path, runs: Path, as_json: bool) -> int:
    import json

    from orca_bench.cli import evaluating
    from orca_bench.cli.console import console
    from orca_bench.evaluate import benchmark_rows
    from orca_bench.results.reading import OTHER

    splits = [vars(split) for split in benchmark_rows.survey(evaluating.rows(directory, runs))]
    if as_json:
        click.echo(json.dumps(splits, indent=1, ensure_ascii=False))
    for split in [] if as_json else splits:
        digest = split["sha256"] or split["note"]
        console.print(
            f"{split['task']} {split['split']}: {split['status']}, {split['rows']:,} of {split['full']:,} rows, {digest}"
        )
    return 1 if any(split["status"] == OTHER for split in splits) else 0


def _result(result: Path, benchmarks: Path | None, no_rows: bool, runs: Path, as_json: bool) -> int:
    import dataclasses
    import json

    from orca_bench.cli import evaluating
    from orca_bench.cli.console import console, counting
    from orca_bench.evaluate import verification
    from orca_bench.results.reading import read_result

    if not no_rows and benchmarks is None and read_result(result)["suite"].get("name") == "mini":
        benchmarks = Path(evaluating.MINI)
    rows = None if no_rows else evaluating.rows(benchmarks, runs)
    with counting("verifying") as report:
        findings = verification.verify(result, rows, not no_rows, report)
    matches = all(finding.matches is not False for finding in findings)
    if as_json:
        told = {"matches": matches, "findings": [dataclasses.asdict(finding) for finding in findings]}
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return 0 if matches else 1
    from rich.text import Text

    for finding in findings:
        sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[finding.matches]
        console.print(Text(f"{sign} ", style=style) + Text(f"{finding.what}: {finding.detail}"))
    console.print("every number matches the kept answers" if matches else "this result does not match its kept answers")
    return 0 if matches else 1
