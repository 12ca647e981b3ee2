"""Which benchmark rows belong to a result, where the user names none: those of the mini suite for its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_bench import mini
from orca_bench.results.reading import read_result


def default_benchmarks(results: Sequence[Path], benchmarks: Path | None) -> Path | None:
    """The rows that --benchmarks names, else `mini:` where every result is of the mini suite, else None.

    Raises UserError for a file that is not a result.
    """
    if benchmarks is None and all(read_result(path).suite.name == "mini" for path in results):
        return mini.EMBEDDED_BENCHMARKS
    return benchmarks
