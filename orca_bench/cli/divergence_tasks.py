"""Models that are measured beside a reference in, the comparisons of their results on the tasks out.

Results are looked up where `eval` writes those of a model of this name, and only those of the very model are compared: same
weights, tokenizer and configuration. What cannot be compared is a note and no error, because the measurement stands without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.cli.comparison_work import compare_groups
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from orca_bench.models.model_folder import ModelFolder
    from orca_bench.report.comparison import Comparison
    from orca_bench.results.result_lookup import NamedResults


def compare_tasks(
    reference: ModelFolder, models: Sequence[ModelFolder], runs_folder: Path
) -> tuple[list[Comparison], list[str]]:
    """The comparisons of the models' results with the reference's, protocol by protocol, and notes on what is not compared.

    There are none where one of the models has no results. Weights are read where all have some: it takes a load of each model.
    """
    from orca_bench.evaluate.result_names import results_folder
    from orca_bench.report.result_pairing import pair_results
    from orca_bench.results.result_lookup import look_up_results

    folders = (reference, *models)
    folders_of_results = [results_folder(folder.name, folder, runs_folder) for folder in folders]
    if not all(any(path.glob("*.json")) for path in folders_of_results):
        return [], []
    notes: list[str] = []
    try:
        base, *others = (
            _own_results(folder, look_up_results(path, runs_folder), notes)
            for folder, path in zip(folders, folders_of_results, strict=True)
        )
        if not all(named_results.paths for named_results in (base, *others)):
            return [], notes
        pairing = pair_results(base, others, runs_folder, equal_settings_only=True)
        comparisons, _ = compare_groups(pairing.groups)
    except UserError as error:
        return [], [*notes, f"results on the tasks are not compared: {error}"]
    return comparisons, [*notes, *pairing.notes]


def _own_results(folder: ModelFolder, named_results: NamedResults, notes: list[str]) -> NamedResults:
    """The results of a name that are of this very model; `notes` gets a line for each other one."""
    from orca_bench.evaluate.result_models import FolderIdentity
    from orca_bench.results import reading

    identity = FolderIdentity(folder)
    own_paths = []
    for path in named_results.main_paths:
        try:
            differing_parts = identity.differing_parts(reading.read_result(path).model)
        except UserError as error:
            notes.append(f"left out: {error}")
            continue
        if differing_parts:
            notes.append(
                f"left out: {path} is of another model than {folder.path_or_hub_id} (by {' and '.join(differing_parts)}), "
                "or does not say of which"
            )
        else:
            own_paths.append(path)
    return replace(named_results, paths=tuple(own_paths))
