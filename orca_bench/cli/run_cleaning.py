"""Folders of runs in, what can be removed from them out, and its removal: checkpoints from train, cached answers from evaluate.

Its own module because two rooms know what they no longer need, and only commands call both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench.disk_space import disk_bytes
from orca_bench.errors import UserError
from orca_bench.evaluate.answers import cache_files
from orca_bench.results.result_survey import has_unfinished_result
from orca_bench.train import run_survey


@dataclass(frozen=True)
class RemovableItem:
    """A checkpoint or a file of cached answers; `run_folder` is the run that it belongs to, `reason` why nothing needs it."""

    path: Path
    run_folder: Path
    byte_count: int
    reason: str
    is_checkpoint: bool


@dataclass
class CleaningPlan:
    """What can be removed, and notes on what is left alone and why."""

    items: list[RemovableItem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {
            "removable": [
                {"path": str(item.path), "bytes": item.byte_count, "reason": item.reason} for item in self.items
            ],
            "left_alone": self.notes,
        }


def plan_cleaning(run_folders: Sequence[Path]) -> CleaningPlan:
    """What can be removed from some runs. Nothing is changed."""
    plan = CleaningPlan()
    for folder in run_folders:
        if run_survey.is_being_trained(folder):
            plan.notes.append(f"{folder}: a process trains it")
        else:
            _plan_checkpoints(plan, folder)
        for path in cache_files.answer_caches(folder):
            _plan_answers(plan, folder, path)
    return plan


def remove(plan: CleaningPlan) -> tuple[list[RemovableItem], list[UserError]]:
    """Remove what a plan lists; returns what was removed, and an error for each run or file that meanwhile is in use."""
    removed_items, removal_errors = [], []
    for folder in dict.fromkeys(item.run_folder for item in plan.items if item.is_checkpoint):
        paths = [item.path for item in plan.items if item.is_checkpoint and item.run_folder == folder]
        try:
            removed_paths = run_survey.remove_checkpoints(folder, paths)
        except UserError as error:
            removal_errors.append(error)
            continue
        removed_items += [item for item in plan.items if item.path in removed_paths]
    for item in plan.items:
        if item.is_checkpoint:
            continue
        try:
            cache_files.remove_answer_cache(item.path)
        except UserError as error:
            removal_errors.append(error)
            continue
        removed_items.append(item)
    return removed_items, removal_errors


def _plan_checkpoints(plan: CleaningPlan, folder: Path) -> None:
    for checkpoint in run_survey.survey_checkpoints(folder):
        path, reason = checkpoint.path, checkpoint.reason
        if checkpoint.is_removable:
            plan.items.append(RemovableItem(path, folder, disk_bytes(path), reason, True))
        else:
            plan.notes.append(f"{path}: {reason}")


def _plan_answers(plan: CleaningPlan, folder: Path, path: Path) -> None:
    if cache_files.is_in_use(path):
        plan.notes.append(f"{path}: an evaluation is writing it")
    elif cache_files.has_unfinished_evaluation(path) or has_unfinished_result(path.parent):
        plan.notes.append(f"{path}: an unfinished evaluation continues from it")
    else:
        byte_count = cache_files.answer_cache_bytes(path)
        plan.items.append(RemovableItem(path, folder, byte_count, "its evaluations are finished", False))
