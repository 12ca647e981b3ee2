"""What a user types for a result in, the result files that it names out: a run, a folder, or a file.

A word that names a run is the run's name below the folder of runs (`mini`, `me/model`), or one of its results
(`mini/orca`); anything else is a path. Its own module because every command that reads results takes the same words, and the
Python interface too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError, join_names, spelling_hint
from orca_bench.models.model_names import ambiguity_note, is_another, is_path_text, results_folder_name
from orca_bench.results import foreign, reading

#: Where a published copy of a run's results goes, beside the folder `results` of the run.
PUBLISHED_FOLDER_NAME = "published"
#: The end of the name of a result that made room for another one of other settings (merging.py).
_REPLACED_STEM_PATTERN = re.compile(r"(.+)-[0-9a-f]{8}")
_MAX_NAMES_IN_HINT = 8


@dataclass(frozen=True)
class NamedResults:
    """The result files that one word names, at least one; `folder` is the folder that they were looked for in.

    `folder` is None for a word that names a single file. `note` is what the user should know of how the word was understood.
    """

    word: str
    paths: tuple[Path, ...]
    folder: Path | None = None
    note: str | None = None

    @property
    def main_paths(self) -> tuple[Path, ...]:
        """Those that the folder is about: without results of a run's exports and without ones that others replaced.

        Of a folder these are the results highest up in it.
        """
        current_paths = [path for path in self.paths if not _is_replaced(path)] or list(self.paths)
        least_depth = min(len(path.parts) for path in current_paths)
        return tuple(path for path in current_paths if len(path.parts) == least_depth)


def look_up_results(word: str | Path, runs_folder: Path) -> NamedResults:
    """The results of a run's name, of a folder (a run's or any other) or of a result file.

    A run's name stands before a file or folder of that name in the working directory, and both before RUN/STEM, a result of
    another run; the note says so. A path (`./mini`, `mini/`, a Path) is never a run's name. Raises UserError, in one line with
    what is there, where a word names nothing and where a folder has no result. A file is not read.
    """
    text = str(word)
    if not text.strip():
        raise UserError("an empty name of a result", where="RESULT", hint="is a variable unset?")
    path = Path(text)
    run_folder = None if isinstance(word, Path) else _run_folder(text, runs_folder)
    run_result_paths = [] if isinstance(word, Path) else _results_of_runs(text, runs_folder)
    if run_folder is not None and (paths := _results_below(run_folder)):
        alternatives = [f"./{text} for what is here"] if is_another(path, run_folder) else []
        alternatives += [f"{result_path} for that result" for result_path in run_result_paths]
        return NamedResults(text, paths, run_folder, ambiguity_note(text, f"the run {run_folder}", alternatives))
    alternatives = [
        f"{run_result_path} for the run's result"
        for run_result_path in run_result_paths
        if is_another(path, run_result_path)
    ]
    path_note = ambiguity_note(text, "what is here", alternatives)
    if path.is_dir():
        if paths := _results_below(path):
            return NamedResults(text, paths, path, path_note)
        if log_paths := foreign.logs_below(path):
            notes = filter(None, (path_note, *map(foreign.log_note, log_paths)))
            return NamedResults(text, log_paths, path, "; ".join(notes) or None)
        raise UserError("no result in this folder", where=text, hint="orca-bench eval writes them")
    if path.exists() or foreign.is_log(path):
        return NamedResults(text, (path,), note=path_note)
    if run_result_paths:
        result_path, *other_paths = run_result_paths
        alternatives = [f"{other_path} for that one" for other_path in other_paths]
        return NamedResults(text, (result_path,), note=ambiguity_note(text, f"the result {result_path}", alternatives))
    if run_folder is not None:
        raise UserError(f"the run {run_folder} has no result", hint="orca-bench eval writes one")
    raise _unknown_word_error(text, path, runs_folder)


def single_result(named_results: NamedResults, runs_folder: Path) -> Path:
    """The one result that a word names; raises UserError, with the names of all, where it names several."""
    paths = named_results.main_paths
    if len(paths) > 1:
        names = join_names([result_name(path, runs_folder) for path in paths], _MAX_NAMES_IN_HINT)
        raise UserError(f"{len(paths)} results, and one is needed", where=named_results.word, hint=f"name {names}")
    return paths[0]


def result_name(path: Path, runs_folder: Path) -> str:
    """The shortest name of a result file that `look_up_results` takes: RUN/STEM below the folder of runs, else its path.

    Where RUN/STEM is the name of another run or result too, it is the path.
    """
    try:
        parts = path.relative_to(runs_folder).with_suffix("").parts
    except ValueError:
        return str(path)
    if len(parts) <= 2 or parts[1] != "results":
        return str(path)
    name = "/".join((parts[0], *parts[2:]))
    is_ambiguous = _run_folder(name, runs_folder) is not None or len(_results_of_runs(name, runs_folder)) > 1
    return str(path) if is_ambiguous else name


def newest_result(runs_folder: Path) -> Path:
    """The result file below the folder of runs that was written last; raises UserError where there is none."""
    paths = [path for path in runs_folder.glob("*/results/**/*.json") if reading.is_result_file(path)]
    if not paths:
        raise UserError(f"no result below {runs_folder}", where="RESULT", hint="orca-bench eval writes one")
    return max(paths, key=lambda path: path.stat().st_mtime)


def run_names(runs_folder: Path) -> list[str]:
    """The names of the runs that have a folder of results."""
    return sorted(folder.parent.name for folder in runs_folder.glob("*/results") if folder.is_dir())


def _run_folder(text: str, runs_folder: Path) -> Path | None:
    """The folder of the run of this name; None for a path and for a name that no run has."""
    if text.endswith(".json") or is_path_text(text):
        return None
    folder = runs_folder / results_folder_name(text)
    is_run = (folder / "results").is_dir() or (folder / "manifest.json").is_file()
    return folder if is_run else None


def _results_of_runs(text: str, runs_folder: Path) -> list[Path]:
    """The result files of RUN/STEM, as `mini/orca` or `mini/step-100/orca`: none, one, or two, of the runs `a` and `a/b`."""
    parts = text.removesuffix(".json").split("/")
    paths = []
    for name_length in (1, 2):  # the name of a model of the hub has one slash
        name, stem = "/".join(parts[:name_length]), "/".join(parts[name_length:])
        if stem and ".." not in parts:
            paths.append(runs_folder / results_folder_name(name) / "results" / f"{stem}.json")
    return [path for path in paths if path.is_file()]


def _results_below(folder: Path) -> tuple[Path, ...]:
    """The result files of a run's folder (those in its `results`), or all below any other folder; published copies left out."""
    search_folder = folder / "results" if (folder / "results").is_dir() else folder
    return tuple(
        sorted(
            path
            for path in search_folder.rglob("*.json")
            if not _is_published_copy(path, search_folder) and reading.is_result_file(path)
        )
    )


