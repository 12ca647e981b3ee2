"""What an evaluation is configured to do in, the name of its result's file out, so that other settings get other files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from orca_bench.evaluate import protocols
from orca_bench.models import model_names
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES, id_of


def default_result_path(
    name: str,
    folder: str,
    runs: Path,
    protocol: str,
    limit: int | None,
    system: str,
    max_new_tokens: Mapping[str, int],
) -> Path:
    """Where the result of a model of this name goes unless said otherwise: into its run, or into a folder below `runs`."""
    stem, run_folder = result_stem(protocol, limit, system, max_new_tokens), model_names.run_of(folder)
    if run_folder is None or name != model_names.name_of(folder):
        return runs / model_names.folder_name(name) / "results" / f"{stem}.json"
    model_path = Path(folder).resolve()
    results_folder = Path(os.path.relpath(run_folder)) / "results"
    return (results_folder if model_path.parent == run_folder else results_folder / model_path.name) / f"{stem}.json"


def result_stem(protocol: str, limit: int | None, system: str, max_new_tokens: Mapping[str, int]) -> str:
    """The name of a result's file without its ending: the protocol, and what an option changed of it."""
    stem = protocol
    if protocol == "orca" and system != SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]:
        message_id = id_of(system)
        stem += (
            f"-system{message_id}"
            if message_id
            else f"-system-{hashlib.sha256(system.encode('utf-8', 'replace')).hexdigest()[:8]}"
        )
    default_limits = protocols.default_limits(protocol)
    stem += "".join(
        f"-{task}-room{tokens}" for task, tokens in sorted(max_new_tokens.items()) if tokens != default_limits[task]
    )
    return stem if limit is None else f"{stem}-limit{limit}"
