"""What a training depends on in each of a launcher's processes in, an error out where they differ.

Each process puts its versions and its recipe into the launcher's store. Rank 0 compares them with its own and puts the answer
there, so that every process ends with the same line. A process that never comes is named too. Its own module because it needs a
store and nothing of a run.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from orca_bench import __version__
from orca_bench.errors import UserError, join_names
from orca_bench.recipe import Recipe, values_by_key
from orca_bench.train.run_folder import checkout_revision

if TYPE_CHECKING:
    from torch.distributed import Store

_COMPARED_LIBRARIES = ("torch", "deepspeed", "transformers")
_NOTICE_S = 20.0  # after which rank 0 says which processes it waits for
_READ_TIMEOUT_S = (
    10.0  # in which the others read why they are refused, before rank 0 ends, and the store perhaps with it
)
_POLL_INTERVAL_S = 0.1
_MAX_NAMES = 8  # ranks and differences that a message names
_FACTS_KEY, _REFUSAL_KEY, _READER_COUNT_KEY = "facts_of_rank_{}", "refusal", "refusal_readers"


def own_facts(recipe: Recipe) -> dict[str, str]:
    """What must be the same in all processes, by name: versions, the kind of device, the keys of the recipe."""
    import torch

    revision = checkout_revision()
    facts = {"orca-bench": f"{__version__} ({revision})" if revision else __version__}
    facts["Python"] = ".".join(platform.python_version_tuple()[:2])
    facts |= {name: importlib.metadata.version(name) for name in _COMPARED_LIBRARIES}
    facts["the device"] = "a GPU" if torch.cuda.is_available() else "the CPU"
    return facts | {key: repr(value) for key, value in values_by_key(recipe).items()}


def check_same_in_all(
    store: Store,
    rank: int,
    world_size: int,
    host: str,
    facts: Mapping[str, str],
    timeout: timedelta,
    show_message: Callable[[str], None],
) -> None:
    """Wait until all processes have come, and compare their facts with those of rank 0. All processes call it.

    Raises UserError, the same in all processes, where facts differ or a process has not come within `timeout`.
    """
    store.set(_FACTS_KEY.format(rank), json.dumps({"host": host, "facts": dict(facts)}))
    if rank == 0:
        refusal = _refusal(store, world_size, host, facts, timeout, show_message)
        store.set(_REFUSAL_KEY, refusal)
        if refusal:
            _wait_for_readers(store, world_size)
    else:
        try:
            store.wait([_REFUSAL_KEY], 2 * timeout)
            refusal = store.get(_REFUSAL_KEY).decode()
            store.add(_READER_COUNT_KEY, 1)
        except RuntimeError as error:  # torch's DistStoreError and DistNetworkError
            raise UserError(f"rank 0 has ended, or cannot be reached ({error})", where="MASTER_ADDR") from error
    if refusal:
        raise UserError(refusal)


def _refusal(
    store: Store,
    world_size: int,
    host: str,
    facts: Mapping[str, str],
    timeout: timedelta,
    show_message: Callable[[str], None],
) -> str:
    """Why rank 0 refuses to train with the others; empty where all have come and none differs."""
    missing_ranks = _wait_for_all(store, world_size, timeout, show_message)
    if missing_ranks:
        return (
            f"{_ranks_text(missing_ranks)} of {world_size} did not come within {timeout.total_seconds():.0f} s; start the same "
            f"command on every machine, and see whether each reaches {host} (ranks count the machines in the launcher's order)"
        )
    for other_rank in range(1, world_size):
        entry = json.loads(store.get(_FACTS_KEY.format(other_rank)))
        differences = [
            f"{name} {entry['facts'].get(name, 'missing')} (rank 0: {facts.get(name, 'missing')})"
            for name in facts | entry["facts"]
            if facts.get(name) != entry["facts"].get(name)
        ]
        if differences:
            return (
                f"rank {other_rank} on {entry['host']} differs from rank 0 on {host}: {join_names(differences, _MAX_NAMES)}; "
                "all machines need the same versions and the same recipe"
            )
    return ""


def _wait_for_all(store: Store, world_size: int, timeout: timedelta, show_message: Callable[[str], None]) -> list[int]:
    """Wait for the facts of all ranks; returns the ranks that have given none when the time is over."""
    start_s, is_noticed, missing_ranks = time.monotonic(), False, list(range(1, world_size))
    while missing_ranks := [rank for rank in missing_ranks if not store.check([_FACTS_KEY.format(rank)])]:
        waited_s = time.monotonic() - start_s
        if waited_s > timeout.total_seconds():
            break
        if waited_s > _NOTICE_S and not is_noticed:
            is_noticed = True
            show_message(
                f"waiting for {_ranks_text(missing_ranks)} of {world_size}, {timeout.total_seconds():.0f} s at most"
            )
        time.sleep(_POLL_INTERVAL_S)
    return missing_ranks


def _ranks_text(ranks: list[int]) -> str:
    return f"rank{'' if len(ranks) == 1 else 's'} {join_names([*map(str, ranks)], _MAX_NAMES)}"


def _wait_for_readers(store: Store, world_size: int) -> None:
    deadline_s = time.monotonic() + _READ_TIMEOUT_S
    while store.add(_READER_COUNT_KEY, 0) < world_size - 1 and time.monotonic() < deadline_s:
        time.sleep(_POLL_INTERVAL_S)
