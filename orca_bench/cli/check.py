"""`orca-bench check`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command("check")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="The result to hold it against. Given several times: runs of one recipe with other seeds, five rather than two.",
)
@click.option("--rules", type=click.Path(path_type=Path), help="YAML: level, smallest_loss, floors, tasks.")
@click.option("--summary", type=click.Path(path_type=Path), help="Write a Markdown summary.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML.")
@click.option(
    "--annotations/--no-annotations",
    default=None,
    help="Print GitHub's ::error lines.  [default: where GITHUB_ACTIONS is true]",
)
@click.option("--json", "as_json", is_flag=True, help="Print all facts as JSON on standard output.")
def command(
    result: Path,
    baselines: tuple[Path, ...],
    rules: Path | None,
    summary: Path | None,
    junit: Path | None,
    annotations: bool | None,
    as_json: bool,
) -> int:
    """The gate for CI: exit 1 where RESULT is worse than its baseline.

    A task fails where its loss is significant (paired on the same questions, corrected over the tasks) and at least
    `smallest_loss` points, or where it is below a floor. Results of another protocol, other rows or another limit, unfinished
    ones and those that were changed by hand are not comparable, and fail; so does a task that the baseline has and RESULT has
    not. What is not examined is said. With several baselines a loss must also be larger than what seeds do: two or three of
    them show only large losses. Under GitHub Actions the summary goes to the job's page as well.

    \b
      orca-bench check runs/mini/results/orca.json --baseline results/baselines/mini-0.json
      orca-bench check new.json --baseline old.json --rules gate.yaml --summary gate.md --junit gate.xml

    \b
    Rules, with their defaults:
      level: 0.05         # how often all tasks together may cry wolf
      smallest_loss: 0    # points; a smaller loss passes
      floors: {}          # points by task: {hellaswag: 60}, whether it is in `tasks` or not
      tasks: all          # all of the baseline, or a list of those that are compared
    """
    import json

    from orca_bench.cli.console import console
    from orca_bench.files import write_text, writing
    from orca_bench.report import gate, gate_formats
    from orca_bench.report.gate_rules import read_rules
    from orca_bench.results import reading

    report = gate.check(reading.read(result), [reading.read(path) for path in baselines], read_rules(rules))
    if summary:
        write_text(summary, gate_formats.to_markdown(report))
    if junit:
        write_text(junit, gate_formats.to_junit(report))
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if step_summary:
        with writing(step_summary), open(step_summary, "a", encoding="utf-8") as handle:
            handle.write(gate_formats.to_markdown(report))
    if as_json:
        click.echo(json.dumps(gate_formats.to_json(report), indent=1, ensure_ascii=False))
    else:
        console.print(gate_formats.to_rich(report))
    if annotations or (annotations is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        for line in gate_formats.to_annotations(report):
            click.echo(line, err=as_json)
    return 0 if report.passed else 1
