"""`orca-bench verify`: a result in, whether its stored answers give its scores out; or benchmark rows in, whose they are out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import select_single_result
from orca_bench.errors import UserError


@click.command("verify")
@click.argument("result", required=False, type=options.RESULT)
@click.option(
    "--benchmarks",
    type=options.PATH,
    help="The rows of the result: DIR/TASK/SPLIT.jsonl.gz, or mini:.  [default: the mini suite's for its results, else the hub]",
)
@click.option("--no-rescore", is_flag=True, help="Do not score the answers again; check values and hashes only.")
@click.option(
    "--check-rows",
    type=options.PATH,
    metavar="DIR",
    help="Instead of RESULT: print which rows of this benchmarks folder are the leaderboard's own, with the hash of each split.",
)
@options.runs
@options.output_format("terminal", "json")
def command(
    result: str | None,
    benchmarks: Path | None,
    no_rescore: bool,
    check_rows: Path | None,
    runs: Path,
    output_format: str,
) -> int:
    """Recompute the scores of RESULT from its stored answers; exit 1 where anything does not match.

    RESULT is the name of a run, a folder or a result file; the default is the newest result.

    The requests are rebuilt from the rows and their hash is compared; each question is scored again from its answers; values,
    standard errors, averages and warnings are computed again from the scores. What cannot be computed again (times, versions,
    the model's identity, token ids) is named, and the hash of the whole result covers it: any changed digit is noticed. To
    check the answers themselves, run `eval` again.

    With --check-rows, benchmark rows are verified instead; exit 1 where a split is missing or has other rows than the
    leaderboard. The hash of a split covers the columns that its task reads, in order; line ends do not count.

    \b
      orca-bench verify mini
      orca-bench verify runs/mine/results/leaderboard.json --benchmarks path/to/benchmarks
      orca-bench verify --check-rows path/to/benchmarks
    """
    if check_rows is None:
        return _verify_result(select_single_result(result, runs), benchmarks, no_rescore, runs, output_format)
    if result is not None:
        raise UserError("rows are checked instead of RESULT", where="--check-rows", hint="give one of the two")
    return _check_rows(check_rows, runs, output_format)


def _check_rows(folder: Path, runs: Path, output_format: str) -> int:
    from orca_bench import mini
    from orca_bench.cli.console import console
    from orca_bench.evaluate import benchmark_rows
    from orca_bench.results.models import OTHER_ROWS

    splits = list(benchmark_rows.survey_splits(mini.resolve_benchmarks(folder, runs) or folder))
    if output_format == "json":
        entries = [
            {
                "task": split.task_name,
                "split": split.split,
                "status": split.status,
                "rows": split.row_count,
                "full": split.full_row_count,
                "sha256": split.sha256,
                "note": split.error_text,
            }
            for split in splits
        ]
        click.echo(json.dumps(entries, indent=1, ensure_ascii=False))
    else:
        for split in splits:
            console.print(
                f"{split.task_name} {split.split}: {split.status}, {split.row_count:,} of {split.full_row_count:,} rows, "
                f"{split.sha256 or split.error_text}"
            )
    return 1 if any(split.status in (OTHER_ROWS, "missing") for split in splits) else 0


def _verify_result(result: Path, benchmarks: Path | None, no_rescore: bool, runs: Path, output_format: str) -> int:
    from orca_bench import mini
    from orca_bench.cli.console import console, counting
    from orca_bench.cli.mini_benchmarks import default_benchmarks
    from orca_bench.evaluate import verification

    benchmarks_folder = None if no_rescore else mini.resolve_benchmarks(default_benchmarks([result], benchmarks), runs)
    with counting("verifying") as progress:
        findings = verification.verify(result, benchmarks_folder, not no_rescore, progress)
    matches = all(finding.matches is not False for finding in findings)
    if output_format == "json":
        entries = [{"what": each.check_name, "matches": each.matches, "detail": each.detail} for each in findings]
        content = {"matches": matches, "findings": entries}
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return 0 if matches else 1
    from rich.text import Text

    for finding in findings:
        sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[finding.matches]
        console.print(Text(f"{sign} ", style=style) + Text(f"{finding.check_name}: {finding.detail}"))
    console.print(
        "every number matches the stored answers" if matches else "this result does not match its stored answers"
    )
    return 0 if matches else 1
