"""`orca-bench table`: results in, one table beside the reported scores out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.cli.result_words import print_notes, select_results
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from orca_bench.report.result_tables import TableLayout

_FORMATS = ["terminal", "markdown", "csv", "json", "latex", "html"]


@click.command("table")
@click.argument("results", nargs=-1, type=options.RESULT)
@options.reported
@click.option(
    "--layout",
    type=click.Choice(["auto", "tasks", "models"]),
    default="auto",
    show_default=True,
    help="tasks: one line for each task, results side by side. models: one line for each model, as on the leaderboard. auto: "
    "models for three results or more of one suite and protocol.",
)
@options.output_format(*_FORMATS, explanation="csv and json are not rounded, and always use `--layout tasks`.")
@options.all_tasks
@options.with_notes
@options.runs
def command(
    results: tuple[str, ...],
    reported: str,
    layout: TableLayout,
    output_format: str,
    all_tasks: bool,
    with_notes: bool,
    runs: Path,
) -> None:
    """Show RESULTS in a table that begins with what they show, beside the reported scores.

    RESULTS are names of runs, folders, or result files; of a run or a folder all results are used, and one that cannot be
    read is named and left out. The default is the newest result below runs/. Each suite and protocol has a table of its own:
    their scores are not ranked together. A difference stands with its error, in parentheses where no difference is shown.
    Letters on numbers are explained below the table. A folder of lm-eval's (--log_samples --output_path) or of inspect_ai's
    logs, and one of their files, may stand for a result, here and in compare, check, page and plot. `--layout models` is the
    leaderboard's layout; the best number of a column is bold only if it is significantly best.

    \b
      orca-bench table
      orca-bench table mini-untrained mini --format markdown
      orca-bench table mini --reported none --notes
      orca-bench table runs/ --layout models --format latex
    """
    from orca_bench.cli.console import next_step
    from orca_bench.cli.result_output import print_grids
    from orca_bench.report import score_table_formats
    from orca_bench.report.conclusions import scores_sentence
    from orca_bench.report.reported_scores import find_reported_scores
    from orca_bench.report.result_tables import result_grids
    from orca_bench.report.score_table import build_score_table

    reported_scores = find_reported_scores(reported)
    is_for_programs = output_format in ("csv", "json")
    if layout == "models" and is_for_programs:
        raise UserError(
            f"{output_format} is of the layout tasks", where="--layout", hint="it has a line for each number"
        )
    selection = select_results(results, runs)
    if len(selection.results) > 1:
        # The sentence rests on the questions that results have in common.
        selection = selection.with_questions(required=False)
    if is_for_programs:
        sentence = scores_sentence(selection.results, reported_scores)
        labelled_results = [(file.label, file.result) for file in selection.results]
        table = build_score_table(labelled_results, reported_scores, sentence)
        write = score_table_formats.to_csv if output_format == "csv" else score_table_formats.to_json
        click.echo(write(table), nl=False)
    else:
        grids = result_grids(selection.results, reported_scores, layout, all_tasks)
        lead = scores_sentence(selection.results, reported_scores) if len(grids) > 1 else ""
        print_grids(grids, output_format, with_notes, lead)
    print_notes(selection.notes)
    have_questions = len(selection.results) > 1 and all(file.questions_by_task for file in selection.results)
    if output_format == "terminal" and have_questions:
        next_step("page" if len(results) != 2 else "compare", *results, runs=runs)
