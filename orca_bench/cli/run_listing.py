"""Runs and their results in, lists of them out: for the terminal, in Markdown, as JSON.

Its own module because it puts together what two rooms know: train of runs, results of results.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.counts import counted
from orca_bench.disk_space import size_text
from orca_bench.errors import UserError
from orca_bench.report.grid import display_text
from orca_bench.report.grid_formats import markdown_cell
from orca_bench.results.result_lookup import look_up_results, result_name
from orca_bench.results.result_survey import ResultSummary, summarize_results
from orca_bench.train.run_folder import finite_number, whole_number
from orca_bench.train.run_survey import RunSummary

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class NamedSummary:
    """A result under the name by which other commands take it, `RUN/STEM`."""

    name: str
    summary: ResultSummary


@dataclass(frozen=True)
class ListedRun:
    """A run with its results."""

    run: RunSummary
    results: list[NamedSummary]


def with_results(summaries: Sequence[RunSummary], runs_folder: Path) -> list[ListedRun]:
    """The runs with a summary of each of their results."""
    listed_runs = []
    for run in summaries:
        try:
            paths: Sequence[Path] = look_up_results(run.folder / "results", runs_folder).paths
        except UserError:  # no result
            paths = []
        names = [result_name(path, runs_folder) for path in paths]
        results = [NamedSummary(*pair) for pair in zip(names, summarize_results(paths), strict=True)]
        listed_runs.append(ListedRun(run, results))
    return listed_runs


def to_json(listed_run: ListedRun) -> dict[str, Any]:
    """A run as JSON: scores in percent, sizes in bytes, dates in seconds since 1970."""
    run = listed_run.run
    return {
        "name": run.name,
        "folder": str(run.folder),
        "status": run.status,
        "step": run.step,
        "steps": run.step_count,
        "date": run.date,
        "bytes": run.byte_count,
        "bytes_by_part": run.bytes_by_part,
        "model": None if run.model_folder is None else str(run.model_folder),
        "results": [_result_json(result_file) for result_file in listed_run.results],
    }


def _result_json(named: NamedSummary) -> dict[str, Any]:
    result, mean = named.summary.result, named.summary.mean
    entry: dict[str, Any] = {"name": named.name, "path": str(named.summary.path), "error": named.summary.error}
    if result is None:
        return entry
    return entry | {
        "model": result.model.name,
        "suite": result.suite.name,
        "protocol": result.protocol.name,
        "limit": result.limit,
        "complete": result.complete,
        "created": result.created,
        "mean": None if mean is None else {"title": mean.title, "value": mean.value, "stderr": mean.stderr},
        "tasks": {
            name: {"value": 100 * task.value, "stderr": None if task.stderr is None else 100 * task.stderr, "n": task.n}
            for name, task in result.tasks.items()
        },
    }


def to_markdown(listed_runs: Sequence[ListedRun]) -> str:
    """One table with a line for each run and each result."""
    lines = ["| run or result | status or scores | questions | size | date |", "|---|---|---|--:|---|"]
    for listed_run in listed_runs:
        lines += [f"| {' | '.join(map(markdown_cell, cells))} |" for cells in _rows(listed_run)]
    return "\n".join(lines) + "\n"


def to_rich(listed_runs: Sequence[ListedRun], runs_folder: Path, with_details: bool) -> Iterator[RenderableType]:
    """A table of the runs with their results below them, and a line with the sum; `with_details` all of each run."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if with_details:
        for index, listed_run in enumerate(listed_runs):
            yield Text("\n".join([""] * (index > 0) + list(map(display_text, _details(listed_run)))))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("Run, result", "Status, scores in percent", "Size", "Date"):
        table.add_column(heading, justify="right" if heading == "Size" else "left", overflow="fold")
    for listed_run in listed_runs:
        for row_index, (name, text, _, size, date) in enumerate(_rows(listed_run, with_limits=True)):
            style = "bold" if row_index == 0 else ""
            cells = [Text(name if row_index == 0 else f"  {name}", style), Text(text), Text(size), Text(date[:10])]
            table.add_row(*cells)
    yield table
    result_count = sum(len(listed_run.results) for listed_run in listed_runs)
    total_size = size_text(sum(listed_run.run.byte_count for listed_run in listed_runs))
    yield Text(
        f"\n{counted(len(listed_runs), 'run')}, {counted(result_count, 'result')}, {total_size} in {runs_folder}"
    )


