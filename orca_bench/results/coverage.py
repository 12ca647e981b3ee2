"""A result and the places in it that were recomputed in, the names of all other fields out.

`verify` must not seem to know more than it does: what a model, a machine or a clock decided cannot be computed again, and is
held by the hash of the whole result alone. Its own module because it does not depend on how a field is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orca_bench.results.models import Result

#: The keys that lead to a part of a result, list numbers among them as text.
FieldPath = tuple[str, ...]
#: Of these parts a field is named with `*` for the task, and with this many steps.
_NAME_STEPS_OF_TASK_PARTS = {"tasks": 3, "data_hashes": 3, "lm_eval": 4}
_NAME_STEPS_OF_OTHER_PARTS = {"versions": 1}


def fields_not_recomputed(result: Result, recomputed_paths: Iterable[FieldPath]) -> list[str]:
    """The fields that lie at none of the places and below none of them, in the order of the file, each once."""
    recomputed_path_set = set(recomputed_paths)
    field_names = [
        field_name(field_path)
        for field_path in leaf_paths(result.file_content)
        if not any(field_path[:path_length] in recomputed_path_set for path_length in range(1, len(field_path) + 1))
    ]
    return list(dict.fromkeys(field_names))


def leaf_paths(json_value: Any, field_path: FieldPath = ()) -> Iterator[FieldPath]:
    """The place of everything in a tree of JSON that holds nothing else; an empty list is nothing."""
    if isinstance(json_value, list):
        child_by_key = [(str(index), child) for index, child in enumerate(json_value)]
    elif isinstance(json_value, dict) and json_value:
        child_by_key = list(json_value.items())
    else:
        yield field_path
        return
    for key, child in child_by_key:
        yield from leaf_paths(child, (*field_path, key))


def field_name(field_path: FieldPath) -> str:
    """How a field is called: `tasks.*.seconds`, `model.path`, `versions`."""
    if field_path[0] in _NAME_STEPS_OF_TASK_PARTS:
        field_path = (field_path[0], "*", *field_path[2:])
    return ".".join(
        field_path[: _NAME_STEPS_OF_TASK_PARTS.get(field_path[0], _NAME_STEPS_OF_OTHER_PARTS.get(field_path[0], 2))]
    )
