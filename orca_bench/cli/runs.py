"""`orca-bench runs`: what is below the folder of runs, with statuses, scores and sizes; and what of it can be removed."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.errors import UserError, join_names, spelling_hint

if TYPE_CHECKING:
    from orca_bench.cli.run_cleaning import CleaningPlan
    from orca_bench.train.run_survey import RunSummary

_MAX_NAMES_IN_HINT = 8


@click.command("runs")
@click.argument("names", nargs=-1, type=options.RESULT, metavar="[RUN]...")
@click.option(
    "--clean",
    is_flag=True,
    help="Remove cached answers and checkpoints that nothing needs any more, after a list of them and a question.",
)
@click.option("--dry-run", is_flag=True, help="With --clean: show the list and remove nothing.")
@click.option("--yes", is_flag=True, help="With --clean: do not ask.")
@options.output_format("terminal", "markdown", "json")
@options.runs
def command(names: tuple[str, ...], clean: bool, dry_run: bool, yes: bool, output_format: str, runs: Path) -> int:
    """List runs and their results: status, step, scores with standard errors, size on disk, date; the newest first.

    With a RUN's name or folder, or that of its model or of one of its results, all that is known of the run. The names of
    results (mini/orca) are those that the other commands take.

    --clean removes the answers that finished evaluations kept to continue (answers.sqlite), and checkpoints: all of a
    finished run, all but the newest undamaged one of another. Models, exports and results stay, and so does what a process is
    writing. Without answers.sqlite an evaluation of the same tasks computes all answers again. Exit code 1 where something
    could not be removed.

    \b
      orca-bench runs
      orca-bench runs mini
      orca-bench runs --clean --dry-run
    """
    if (dry_run or yes) and not clean:
        raise UserError("is about --clean", where="--dry-run" if dry_run else "--yes", hint="add --clean")
    if clean and output_format == "markdown":
        raise UserError("--clean has no Markdown", where="--format", hint="terminal or json")

    if runs.exists() and not runs.is_dir():
        raise UserError("not a folder", where=f"--runs {runs}")

    from orca_bench.train.run_survey import survey_runs

    summaries = _select_runs(survey_runs(runs), names, runs)
    if clean:
        return _clean(summaries, dry_run, yes, output_format)

    from orca_bench.cli import run_listing

    listed_runs = run_listing.with_results(summaries, runs)
    if output_format == "json":
        content = [run_listing.to_json(listed_run) for listed_run in listed_runs]
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
    elif not listed_runs:
        click.echo(f"no runs in {runs}; orca-bench demo, train and eval make them")
    elif output_format == "markdown":
        click.echo(run_listing.to_markdown(listed_runs), nl=False)
    else:
        from orca_bench.cli.console import console

        for renderable in run_listing.to_rich(listed_runs, runs, with_details=bool(names)):
            console.print(renderable)
    return 0


def _select_runs(summaries: list[RunSummary], names: tuple[str, ...], runs: Path) -> list[RunSummary]:
    """The runs of these names or folders, or all without names; raises UserError for a name that no run has."""
    if not names:
        return summaries
    summary_by_name = {summary.name: summary for summary in summaries}
    selected_names = []
    for name in names:
        run_name = _run_name(name, runs) or name
        if run_name not in summary_by_name:
            names_text = join_names(list(summary_by_name), _MAX_NAMES_IN_HINT)
            known_names = f"runs in {runs}: {names_text}" if summaries else f"none in {runs}"
            hint = "; ".join(filter(None, (spelling_hint(name, summary_by_name), known_names)))
            raise UserError("no such run", where=name, hint=hint)
        selected_names.append(run_name)
    return [summary_by_name[name] for name in dict.fromkeys(selected_names)]


def _run_name(word: str, runs: Path) -> str | None:
    """The run that a word names: by its name, by a path to it or into it, or by one of its results or models; else None."""
    from orca_bench.models.model_lookup import look_up_model
    from orca_bench.models.model_names import results_folder_name
    from orca_bench.results.result_lookup import look_up_results

    if (runs / results_folder_name(word)).is_dir() and ".." not in word:
        return results_folder_name(word)
    paths = [Path(word)]
    if not paths[0].exists():  # of a folder all below it would be searched
        with contextlib.suppress(UserError):
            named_results = look_up_results(word, runs)
            paths += named_results.paths if named_results.folder is None else ()
        with contextlib.suppress(UserError):
            paths.append(Path(look_up_model(word, runs).folder_or_id))
    for path in paths:
        resolved_path, resolved_runs = path.resolve(), runs.resolve()
        if path.exists() and resolved_runs in resolved_path.parents:
            return resolved_path.relative_to(resolved_runs).parts[0]
    return None


def _clean(summaries: list[RunSummary], dry_run: bool, yes: bool, output_format: str) -> int:
    """List what can be removed, ask, and remove it; returns the exit code, 1 where something could not be removed."""
    from orca_bench.cli.run_cleaning import plan_cleaning, remove
    from orca_bench.disk_space import size_text

    plan = plan_cleaning([summary.folder for summary in summaries])
    asks = not dry_run and not yes and bool(plan.items)
    if output_format == "terminal" or asks and sys.stdin.isatty():
        _print_plan(plan, to_stderr=output_format != "terminal")
    if asks:
        _ask(plan)
    removed_items, removal_errors = ([], []) if dry_run else remove(plan)
    removed_bytes = sum(item.byte_count for item in removed_items)
    if output_format == "json":
        content = plan.to_json() | {"removed_bytes": removed_bytes, "errors": [str(error) for error in removal_errors]}
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
    elif plan.items:
        click.echo("nothing was removed (--dry-run)" if dry_run else f"removed: {size_text(removed_bytes)}")
    for error in removal_errors:
        click.echo(f"error: not removed: {error}", err=True)
    return 1 if removal_errors else 0


def _print_plan(plan: CleaningPlan, to_stderr: bool) -> None:
    from orca_bench.disk_space import size_text

    for item in plan.items:
        click.echo(f"{size_text(item.byte_count):>8}  {item.path}  ({item.reason})", err=to_stderr)
    for note in plan.notes:
        click.echo(f"left alone: {note}", err=to_stderr)
    total_bytes = sum(item.byte_count for item in plan.items)
    click.echo(f"{size_text(total_bytes)} can be removed" if plan.items else "nothing to remove", err=to_stderr)


def _ask(plan: CleaningPlan) -> None:
    """Ask whether to remove; raises UserError where nobody can answer, and click.Abort for a no."""
    if not sys.stdin.isatty():
        raise UserError("removing needs an answer, and there is no terminal", where="--clean", hint="add --yes")
    click.confirm(f"Remove {'it' if len(plan.items) == 1 else f'these {len(plan.items)}'}?", abort=True, err=True)
