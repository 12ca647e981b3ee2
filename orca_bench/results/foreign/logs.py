"""A path in, the log of another program that it means out: which program wrote it, and the result that it is.

Its own module because readers of results need one door, whatever program wrote a file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.results.foreign import inspect_files, lm_eval_files
from orca_bench.results.foreign.log_results import ForeignLog, catch_shape_errors

_MAX_CACHED_LOGS = 64


def is_log(path: Path) -> bool:
    """Whether a path is a log: a file of lm-eval's results or of inspect_ai, a folder that has some, or one model's in it."""
    return _is_lm_eval_place(path) or inspect_files.is_inspect_place(path)


def logs_below(folder: Path) -> tuple[Path, ...]:
    """The logs in a folder: each folder of lm-eval's results, of which the newest run counts, and each model of inspect_ai's."""
    lm_eval_folders = {path.parent for path in folder.rglob("*.json") if lm_eval_files.is_results_file(path)}
    inspect_folders = {
        path.parent
        for pattern in ("*.eval", "*.json")
        for path in folder.rglob(pattern)
        if inspect_files.is_inspect_file(path)
    }
    inspect_places = [
        place for inspect_folder in inspect_folders for place in inspect_files.inspect_places_in(inspect_folder)
    ]
    return tuple(sorted([*lm_eval_folders, *inspect_places]))


def log_note(path: Path) -> str | None:
    """What a reader should know of which file a log's folder means; None where there is nothing to say."""
    if not path.is_dir():
        return None
    results_files = lm_eval_files.results_files_in(path)
    texts = []
    if len(results_files) > 1:
        older_count = len(results_files) - 1
        texts.append(f"{counted(len(results_files), 'run')}, of which {results_files[0].name} is the newest and read")
        texts.append(f"name {'it' if older_count == 1 else 'one of the others'} to read {results_files[1].name}")
    if unfinished := lm_eval_files.samples_without_results(path):
        texts.append(f"{unfinished[0].name} is of a run without results, which goes on or failed")
    return f"{path}: {'; '.join(texts)}" if texts else None


def read_log(path: Path) -> ForeignLog:
    """The result that a log is, with its questions; raises UserError where it cannot be read."""
    if _is_lm_eval_place(path):
        results_file = lm_eval_files.results_file_of(path)
        files = [results_file, *lm_eval_files.samples_files_of(results_file)]
    else:
        results_file = None
        files = inspect_files.files_of_place(path)
    try:
        states = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=error.filename or path) from error
    return _read_log(path, results_file, states)


@functools.lru_cache(maxsize=_MAX_CACHED_LOGS)
def _read_log(path: Path, results_file: Path | None, _states: tuple[tuple[str, int, int], ...]) -> ForeignLog:
    """The same, remembered while the files do not change: commands read a result first without its questions."""
    with catch_shape_errors(results_file or path):
        if results_file is not None:
            from orca_bench.results.foreign.lm_eval_log import read_lm_eval_log

            return read_lm_eval_log(results_file, path)
        from orca_bench.results.foreign.inspect_log import read_inspect_log

        return read_inspect_log(path)


def refuse_logs(paths: Iterable[Path], reason: str) -> None:
    """Raise UserError where a path is a log, for what only results of this program are good for; `reason` says why."""
    for path in paths:
        if is_log(path):
            raise UserError(
                f"a log of another program: {reason}", where=path, hint="table, compare, check, page and plot read it"
            )


def _is_lm_eval_place(path: Path) -> bool:
    if path.is_dir():
        return bool(lm_eval_files.results_files_in(path))
    return path.is_file() and path.suffix == ".json" and lm_eval_files.is_results_file(path)
