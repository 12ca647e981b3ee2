"""A recipe in, the same recipe with folders of this machine in place of hub ids out, and the commits that those are.

The recipe of a run keeps the ids; its manifest keeps the commits, and a continued run uses the same ones, even if a branch of
the hub has moved. Its own module because the command and every training process need it.
"""

from __future__ import annotations

from collections.abc import Mapping

from orca_bench import hub
from orca_bench.errors import UserError
from orca_bench.models.model_folder import locate_model
from orca_bench.recipe import Recipe


def resolve_recipe_sources(
    recipe: Recipe,
    known_commit_by_key: Mapping[str, str],
    show_message: hub.ShowMessage = lambda line: None,
    with_weights: bool = True,
) -> tuple[Recipe, dict[str, str]]:
    """(the recipe with local paths, the commits of what came from the hub by key: `model.base`, `model.tokenizer`).

    `known_commit_by_key` are those that a run has already, which go before the recipe's revisions. Without weights only the
    small files of the base are fetched. Raises UserError where the hub does not give one, and for a revision of nothing.
    """
    model = recipe.model
    if model.revision is not None and model.base is None:
        raise UserError("a revision of what? there is no model.base", where="model.revision")
    if model.tokenizer_revision is not None and model.tokenizer is None:
        raise UserError("a revision of what? there is no model.tokenizer", where="model.tokenizer_revision")
    local_path_by_key: dict[str, str] = {}
    resolved_commit_by_key: dict[str, str] = {}
    for recipe_key, path_or_hub_id, revision, needs_weights, revision_key in (
        ("base", model.base, model.revision, with_weights, "model.revision"),
        ("tokenizer", model.tokenizer, model.tokenizer_revision, False, "model.tokenizer_revision"),
    ):
        if path_or_hub_id is None:
            continue
        folder = locate_model(
            path_or_hub_id,
            known_commit_by_key.get(f"model.{recipe_key}") or revision,
            show_message,
            needs_weights,
            revision_key,
        )
        local_path_by_key[recipe_key] = folder.path
        if folder.commit is not None:
            resolved_commit_by_key[f"model.{recipe_key}"] = folder.commit.commit_sha
    return recipe.model_copy(update={"model": model.model_copy(update=local_path_by_key)}), resolved_commit_by_key
