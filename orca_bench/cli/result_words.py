"""The words that a user types for results in, their files out; what is taken by default is named on standard error.

`RESULTS` of a command are runs' names, folders and files (results/result_lookup.py says which); the options that hold such
words have the type `options.RESULT`. What names a model is read by `api.select_model`.
Its own module because every command that reads results calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orca_bench.report.result_pairing import ResultGroup
    from orca_bench.report.result_selection import Selection


def select_results(words: Sequence[str], runs_folder: Path) -> Selection:
    """All results that the words name; without words, the newest result. The caller prints the selection's notes."""
    from orca_bench.report import result_selection

    return result_selection.select_results(words or [_newest_result(runs_folder)], runs_folder)


def select_result_paths(words: Sequence[str], runs_folder: Path) -> list[Path]:
    """The files of all results that the words name, each once; without words, of the newest. No file is read."""
    from orca_bench.results.result_lookup import look_up_results

    if not words:
        return [_newest_result(runs_folder)]
    named_results = [look_up_results(word, runs_folder) for word in words]
    print_notes([named.note for named in named_results])
    return list(dict.fromkeys(path for named in named_results for path in named.paths))


def pair_results(base_word: str, other_words: Sequence[str], runs_folder: Path) -> list[ResultGroup]:
    """The results of each of `other_words` beside those of the base: one group for each setting that all have."""
    from orca_bench.report import result_pairing
    from orca_bench.results.result_lookup import look_up_results

    base, *others = (look_up_results(word, runs_folder) for word in (base_word, *other_words))
    pairing = result_pairing.pair_results(base, others, runs_folder)
    print_notes([*(named.note for named in (base, *others)), *pairing.notes])
    return pairing.groups


def single_group(result_word: str, baseline_words: Sequence[str], runs_folder: Path) -> ResultGroup:
    """A result and its baselines; raises UserError where the words name results of several settings that can be paired."""
    from orca_bench.errors import UserError
    from orca_bench.results.result_lookup import result_name

    groups = pair_results(result_word, baseline_words, runs_folder)
    if len(groups) > 1:
        names = " or ".join(result_name(group.base_path, runs_folder) for group in groups)
        raise UserError(f"{len(groups)} results, and one is needed", where=result_word, hint=f"name {names}")
    return groups[0]


def print_default(what: str, path: Path, reason: str) -> None:
    """Name on standard error what a command takes because the user named nothing."""
    click.echo(f"{what}: {path} ({reason})", err=True)


def _newest_result(runs_folder: Path) -> Path:
    from orca_bench.results.result_lookup import newest_result

    path = newest_result(runs_folder)
    print_default("result", path, "the newest")
    return path


def print_notes(notes: Iterable[str | None]) -> None:
    """Print each note once, in a line on standard error; None is no note."""
    from orca_bench.report.grid import printable_text

    for note in dict.fromkeys(notes):
        if note is not None:
            click.echo(f"note: {printable_text(note)}", err=True)
