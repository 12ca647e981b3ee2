"""Results of one word in, those of a part of the questions (`eval --limit`) out that a full result there makes needless.

A first try with `--limit 5` stays in the run's folder beside the full result that follows. Its own module because every report
that takes all results of a run or folder leaves out the same ones, and says so in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orca_bench.errors import UserError, join_names
from orca_bench.models.model_identity import differing_parts
from orca_bench.question_limit import QuestionLimit
from orca_bench.results import reading
from orca_bench.results.models import ModelDescription, Result
from orca_bench.results.result_lookup import NamedResults, result_name

#: The parts of a model's identity that say how it was computed, not which model it is.
_PARTS_OF_THE_ENGINE = frozenset({"device", "engine"})
_MAX_NAMES_IN_NOTE = 8


def limits_beside_full(result_by_path: Mapping[Path, Result]) -> dict[Path, QuestionLimit]:
    """The limits of the results that stand aside, by path.

    These are the limited ones beside which there is a full one of the same model, suite and protocol (its system message
    included) that has all their tasks.
    """
    full_results = [result for result in result_by_path.values() if not result.question_limit]
    return {
        path: result.question_limit
        for path, result in result_by_path.items()
        if result.question_limit and any(_is_covered(result, full_result) for full_result in full_results)
    }


def main_paths_without_limited(
    named_results: Sequence[NamedResults], runs_folder: Path
) -> tuple[list[Path], list[str]]:
    """The main files of what some words name, each once, without those that stand aside; and the note that names these.

    A file that cannot be read stays: what reads it next says why.
    """
    explicit_paths = {path for named in named_results if named.folder is None for path in named.main_paths}
    limit_by_path: dict[Path, QuestionLimit] = {}
    for named in named_results:
        if named.folder is not None and len(named.main_paths) > 1:
            limit_by_path |= limits_beside_full(_readable_results(named.main_paths))
    limit_by_path = {path: limit for path, limit in limit_by_path.items() if path not in explicit_paths}
    paths = dict.fromkeys(path for named in named_results for path in named.main_paths if path not in limit_by_path)
    return list(paths), limited_results_notes(limit_by_path, runs_folder)


def limited_results_notes(limit_by_path: Mapping[Path, QuestionLimit], runs_folder: Path) -> list[str]:
    """The note that names the results which stand aside, and how each is seen; no note where there is none."""
    if not limit_by_path:
        return []
    names = [f"{result_name(path, runs_folder)} ({limit.phrase})" for path, limit in limit_by_path.items()]
    if len(names) == 1:
        return [f"left out {names[0]}; name it to see it"]
    return [f"left out {join_names(names, _MAX_NAMES_IN_NOTE)}; name one to see it"]


def _readable_results(paths: Sequence[Path]) -> dict[Path, Result]:
    result_by_path = {}
    for path in paths:
        try:
            result_by_path[path] = reading.read_result(path)
        except UserError:
            continue
    return result_by_path


def _is_covered(limited_result: Result, full_result: Result) -> bool:
    """Whether a full result has all that a limited one has, of more questions."""
    return (
        limited_result.suite.name == full_result.suite.name
        and set(limited_result.tasks) <= set(full_result.tasks)
        and (limited_result.answers is None) == (full_result.answers is None)
        and _is_same_model(limited_result.model, full_result.model)
        and not limited_result.protocol.differing_keys(full_result.protocol, limited_result.tasks)
    )


def _is_same_model(model: ModelDescription, other_model: ModelDescription) -> bool:
    if (model.name, model.dtype, model.bits) != (other_model.name, other_model.dtype, other_model.bits):
        return False
    if model.identity and other_model.identity:
        return set(differing_parts(model.identity, other_model.identity)) <= _PARTS_OF_THE_ENGINE
    facts = (model.fingerprint, model.tokenizer_sha256, model.run, model.step)
    return facts == (other_model.fingerprint, other_model.tokenizer_sha256, other_model.run, other_model.step)
