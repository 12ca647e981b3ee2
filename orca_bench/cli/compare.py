"""`orca-bench compare`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("others", nargs=-1, type=click.Path(path_type=Path))
@click.option("--reported", help="Compare FIRST with reported scores: a name (orca_mini_13b), or a JSON file.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "json"]),
    default="terminal",
    show_default=True,
    help="terminal and markdown are in percent; json in fractions of 1.",
)
def command(first: Path, others: tuple[Path, ...], reported: str | None, form: str) -> None:
    """Is B better than A? Paired differences of results, task by task, with intervals, tests and a verdict.

    FIRST is the base; each of OTHERS is held against it on the questions that both answered. Right-or-wrong scores are tested
    by the exact McNemar test (MMLU: and by a t over its subjects), others by a paired t (DROP: by passage), corrected by Holm
    over tasks and averages. "No difference shown" says how large one had to be to be shown. Against reported scores, where
    only the number is known, the comparison is unpaired and weaker.

    \b
      orca-bench compare runs/a/results/orca.json runs/b/results/orca.json
      orca-bench compare runs/a/results/leaderboard.json --reported orca_mini_13b
    """
    import json

    from orca_bench.cli.console import console
    from orca_bench.errors import UserError
    from orca_bench.report import comparison_formats, grid_formats
    from orca_bench.report.comparison import compare
    from orca_bench.report.reported_comparison import compare_with_reported
    from orca_bench.report.reported_scores import read_reported_scores
    from orca_bench.report.result_selection import result_labels
    from orca_bench.results import reading

    if not others and reported is None:
        raise UserError("nothing to compare with", where="OTHERS", hint="name another result, or --reported")
    paths = [first, *others]
    labels = result_labels([reading.read_result(path) for path in paths])
    results = [reading.read(path, label) for path, label in zip(paths, labels, strict=True)]
    comparisons = compare(results[0], results[1:])
    if reported is not None:
        comparisons.append(compare_with_reported(results[0], read_reported_scores(reported)))
    if form == "json":
        click.echo(json.dumps(comparison_formats.to_json(comparisons), indent=1, ensure_ascii=False))
        return
    for number, comparison in enumerate(comparisons):
        grid = comparison_formats.to_grid(comparison)
        if form == "markdown":
            click.echo(("\n" if number else "") + grid_formats.to_markdown(grid), nl=False)
        else:
            console.print(*(["\n"] if number else []), grid_formats.to_rich(grid))
