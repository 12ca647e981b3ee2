"""Words for results in (a run, a folder, a file), results with headings out; a broken result in a folder is left out and named.

A result that is named itself must be readable, so that no report silently lacks it; where a folder is searched, one broken file
does not hide the others. Its own module because `table`, `plot`, `page` and `publish` select results alike; what a word may be
is decided in results/result_lookup.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.question_limit import QuestionLimit
from orca_bench.results import reading
from orca_bench.results.limited_results import limited_results_notes, limits_beside_full
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.results.result_lookup import NamedResults, look_up_results


@dataclass(frozen=True)
class Selection:
    """Results with headings; `skipped_errors` has the error of each result in a folder that cannot be read.

    `explicit_paths` are those of the results that the user named one by one. `word_notes` say how a word was understood that
    could have meant something else. `limited_notes` name the limited results that stand aside for full ones.
    """

    results: list[ResultFile]
    skipped_errors: list[UserError]
    explicit_paths: frozenset[Path]
    word_notes: tuple[str, ...] = ()
    limited_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """A line for each word that could have meant something else, and for each result that was left out."""
        return [*self.word_notes, *self.limited_notes, *(f"left out: {error}" for error in self.skipped_errors)]

    @property
    def paths(self) -> list[Path]:
        """The files of the results."""
        return [result_file.path for result_file in self.results]

    def with_questions(self, required: bool = True) -> Selection:
        """The same results with their questions; where these are not `required`, a result may lack its file of questions.

        Raises UserError where the questions of a named result cannot be read, and where no result remains.
        """

        def load(path: Path) -> ResultFile:
            is_read_whole = required or reading.has_questions(path)
            return reading.read_with_questions(path) if is_read_whole else _read_without_questions(path)

        selection = _select(self.paths, load, self.skipped_errors, self.explicit_paths)
        return replace(selection, word_notes=self.word_notes, limited_notes=self.limited_notes)


def select_results(words: Sequence[str | Path], runs_folder: Path = Path("runs")) -> Selection:
    """The results that runs' names, folders and files name, each once; without their questions.

    A limited result of a run or folder stands aside for a full one there (results/limited_results.py); a note names it.
    A `Path` is never a run's name. Raises UserError for a word that names nothing, for a named result that cannot be read,
    for a folder without results, and where no result remains.
    """
    named_results = [look_up_results(word, runs_folder) for word in words]
    paths = list(dict.fromkeys(path for named in named_results for path in named.paths))
    explicit_paths = frozenset(path for named in named_results if named.folder is None for path in named.paths)
    selection = _select(paths, _read_without_questions, [], explicit_paths)
    limit_by_path = _limits_beside_full(selection, named_results)
    if limit_by_path:
        remaining_files = [file for file in selection.results if file.path not in limit_by_path]
        selection = replace(selection, results=_with_labels(remaining_files))
    return replace(
        selection,
        word_notes=tuple(named.note for named in named_results if named.note is not None),
        limited_notes=tuple(limited_results_notes(limit_by_path, runs_folder)),
    )


def result_labels(results: Sequence[Result]) -> list[str]:
    """A short heading for each result: the models' names, with protocol and limit where names are the same.

    Results of one model under different protocols are headed by the protocol alone.
    """
    model_names = [result.model.name for result in results]
    if len(set(model_names)) == len(model_names):
        return model_names
    protocols = [result.protocol.name for result in results]
    if len(set(model_names)) == 1 and len(set(protocols)) == len(protocols):
        return list(protocols)
    labels = [f"{result.model.name} {result.protocol.name}" for result in results]
    if len(set(labels)) < len(labels):
        labels = [f"{label} {_short_limit(result)}".rstrip() for label, result in zip(labels, results, strict=True)]
    return labels if len(set(labels)) == len(labels) else [f"{i}: {label}" for i, label in enumerate(labels, 1)]


def _short_limit(result: Result) -> str:
    limit = result.question_limit
    return f"n≤{limit.count}" if limit.count is not None else " ".join(limit.option_texts)


def _limits_beside_full(selection: Selection, named_results: Sequence[NamedResults]) -> dict[Path, QuestionLimit]:
    """The limits of the results that stand aside for a full one of the same word, by path; none that is named itself."""
    result_by_path = {file.path: file.result for file in selection.results}
    limit_by_path: dict[Path, QuestionLimit] = {}
    for named in named_results:
        limit_by_path |= limits_beside_full(
            {path: result_by_path[path] for path in named.paths if path in result_by_path}
        )
    return {path: limit for path, limit in limit_by_path.items() if path not in selection.explicit_paths}


def _with_labels(result_files: Sequence[ResultFile]) -> list[ResultFile]:
    labels = result_labels([result_file.result for result_file in result_files])
    return [replace(result_file, label=label) for result_file, label in zip(result_files, labels, strict=True)]


def _read_without_questions(path: Path) -> ResultFile:
    return ResultFile(path, "", reading.read_result(path))


def _select(
    paths: Sequence[Path],
    load: Callable[[Path], ResultFile],
    skipped_errors: Sequence[UserError],
    explicit_paths: frozenset[Path],
) -> Selection:
    results, errors = [], list(skipped_errors)
    for path in paths:
        try:
            results.append(load(path))
        except UserError as error:
            if path in explicit_paths:
                raise
            errors.append(error)
    if not results and errors:
        raise errors[0]
    return Selection(_with_labels(results), errors, explicit_paths)
