"""`orca-bench compare`: a base result and others in, whether each is better or worse out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import pair_results
from orca_bench.errors import UserError


@click.command("compare")
@click.argument("first", type=options.RESULT)
@click.argument("others", nargs=-1, type=options.RESULT)
@click.option(
    "--reported",
    metavar="none|NAME|FILE",
    help="Compare FIRST with reported scores: name of a shipped set (orca_mini_13b), or a JSON file.",
)
@options.output_format(
    "terminal", "markdown", "json", explanation="json is in fractions of 1, the others are in percent."
)
@click.option(
    "--clean",
    is_flag=True,
    help="Leave out the questions that overlap with the training records of either result (eval --data-report).",
)
@click.option("--explain", is_flag=True, help="Name the tests, the correction and the hashes below the table.")
@options.runs
def command(
    first: str,
    others: tuple[str, ...],
    reported: str | None,
    output_format: str,
    clean: bool,
    explain: bool,
    runs: Path,
) -> None:
    """Test whether one result is better than another: paired differences, intervals, tests and a verdict for each task.

    FIRST and OTHERS are names of runs, folders or result files, or logs of lm-eval or inspect_ai, which are paired by the
    hash of a document or the id of a sample, by each metric that both have; runs with results of several protocols are
    compared protocol by protocol.

    FIRST is the base; each of OTHERS is compared with it on the questions that both answered. Right-or-wrong scores are tested
    by the exact McNemar test (MMLU also by a t-test over its subjects), other scores by a paired t-test (DROP: by passage),
    with Holm's correction over tasks and averages. The output begins with what was found, in one sentence. "No difference
    shown" comes with the smallest difference that would have been shown. Of reported scores, and of a result whose file of
    questions is not beside it, only the numbers are known, so that comparison is unpaired and weaker.

    \b
      orca-bench compare mini-untrained mini
      orca-bench compare a b --clean
      orca-bench compare runs/mine/results/leaderboard.json --reported orca_mini_13b
    """
    reported = None if reported == "none" else reported
    if not others and reported is None:
        raise UserError("nothing to compare with", where="OTHERS", hint="name another result, or --reported")

    from orca_bench.cli.comparison_work import compare_groups, lead_sentence
    from orca_bench.cli.console import next_step
    from orca_bench.cli.result_output import print_grids
    from orca_bench.report import comparison_formats

    comparisons, has_all_questions = compare_groups(pair_results(first, others, runs), reported, clean)
    if output_format == "json":
        click.echo(json.dumps(comparison_formats.to_json(comparisons), indent=1, ensure_ascii=False))
        return
    grids = [comparison_formats.to_grid(comparison) for comparison in comparisons]
    print_grids(grids, output_format, explain, lead_sentence(comparisons), notes_option="--explain")
    if output_format == "terminal" and has_all_questions:
        next_step("page", first, *others, runs=runs)