def _rows(listed_run: ListedRun, with_limits: bool = False) -> Iterator[tuple[str, str, str, str, str]]:
    """(name, status or scores, which questions, size, date) of a run and of each of its results.

    The scores of a suite that is not the leaderboard's say so in parentheses, with `with_limits` also those of the first
    questions only.
    """
    run = listed_run.run
    yield display_text(run.name), _status_text(run), "", size_text(run.byte_count), _date_text(run.date)
    for named in listed_run.results:
        result = named.summary.result
        date = "" if result is None else display_text(_local_time_text(result.created or ""))
        scores_text = _with_remarks(named.summary, named.summary.scores_text, with_limits)
        yield display_text(named.name), scores_text, named.summary.limit_text, "", date


def _status_text(run: RunSummary) -> str:
    words = {"model": "a model, not trained here", "results": "results of a model elsewhere"}
    text = display_text(words.get(run.status, run.status))
    if run.step is None:
        return text
    if run.step == run.step_count:
        return f"{text}, {counted(run.step, 'step')}"
    return f"{text}, step {run.step:,} of {run.step_count:,}" if run.step_count else f"{text}, step {run.step:,}"


def _with_remarks(summary: ResultSummary, scores_text: str, with_limit: bool = False) -> str:
    """A text about a result's scores with the suite in parentheses where it is not the leaderboard's, and the limit."""
    result = summary.result
    if result is None:
        return display_text(scores_text)
    remarks = [] if result.suite.comparable else [result.suite.name]
    remarks += [result.question_limit.phrase.removesuffix(" questions")] if with_limit and result.question_limit else []
    return display_text(f"{scores_text} ({', '.join(remarks)})" if remarks else scores_text)


def _details(listed_run: ListedRun) -> Iterator[str]:
    """All that is known of a run, a line each."""
    run = listed_run.run
    yield f"{run.name}: {_status_text(run)}, {_date_text(run.date)}"
    if run.model_folder is not None:
        yield f"model: {run.model_folder}"
    for key, text in _manifest_texts(run.manifest):
        yield f"{key}: {text}"
    sizes = [f"{part} {size_text(count)}" for part, count in run.bytes_by_part.items() if count]
    yield f"on disk: {size_text(run.byte_count)} ({', '.join(sizes)})"
    for named in listed_run.results:
        summary = named.summary
        texts = [_with_remarks(summary, summary.mean_text), summary.limit_text]
        yield f"{named.name}: {', '.join(filter(None, texts))}"
        yield from (f"  {score}" for score in summary.task_scores)
    if not listed_run.results:
        yield "no result; orca-bench eval writes one"


def _manifest_texts(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a run's manifest says of its size and records."""
    if (parameters := whole_number(manifest.get("parameters"))) is not None:
        yield "parameters", f"{parameters:,}"
    if (tokens := whole_number(manifest.get("tokens"))) is not None:
        yield "tokens of records", f"{tokens:,}"
    records = manifest.get("records")
    if isinstance(records, list):
        for source in records:
            if isinstance(source, dict) and (row_count := whole_number(source.get("rows"))) is not None:
                yield "records", f"{source.get('name')}, {counted(row_count, 'row')}"
    if (seconds := finite_number(manifest.get("seconds"))) is not None:
        yield "training time", f"{seconds:,.0f} s"


def _local_time_text(created: str) -> str:
    """The time of a result, which has the zone of the machine that wrote it, in the zone of this one; another text as it is."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return _date_text(datetime.fromisoformat(created).timestamp())
    return created


def _date_text(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
