"""Paths of results and of folders in, results with headings out; a broken result in a folder is left out and named.

A result that is named itself must be readable, so that no report silently lacks it; where a folder is searched, one broken file
does not hide the others. Its own module because `table`, `plot` and `page` select results alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.results import reading
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile


@dataclass(frozen=True)
class Selection:
    """Results with headings; `skipped_errors` has the error of each result in a folder that cannot be read.

    `explicit_paths` are the paths that the user named, not found in a folder.
    """

    results: list[ResultFile]
    skipped_errors: list[UserError]
    explicit_paths: frozenset[Path]

    @property
    def notes(self) -> list[str]:
        """A line for each result that was left out."""
        return [f"left out: {error}" for error in self.skipped_errors]

    def with_questions(self, required: bool = True) -> Selection:
        """The same results with their questions; where these are not `required`, a result may lack its file of questions.

        Raises UserError where the questions of a named result cannot be read, and where no result remains.
        """

        def load(path: Path) -> ResultFile:
            has_questions = reading.questions_path_for(path).is_file()
            return reading.read_with_questions(path) if required or has_questions else _read_without_questions(path)

        return _select([result.path for result in self.results], load, self.skipped_errors, self.explicit_paths)


def select_results(paths: Sequence[Path]) -> Selection:
    """The results that are named, and all those below the folders that are named; without their questions.

    Raises UserError for a named result that cannot be read, for a folder without results, and where no result remains.
    """
    explicit_paths = frozenset(path for path in paths if not path.is_dir())
    return _select(reading.find_result_files(paths), _read_without_questions, [], explicit_paths)


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
        limits = [result.limit for result in results]
        labels = [f"{label} n≤{limit}" if limit else label for label, limit in zip(labels, limits, strict=True)]
    return labels if len(set(labels)) == len(labels) else [f"{i}: {label}" for i, label in enumerate(labels, 1)]


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
    labels = result_labels([result_file.result for result_file in results])
    return Selection(
        [replace(result_file, label=label) for result_file, label in zip(results, labels, strict=True)],
        errors,
        explicit_paths,
    )
