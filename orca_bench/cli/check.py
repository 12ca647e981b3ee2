"""`orca-bench check`: a result and its baselines in, an exit code for CI out."""

from __future__ import annotations

import os
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import single_group
from orca_bench.errors import UserError


@click.command("check")
@click.argument("result", type=options.RESULT)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    required=True,
    type=options.RESULT,
    metavar="RESULT",
    help="The result to compare it with, or a folder of several; may be repeated. Several are runs of one recipe with other "
    "seeds (five show more than two).",
)
@click.option(
    "--rules",
    type=options.PATH,
    metavar="FILE",
    help="YAML file of the rules: level, smallest_loss, floors, tasks, max_overlap, max_log_probability_change.",
)
@click.option(
    "--max-overlap",
    type=click.IntRange(min=0),
    metavar="N",
    help="Fail a task of which more than N questions are in the training records of RESULT.  [default: only warn of them]",
)
@click.option(
    "--max-log-probability-change",
    "max_change",
    type=float,
    metavar="NATS",
    help="Fail a task where the log-probability of an answer differs by more than NATS from that of the one baseline: for "
    "results of the same model, as 1e-3 in float32.  [default: do not compare them]",
)
@click.option("--summary", type=options.PATH, metavar="FILE", help="Write a summary in Markdown to this file.")
@click.option("--junit", type=options.PATH, metavar="FILE", help="Write JUnit XML to this file.")
@click.option(
    "--annotations/--no-annotations",
    default=None,
    help="Print GitHub's ::error lines.  [default: where GITHUB_ACTIONS is true]",
)
@click.option(
    "--questions",
    metavar="N|all",
    default="3",
    show_default=True,
    help="Name so many of the questions that fell, of each task that fails.",
)
@options.output_format("terminal", "markdown", "json", explanation="json has all facts.")
@options.runs
def command(
    result: str,
    baselines: tuple[str, ...],
    rules: Path | None,
    max_overlap: int | None,
    max_change: float | None,
    summary: Path | None,
    junit: Path | None,
    annotations: bool | None,
    questions: str,
    output_format: str,
    runs: Path,
) -> int:
    """Fail (exit 1) where RESULT is worse than its baseline: a gate for CI.

    RESULT and the baselines are names of runs, folders or result files, or logs of lm-eval or inspect_ai: what a log does not
    tell (token ids) is not compared, and the output says so.

    A task fails if its loss is significant (paired on the same questions, corrected over the tasks) and at least
    `smallest_loss` points, if its score is below a floor, if more of its questions are in the training records than
    --max-overlap allows, or if a log-probability changed by more than --max-log-probability-change. Results of another
    protocol, other rows or another limit, unfinished results and edited results are not comparable, and fail; so does a task
    that the baseline has and RESULT lacks. The output names what was not compared. With several baselines a loss must also be
    larger than the differences between seeds: two or three baselines show only large losses. Under GitHub Actions the summary
    is also written to the job's page.

    \b
      orca-bench check mini --baseline mini-untrained
      orca-bench check runs/mini/results/orca.json --baseline results/baselines
      orca-bench check new.json --baseline old.json --rules gate.yaml --summary gate.md --junit gate.xml
      orca-bench check b/orca --baseline a/orca --max-overlap 0
      orca-bench check new.json --baseline old.json --max-log-probability-change 1e-3

    \b
    Rules, with their defaults:
      level: 0.05         # family-wise error rate, over all tasks together
      smallest_loss: 0    # points; a smaller loss passes
      floors: {}          # points by task: {hellaswag: 60}, in `tasks` or not; of a task where less is better, the most
      tasks: all          # all of the baseline, or a list of those that are compared
      max_overlap: null   # questions of a task that may be in the training records; null only warns of them
      max_log_probability_change: null   # nats, in any question, beside one baseline of the same model; null does not look
    """
    import json
    from dataclasses import replace

    from orca_bench.cli.console import console, next_step
    from orca_bench.files import catch_write_errors, write_text
    from orca_bench.report import gate, gate_formats, gate_terminal
    from orca_bench.report.gate_rules import allowed_change, read_rules
    from orca_bench.results import reading
    from orca_bench.results.output_files import check_output_file

    group = single_group(result, baselines, runs)
    for output_path in filter(None, (summary, junit)):
        check_output_file(output_path, [group.base_path, *group.other_paths, rules])
    max_questions = _question_count(questions)
    result_file, *baseline_files = [reading.read_with_questions(path) for path in (group.base_path, *group.other_paths)]
    gate_rules = read_rules(rules, {name for file in (result_file, *baseline_files) for name in file.result.tasks})
    if max_overlap is not None:
        gate_rules = replace(gate_rules, max_overlap=max_overlap)
    if max_change is not None:
        allowed_nats = allowed_change(max_change, "--max-log-probability-change")
        gate_rules = replace(gate_rules, max_log_probability_change=allowed_nats)
    gate_report = gate.check(result_file, baseline_files, gate_rules)
    if summary:
        write_text(summary, gate_formats.to_markdown(gate_report, max_questions))
    if junit:
        write_text(junit, gate_formats.to_junit(gate_report, max_questions))
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if step_summary:
        with catch_write_errors(step_summary), open(step_summary, "a", encoding="utf-8") as handle:
            handle.write(gate_formats.to_markdown(gate_report, max_questions))
    if output_format == "json":
        click.echo(json.dumps(gate_formats.to_json(gate_report), indent=1, ensure_ascii=False))
    elif output_format == "markdown":
        click.echo(gate_formats.to_markdown(gate_report, max_questions), nl=False)
    else:
        console.print(gate_terminal.to_rich(gate_report, max_questions))
        if not gate_report.passed and not gate_report.obstacles:
            next_step("page", group.other_paths[0], group.base_path)
    if annotations or (annotations is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        for line in gate_formats.to_annotations(gate_report):
            click.echo(line, err=output_format != "terminal")
    return 0 if gate_report.passed else 1


def _question_count(text: str) -> int | None:
    """The number of --questions, None for all; raises UserError for another text."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"'{text}' is no number of questions", where="--questions", hint="give a number, or all")
    return int(text[:9])
