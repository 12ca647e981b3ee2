"""What an evaluation is configured to do in, the name of its result's file out, so that other settings get other files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from orca_bench.evaluate import protocols
from orca_bench.evaluate.protocols import FEW_SHOT_NAMES, default_system_text
from orca_bench.models import model_names
from orca_bench.models.model_folder import ModelFolder
from orca_bench.question_limit import QuestionLimit
from orca_bench.system_messages import system_id_of


def default_result_path(
    model_name: str,
    model_folder: ModelFolder,
    runs_folder: Path,
    protocol_name: str,
    question_limit: QuestionLimit,
    system_text: str | None,
    max_new_tokens_by_task: Mapping[str, int],
    few_shot: str = FEW_SHOT_NAMES[0],
) -> Path:
    """Where the result of a model of this name goes unless said otherwise: a file of `results_folder`."""
    file_stem = result_stem(protocol_name, question_limit, system_text, max_new_tokens_by_task, few_shot)
    return results_folder(model_name, model_folder, runs_folder) / f"{file_stem}.json"


def results_folder(model_name: str, model_folder: ModelFolder, runs_folder: Path) -> Path:
    """Where all results of a model of this name go unless said otherwise: in its run, or in a folder below `runs_folder`."""
    run_folder = model_folder.run_folder
    if run_folder is None or model_name != model_folder.name:
        return runs_folder / model_names.results_folder_name(model_name) / "results"
    resolved_model_path = Path(model_folder.path).resolve()
    folder = Path(os.path.relpath(run_folder)) / "results"
    return folder if resolved_model_path.parent == run_folder else folder / resolved_model_path.name


def result_stem(
    protocol_name: str,
    question_limit: QuestionLimit,
    system_text: str | None,
    max_new_tokens_by_task: Mapping[str, int],
    few_shot: str = FEW_SHOT_NAMES[0],
) -> str:
    """The name of a result's file without its ending: the protocol, and what an option changed of it."""
    file_stem = protocol_name
    if (
        system_text is not None
        and protocol_name in ("orca", "chat")
        and system_text != default_system_text(protocol_name)
    ):
        system_message_id = system_id_of(system_text)
        file_stem += (
            f"-system{system_message_id}"
            if system_message_id
            else f"-system-{hashlib.sha256(system_text.encode('utf-8', 'replace')).hexdigest()[:8]}"
        )
    if few_shot != FEW_SHOT_NAMES[0]:
        file_stem += f"-{few_shot}"
    default_token_limits = protocols.default_token_limits(protocol_name)
    file_stem += "".join(
        f"-{task_name}-room{max_new_tokens}"
        for task_name, max_new_tokens in sorted(max_new_tokens_by_task.items())
        if max_new_tokens != default_token_limits.get(task_name)
    )
    return file_stem + question_limit.file_suffix
