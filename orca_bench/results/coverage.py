"""A result and the places in it that were recomputed in, the names of all other fields out.

`verify` must not seem to know more than it does: what a model, a machine or a clock decided cannot be computed again, and is
held by the hash of the whole result alone. Its own module because it does not depend on how a field is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orca_bench.results.models import Result

#: The keys that lead to a part of a result, list numbers among them as text.
Place = tuple[str, ...]
#: Of these parts a field is named with `*` for the task, and with this many steps.
_BY_TASK = {"tasks": 3, "data_hashes": 3, "lm_eval": 4}
_STEPS = {"versions": 1}


def uncovered(result: Result, covered: Iterable[Place]) -> list[str]:
    """The fields that lie at none of the places and below none of them, in the order of the file, each once."""
    places = set(covered)
    names = [
        name_of(place)
        for place in leaves(result.file_content)
        if not any(place[:end] in places for end in range(1, len(place) + 1))
    ]
    return list(dict.fromkeys(names))


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """The place of everything in a tree of JSON that holds nothing else; an empty list is nothing."""
    if isinstance(value, list):
        children = [(str(index), child) for index, child in enumerate(value)]
    elif isinstance(value, dict) and value:
        children = list(value.items())
    else:
        yield place
        return
    for key, child in children:
        yield from leaves(child, (*place, key))


def name_of(place: Place) -> str:
    """How a field is called: `tasks.*.seconds`, `model.path`, `versions`."""
    if place[0] in _BY_TASK:
        place = (place[0], "*", *place[2:])
    return ".".join(place[: _BY_TASK.get(place[0], _STEPS.get(place[0], 2))])
