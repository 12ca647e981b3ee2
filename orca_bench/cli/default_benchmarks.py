"""Which benchmark rows belong to a result, where the user names none: the mini suite's, or those that the result remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_bench import mini
from orca_bench.errors import UserError
from orca_bench.results.reading import read_result


def default_benchmarks(results: Sequence[Path], benchmarks: Path | None) -> Path | None:
    """The rows that --benchmarks names, else `mini:` where every result is of the mini suite.

    Else the folder that all results say their rows came from, where it is here; else None, for the hub. Raises UserError for a
    file that is not a result.
    """
    if benchmarks is not None:
        return benchmarks
    read_results = [read_result(path) for path in results]
    if all(result.suite.name == "mini" for result in read_results):
        return mini.EMBEDDED_BENCHMARKS
    folders = {result.benchmarks for result in read_results}
    folder = folders.pop() if len(folders) == 1 else None
    return Path(folder) if folder is not None and Path(folder).is_dir() else None


def check_benchmarks_folder_exists(result: Path) -> None:
    """Raise UserError where a result says that its rows came from a folder which is not here: the hub may have others."""
    folder = read_result(result).benchmarks
    if folder is not None and not Path(folder).is_dir():
        raise UserError(
            f"its rows came from {folder}, which is not here", where=result, hint="name their folder with --benchmarks"
        )