def _is_published_copy(path: Path, search_folder: Path) -> bool:
    """Whether a file below a folder lies in the `published` of a run."""
    return any(
        parent.name == PUBLISHED_FOLDER_NAME and (parent.parent / "results").is_dir()
        for parent in path.parents
        if parent.is_relative_to(search_folder) and parent != search_folder
    )


def _is_replaced(path: Path) -> bool:
    """Whether a result made room for the one that now has its name."""
    match = _REPLACED_STEM_PATTERN.fullmatch(path.stem)
    return match is not None and path.with_name(f"{match[1]}{path.suffix}").is_file()


def _unknown_word_error(text: str, path: Path, runs_folder: Path) -> UserError:
    """The error of a word that names nothing: the nearest names, and which there are."""
    names = run_names(runs_folder)
    if text.endswith(".json") or path.parent.is_dir() and path.parent != Path("."):
        neighbours = [entry.name for entry in path.parent.glob("*") if entry.is_dir() or entry.suffix == ".json"]
        prefix = "" if path.parent == Path(".") else f"{path.parent}{os.sep}"
        hint = spelling_hint(path.name, neighbours, n=2, prefix=prefix)
        return UserError("no such file" if text.endswith(".json") else "no such file or folder", where=text, hint=hint)
    local_names = [entry.name for entry in Path().glob("*") if entry.is_dir() or entry.suffix == ".json"]
    hint = spelling_hint(text, [*names, *(name for name in local_names if not name.startswith("."))], n=2)
    names_text = join_names(names, _MAX_NAMES_IN_HINT)
    known_names = f"runs in {runs_folder}: {names_text}" if names else f"no run in {runs_folder} has results"
    return UserError("no such run, folder or file", where=text, hint="; ".join(filter(None, (hint, known_names))))
