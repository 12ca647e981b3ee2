"""A model folder or hub id in; the name of the model in results, files and tables out.

Its own module because commands need the name before anything is loaded, and two models must not get one name by accident:
`…/v1/hf` and `…/v2/hf` are v1-hf and v2-hf.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from orca_bench.errors import UserError, Where
from orca_bench.hub import Commit

#: Names of folders that say what is in them and not which model it is; the folder above them is named too.
_GENERIC_NAME_PATTERN = re.compile(
    r"model|hf|huggingface|final|best|last|latest|merged|outputs?|out|exports?|exported|weights|snapshots?|safetensors|pytorch"
    r"|fp(16|32)|bf16|b?float(16|32)|v?\d+(\.\d+)*b?|(checkpoint|ckpt|step|epoch|global_step)[-_]?\d*|[0-9a-f]{40}",
    re.IGNORECASE,
)
#: The hub's cache: models--OWNER--NAME/snapshots/COMMIT.
_HUB_CACHE_PATTERN = re.compile(r"models--(.+?)--(.+)")
_MAX_NAME_BYTES = 120  # bytes; file systems take 255 of one name
_MODEL_NAME_PATTERN = re.compile(r"[\w][\w.@+/ -]*")


def model_name_of(folder: str, commit: Commit | None = None) -> str:
    """A name for a model: the id and, where one was given, the revision of one from the hub; else a name by its folder.

    A run's model is named after the run (NAME for NAME/model, NAME-step-N for NAME/exports/step-N), a folder with a generic name
    after the folders above it as well.
    """
    if commit is not None:
        return commit.repository_id if commit.revision is None else f"{commit.repository_id}@{commit.revision}"
    path = Path(folder).resolve()
    if run_folder := run_folder_of_model(folder):
        return run_folder.name if path.parent == run_folder else f"{run_folder.name}-{path.name}"
    cache_match = _HUB_CACHE_PATTERN.fullmatch(path.parents[1].name) if len(path.parents) > 1 else None
    if cache_match:
        return f"{cache_match[1]}/{cache_match[2]}@{path.name[:12]}"
    path_parts = [path_part for path_part in path.parts if path_part != path.anchor]
    first_named_index = next(
        (
            index
            for index in range(len(path_parts) - 1, -1, -1)
            if not _GENERIC_NAME_PATTERN.fullmatch(path_parts[index])
        ),
        0,
    )
    name_parts = [path_part for path_part in path_parts[first_named_index:] if path_part != "model"] or path_parts[-1:]
    return "-".join(name_parts)


def check_model_name(model_name: str, where: Where = "--name", hint: str | None = None) -> str:
    """The name itself; raises UserError, with `where` and `hint`, where it cannot be the name of a folder."""
    if not _MODEL_NAME_PATTERN.fullmatch(model_name) or ".." in model_name:
        raise UserError(f"'{model_name}' is not a name", where=where, hint=hint or "letters, digits and . _ - @ + /")
    if len(model_name.encode()) > _MAX_NAME_BYTES:
        raise UserError(
            f"a name of {len(model_name)} characters",
            where=where,
            hint=hint or f"at most {_MAX_NAME_BYTES}, it names a folder",
        )
    return model_name


def results_folder_name(model_name: str) -> str:
    """The name as one folder's: OWNER--NAME for OWNER/NAME."""
    return model_name.replace("/", "--")


def is_path_text(text: str) -> bool:
    """Whether a word can only be a path, never the name of a run: `./mini`, `mini/`, `~/mini`."""
    return text.endswith("/") or text.startswith((".", "/", "~"))


def is_another(path: Path, run_path: Path) -> bool:
    """Whether something other than a run's folder or file has this path."""
    return path.exists() and not os.path.samefile(path, run_path)


def ambiguity_note(word: str, meaning: str, alternatives: Sequence[str]) -> str | None:
    """What a word was understood as, and what to write for what else it may mean; None where it means nothing else."""
    return f"{word} is {meaning}; write {' or '.join(alternatives)}" if alternatives else None


def run_folder_of_model(model_folder_text: str) -> Path | None:
    """The run whose model, or one of whose exports, a folder is."""
    folder = Path(model_folder_text).resolve()
    run_folder = (
        folder.parent if folder.name == "model" else folder.parents[1] if folder.parent.name == "exports" else None
    )
    return run_folder if run_folder is not None and (run_folder / "manifest.json").is_file() else None
