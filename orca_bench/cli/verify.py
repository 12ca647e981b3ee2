"""`orca-bench verify`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("verify")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--benchmarks",
    type=click.Path(path_type=Path),
    help="The rows that were asked: DIR/TASK/SPLIT.jsonl.gz, or mini:.  [default: those of the mini suite for its results, "
    "else the hub]",
)
@click.option(
    "--no-rows", is_flag=True, help="Take each question's score as it is kept; check values and hashes alone."
)
@options.runs
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on standard output.")
def command(result: Path, benchmarks: Path | None, no_rows: bool, runs: Path, as_json: bool) -> int:
    """Recompute the scores of RESULT from its kept answers; exit 1 where anything does not match.

    The requests are made again from the rows and their hash compared; each question is scored again from its answers; values,
    standard errors and averages are computed again from the scores. A digit that was changed anywhere is found and named.
    Whether a model gave those answers only asking it again can tell.

    \b
      orca-bench verify runs/mini/results/orca.json
      orca-bench verify runs/mine/results/leaderboard.json --benchmarks path/to/benchmarks
    """
    import dataclasses
    import json

    from orca_bench.cli import evaluating
    from orca_bench.cli.console import console, counting
    from orca_bench.evaluate import verification
    from orca_bench.result_file import read_result

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
