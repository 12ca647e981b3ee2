"""Names such as `mini:records` in, the embedded default's files out: for recipes and for benchmark folders.

The files are written below the runs folder when a name is resolved. Its own module because the recipe's part imports the
recipe, and the files themselves need none.
"""

from __future__ import annotations

import os
from pathlib import Path

from orca_bench.errors import UserError, Where
from orca_bench.mini.embedded_files import FOLDER_NAME, materialize
from orca_bench.recipe import Recipe

#: How the name of an embedded file begins. Alone, it names the embedded benchmark rows.
EMBEDDED_NAME_PREFIX = "mini:"
EMBEDDED_BENCHMARKS = Path(EMBEDDED_NAME_PREFIX)


def resolve_recipe(recipe: Recipe, runs_folder: Path, where: Where) -> Recipe:
    """The recipe with paths in place of `mini:` names.

    `runs_folder` is the folder below which the files are written, `where` names the recipe in errors. Raises UserError for a name
    that is no embedded file.
    """
    tokenizer, records, benchmarks = recipe.model.tokenizer, recipe.data.records, recipe.data.benchmarks
    names = [*filter(None, (tokenizer, benchmarks)), *records]
    if not any(name.startswith(EMBEDDED_NAME_PREFIX) for name in names):
        return recipe

    def resolve(name: str) -> str:
        return str(resolve_path(Path(name), runs_folder, where)) if name.startswith(EMBEDDED_NAME_PREFIX) else name

    model = recipe.model.model_copy(update={"tokenizer": None if tokenizer is None else resolve(tokenizer)})
    data = recipe.data.model_copy(update={"records": [resolve(name) for name in records]})
    if benchmarks is not None:
        data = data.model_copy(update={"benchmarks": resolve(benchmarks)})
    return recipe.model_copy(update={"model": model, "data": data})


def resolve_path(path: Path, runs_folder: Path, where: Where) -> Path:
    """The path itself, or that of the embedded file which it names; written below `runs_folder` where it is absent.

    `mini:` alone is the folder of benchmark rows. `where` names an option or a recipe in the UserError for an unknown name.
    """
    if not str(path).startswith(EMBEDDED_NAME_PREFIX):
        return path
    path_by_name = materialize(runs_folder)
    name = "mini:benchmarks" if path == EMBEDDED_BENCHMARKS else str(path)
    if name not in path_by_name:
        raise UserError(f"'{name}' is not an embedded file", where=where, hint=f"there are {', '.join(path_by_name)}")
    return path_by_name[name]


def is_embedded_file(path: Path, runs_folder: Path) -> bool:
    """Whether a path is one that `resolve_recipe` has put in place of a `mini:` name, or another spelling of it."""
    return os.path.realpath(path.parent) == os.path.realpath(runs_folder / FOLDER_NAME)


def resolve_benchmarks(benchmarks_option: Path | None, runs_folder: Path) -> Path | None:
    """The folder of benchmark rows of an option: `mini:` is written below `runs_folder`; None, for the hub, stays None."""
    if benchmarks_option is None or benchmarks_option != EMBEDDED_BENCHMARKS:
        return benchmarks_option
    return materialize(runs_folder)["mini:benchmarks"]
