"""What a user types for a model in, its folder, file or hub id out: a run's name or folder stands for its model.

`mini` is the model of the run `mini` below the folder of runs, `mini/step-100` one of its exports; anything else is a path (of a
folder or a GGUF file) or an id of the hub. Its own module because the commands, the Python interface and `requests` take the
same words. Nothing is fetched here and no weights are read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orca_bench import hub
from orca_bench.errors import UserError, join_names, spelling_hint
from orca_bench.models.model_names import ambiguity_note, is_another, is_path_text, results_folder_name

_MAX_NAMES_IN_HINT = 8


@dataclass(frozen=True)
class NamedModel:
    """The folder, GGUF file or hub id that a word names; `note` is what the user should know of how the word was understood."""

    folder_or_id: str
    note: str | None = None


def look_up_model(word: str | Path, runs_folder: Path) -> NamedModel:
    """The model of a run's name, a run's folder, a model folder, a GGUF file or a hub id.

    A run with a model stands before a folder of that name in the working directory, and the note says so; a path (`./mini`,
    `mini/`, a Path) is never a run's name. Raises UserError for a run that has no model, and for a single word that names no
    run and nothing here.
    """
    text, path = str(word), Path(word)
    is_path = isinstance(word, Path) or is_path_text(text)
    model_folder = None if is_path else _model_of_run(text, runs_folder)
    if model_folder is not None:
        export_folder = _export_of_run(text, runs_folder)
        is_export = export_folder == model_folder
        named_folder = model_folder if is_export else model_folder.parent
        alternatives = [f"./{text} for what is here"] if is_another(path, named_folder) else []
        alternatives += [f"{export_folder} for that export"] if export_folder and not is_export else []
        meaning = f"the {'export' if is_export else 'run'} {named_folder}"
        return NamedModel(str(model_folder), ambiguity_note(text, meaning, alternatives))
    if path.is_dir():
        if not (path / "config.json").is_file() and (path / "model" / "config.json").is_file():
            return NamedModel(os.path.join(text, "model"))
        _check_is_no_unfinished_run(path)
    elif not is_path and not path.exists() and text.strip():
        _check_is_no_unfinished_run(runs_folder / results_folder_name(text))
        if "/" not in text and not text.endswith(".gguf") and not hub.is_hub_id(text):
            names = sorted(folder.parent.name for folder in runs_folder.glob("*/model") if folder.is_dir())
            names_text = join_names(names, _MAX_NAMES_IN_HINT)
            known_names = f"runs with a model: {names_text}" if names else f"no run in {runs_folder} has a model"
            hints = [spelling_hint(text, names), known_names, "OWNER/NAME is a model of the hub"]
            raise UserError("no such run or model folder", where=text, hint="; ".join(filter(None, hints)))
    return NamedModel(text)


def _model_of_run(text: str, runs_folder: Path) -> Path | None:
    """The model folder of the run NAME, or of its export for NAME/step-N; None where there is none."""
    run_folder = runs_folder / results_folder_name(text)
    if (run_folder / "model").is_dir():
        return run_folder / "model"
    return _export_of_run(text, runs_folder)


def _export_of_run(text: str, runs_folder: Path) -> Path | None:
    """The model folder of NAME/step-N, an export of the run NAME; None where there is none."""
    name, slash, export_name = text.rpartition("/")
    export_folder = runs_folder / results_folder_name(name) / "exports" / export_name
    return export_folder if slash and name and ".." not in text and export_folder.is_dir() else None


def _check_is_no_unfinished_run(folder: Path) -> None:
    """Raise UserError for the folder of a run whose training has left no model yet."""
    if (folder / "recipe.yaml").is_file() and (folder / "manifest.json").is_file() and not (folder / "model").exists():
        raise UserError("this run has no model yet", where=folder, hint="orca-bench train with its recipe continues it")
