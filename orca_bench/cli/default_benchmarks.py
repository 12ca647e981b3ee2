"""Which benchmark rows belong to a result, where the user names none: the mini suite's, or those that the result remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import mini
from orca_bench.errors import UserError
from orca_bench.results.models import Result
from orca_bench.results.question_texts import QuestionTextsLookup

if TYPE_CHECKING:
    from orca_bench.report.publishing import RequestsOf


def default_benchmarks(result: Result) -> Path | None:
    """`mini:` for a result of the mini suite, else the folder that it says its rows came from, where that is here; else None."""
    if result.suite.name == "mini":
        return mini.EMBEDDED_BENCHMARKS
    folder = result.benchmarks
    return Path(folder) if folder is not None and Path(folder).is_dir() else None


def requests_lookup(benchmarks: Path | None, runs_folder: Path) -> RequestsOf:
    """A function that gives, of a result, how to look up its questions' requests, and notes on those that cannot be rebuilt.

    The rows are those that --benchmarks names, else the result's default ones; of a result that has none, the function gives
    no lookup: the hub is not used. Files of the mini suite are written below `runs_folder` when they are needed. The function
    raises UserError where there is no such folder of benchmarks.
    """
    from orca_bench.evaluate.reconstructed_requests import requests_by_result

    functions_by_folder: dict[Path, RequestsOf] = {}

    def requests_of(result: Result) -> tuple[QuestionTextsLookup | None, list[str]]:
        folder = default_benchmarks(result) if benchmarks is None else benchmarks
        if folder is None:
            return None, []
        if folder not in functions_by_folder:
            functions_by_folder[folder] = requests_by_result(mini.resolve_benchmarks(folder, runs_folder))
        return functions_by_folder[folder](result)

    return requests_of


def check_benchmarks_folder_exists(result: Result, path: Path) -> None:
    """Raise UserError where a result says that its rows came from a folder which is not here: the hub may have others.

    `path` is the result's file, for the error.
    """
    folder = result.benchmarks
    if folder is not None and not Path(folder).is_dir():
        raise UserError(
            f"its rows came from {folder}, which is not here", where=path, hint="name their folder with --benchmarks"
        )
