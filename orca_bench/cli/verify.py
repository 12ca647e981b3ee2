"""`orca-bench verify`: results in; out, whether their stored answers give their scores.

With --check-rows, a folder of rows in; out, which of them are the leaderboard's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import print_default, select_result_paths
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from orca_bench.results.consistency import Finding

_WHOLE_RESULT = "whole result"
_MAX_UNCHECKED_LENGTH = 100  # characters of a line on what was not checked


@click.command("verify")
@click.argument("results", nargs=-1, type=options.RESULT)
@click.option(
    "--benchmarks",
    type=options.PATH,
    metavar="DIR",
    help="The rows of the results: DIR/TASK/SPLIT.jsonl.gz, or mini:.  [default: those that they were made with: the mini "
    "suite's, a folder, or the hub's]",
)
@click.option("-v", "--verbose", is_flag=True, help="Print every check with its hashes, not one line a task.")
@click.option("--no-rescore", is_flag=True, help="Do not score the answers again; check values and hashes only.")
@click.option(
    "--check-rows",
    type=options.PATH,
    metavar="DIR",
    help="Instead of RESULTS: print which rows of this benchmarks folder are the leaderboard's own, with the hash of each split.",
)
@click.option(
    "--data-report",
    type=options.PATH,
    metavar="FILE",
    help="The report on the training records by which questions were marked; the marks are compared with it.  [default: that "
    "of the model's folder, where it is here]",
)
@options.runs
@options.output_format("terminal", "json")
def command(
    results: tuple[str, ...],
    benchmarks: Path | None,
    verbose: bool,
    no_rescore: bool,
    check_rows: Path | None,
    data_report: Path | None,
    runs: Path,
    output_format: str,
) -> int:
    """Recompute the scores of RESULTS from their stored answers; exit 1 where anything does not match.

    RESULTS are names of runs, folders or result files; of a run or a folder all results are verified. The default is the
    newest result.

    The requests are rebuilt from the rows and their hash is compared; each question is scored again from its answers; values,
    standard errors, averages, warnings and the overlap with training records are computed again. What cannot be computed again
    (times, versions, the model's identity, token ids) is named, and the hash of the whole result covers it: any changed digit is
    noticed. To check the answers themselves, run `eval` again.

    With --check-rows, benchmark rows are verified instead; exit 1 where a split is missing or has other rows than the
    leaderboard. The hash of a split covers the columns that its task reads, in order; line ends do not count.

    \b
      orca-bench verify mini
      orca-bench verify runs/mine/results/leaderboard.json --benchmarks path/to/benchmarks
      orca-bench verify --check-rows path/to/benchmarks
    """
    for option, path, problem in (
        ("--benchmarks", benchmarks, "rows are needed only to score answers again"),
        ("--data-report", data_report, "marks are compared only where answers are scored again"),
    ):
        if no_rescore and path is not None:
            raise UserError(problem, where=option, hint="leave out --no-rescore")
    if check_rows is None:
        from orca_bench.results import foreign

        paths = select_result_paths(results, runs)
        foreign.refuse_logs(paths, "its scores cannot be computed again here")
        return _verify_results(paths, benchmarks, data_report, no_rescore, verbose, runs, output_format)
    if results:
        raise UserError("rows are checked instead of RESULTS", where="--check-rows", hint="give one of the two")
    for option, is_on_command_line in (
        ("--benchmarks", benchmarks is not None),
        ("--data-report", data_report is not None),
        ("--no-rescore", no_rescore),
    ):
        if is_on_command_line:
            raise UserError("is for RESULTS, and --check-rows checks rows", where=option, hint="leave it out")
    return _check_rows(check_rows, runs, output_format)


def _check_rows(folder: Path, runs: Path, output_format: str) -> int:
    from orca_bench import mini
    from orca_bench.cli.console import console
    from orca_bench.evaluate import benchmark_rows
    from orca_bench.results.task_results import OTHER_ROWS

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


def _rows_of_result(path: Path, benchmarks: Path | None, runs: Path) -> Path | None:
    """The folder of a result's rows, None for the hub; a folder that the user did not name is named on standard error."""
    from orca_bench import mini
    from orca_bench.cli.default_benchmarks import check_benchmarks_folder_exists, default_benchmarks
    from orca_bench.results.reading import read_result

    if benchmarks is not None:
        return mini.resolve_benchmarks(benchmarks, runs)
    result = read_result(path)
    folder = default_benchmarks(result)
    if folder is None:
        check_benchmarks_folder_exists(result, path)
    else:
        print_default("benchmarks", folder, "the rows that it was made with")
    return mini.resolve_benchmarks(folder, runs)


def _verify_results(
    results: Sequence[Path],
    benchmarks: Path | None,
    data_report: Path | None,
    no_rescore: bool,
    verbose: bool,
    runs: Path,
    output_format: str,
) -> int:
    """Verify one result after the other; as JSON, one alone and several in a list."""
    from orca_bench.cli.console import console, counting
    from orca_bench.evaluate import verification

    contents = []
    for index, result in enumerate(results):
        benchmarks_folder = None if no_rescore else _rows_of_result(result, benchmarks, runs)
        with counting("verifying") as progress:
            findings = verification.verify(result, benchmarks_folder, not no_rescore, progress, data_report)
        matches = all(finding.matches is not False for finding in findings)
        entries = [
            {"what": finding.check_name, "matches": finding.matches, "detail": finding.detail} for finding in findings
        ]
        contents.append({"result": str(result), "matches": matches, "findings": entries})
        if output_format == "terminal":
            if len(results) > 1:
                console.print(f"{result}:" if index == 0 else f"\n{result}:")
            _print_findings(findings, matches, verbose, no_rescore)
    all_match = all(content["matches"] for content in contents)
    if output_format == "json":
        click.echo(json.dumps(contents[0] if len(contents) == 1 else contents, indent=1, ensure_ascii=False))
    elif len(results) == 1:
        _print_next_step(results[0], all_match, no_rescore)
    return 0 if all_match else 1


def _print_findings(findings: Sequence[Finding], matches: bool, verbose: bool, no_rescore: bool) -> None:
    from rich.text import Text

    from orca_bench.cli.console import console

    for matched, line in (
        [(finding.matches, _finding_line(finding)) for finding in findings] if verbose else _summary(findings)
    ):
        sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[matched]
        console.print(Text(f"{sign} ", style=style) + Text(line))
    if no_rescore:
        start = "every number matches the" if matches else "this result does not match its"
        console.print(f"{start} stored scores; no answer was scored again")
    else:
        console.print(
            "every number matches the stored answers" if matches else "this result does not match its stored answers"
        )


def _finding_line(finding: Finding) -> str:
    return f"{finding.check_name}: {finding.detail}"


def _summary(findings: Sequence[Finding]) -> Iterator[tuple[bool | None, str]]:
    """(whether it matches, line): a line for each task and one for the result as a whole, and one for each problem.

    What could not be checked has a line too.
    """
    from orca_bench.suite import ALL_TASKS

    titles = [task.title for task in ALL_TASKS]
    findings_by_heading: dict[str, list[Finding]] = {}
    for finding in findings:
        title = finding.check_name.partition(": ")[0]
        findings_by_heading.setdefault(title if title in titles else _WHOLE_RESULT, []).append(finding)
    for heading in sorted(findings_by_heading, key=[*titles, _WHOLE_RESULT].index):
        heading_findings = findings_by_heading[heading]
        matching = [finding for finding in heading_findings if finding.matches]
        if matching and all(finding.matches is not False for finding in heading_findings):
            names = ", ".join(finding.check_name.removeprefix(f"{heading}: ") for finding in matching)
            value = next((finding.detail for finding in matching if finding.check_name == f"{heading}: value"), "")
            yield True, f"{heading}: {f'{value}; ' if value else ''}{names} match"
        for finding in heading_findings:
            if not finding.matches:
                yield finding.matches, _short_line(finding)


def _short_line(finding: Finding) -> str:
    """A finding that does not match in full; of what was not checked, the beginning."""
    line = _finding_line(finding)
    if finding.matches is None and len(line) > _MAX_UNCHECKED_LENGTH:
        return f"{line[:_MAX_UNCHECKED_LENGTH].rpartition(', ')[0]}, … (-v names all)"
    return line


def _print_next_step(result: Path, matches: bool, no_rescore: bool) -> None:
    """Publish what matches, where it is all of the leaderboard's suite; score again what was only added up."""
    from orca_bench.cli.console import next_step
    from orca_bench.results.reading import read_result

    if matches and no_rescore:
        next_step("verify", result)
    elif matches and (verified := read_result(result)).suite.comparable and not verified.question_limit:
        next_step("publish", result)
