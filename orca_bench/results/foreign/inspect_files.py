"""Which files are logs of inspect_ai, and of which models those in a folder are.

inspect_ai writes a file for each task: `.eval` (a zip archive) or `.json`. A folder of them is a result for each model, with the
newest log of each task; where it has several models, FOLDER/MODEL names the logs of one. Its own module because it knows names
and headers of files and nothing of scores.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError, one_line
from orca_bench.files import first_bytes

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

_BYTE_COUNT = 200  # in which a log shows that it is one
_ZIP_MAGIC = b"PK"
#: Parts of a sample that are large, and that no result has.
_UNUSED_PARTS = {"events", "store", "timelines", "attachments"}


def is_inspect_file(path: Path) -> bool:
    """Whether a file is a log by its name and its first bytes; one called `.eval` always is, so that it is refused by name."""
    if path.suffix == ".eval":
        return path.is_file()
    if path.suffix != ".json":
        return False
    beginning = rb'\s*\{\s*"version":\s*\d+,\s*"status":\s*"\w+",\s*"eval":'
    return re.match(beginning, first_bytes(path, _BYTE_COUNT)) is not None


def inspect_files_in(folder: Path) -> list[Path]:
    """The logs in a folder, not below it; by name, which begins with the time."""
    if not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if path.suffix in (".eval", ".json"))
    return sorted(path for path in paths if is_inspect_file(path))


def is_inspect_place(path: Path) -> bool:
    """Whether a path is a log, a folder of logs, or the logs of one model in a folder (FOLDER/MODEL)."""
    if path.is_file():
        return is_inspect_file(path)
    if path.is_dir():
        return bool(inspect_files_in(path))
    return any(file_model == path.name for file_model in _models_in(path.parent))


def inspect_places_in(folder: Path) -> list[Path]:
    """The results in a folder of logs: the folder where all are of one model, else FOLDER/MODEL for each."""
    model_names = list(dict.fromkeys(_models_in(folder)))
    return [folder] if len(model_names) == 1 else [folder / model_name for model_name in model_names]


def files_of_place(path: Path) -> list[Path]:
    """The files of a log, of a folder of logs, or of one model in a folder.

    Raises UserError where a folder has logs of several models.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        return [file for file in inspect_files_in(path.parent) if _model_of(file) == path.name]
    places = inspect_places_in(path)
    if len(places) > 1:
        names = " or ".join(str(place) for place in places[:3])
        raise UserError(f"logs of {len(places)} models in this folder", where=path, hint=f"name {names}")
    return inspect_files_in(path)


def read_inspect_file(path: Path, header_only: bool = False) -> EvalLog:
    """A log, by inspect_ai's own reader; raises UserError where the package is missing and where the file is no log."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise UserError(
            "a log of inspect_ai needs the package inspect_ai",
            where=path,
            hint="install it: pip install 'orca-bench[inspect]'",
        ) from None
    if path.suffix == ".eval" and first_bytes(path, len(_ZIP_MAGIC)) != _ZIP_MAGIC:
        raise UserError("no log of inspect_ai: not a zip archive", where=path, hint="was it copied whole?")
    try:
        return read_eval_log(path, header_only=header_only, exclude_fields=_UNUSED_PARTS)
    except Exception as error:  # zip, JSON, pydantic and inspect_ai's own errors have no common class
        raise UserError(
            f"inspect_ai cannot read this log ({type(error).__name__}: {one_line(error, 160)})",
            where=path,
            hint="was it copied whole, or written by a newer inspect_ai?",
        ) from None


def folder_name_of(model_name: str) -> str:
    """The name of a model as the last part of FOLDER/MODEL."""
    return model_name.replace("/", "__")


def _models_in(folder: Path) -> Iterator[str]:
    for file in inspect_files_in(folder):
        with contextlib.suppress(UserError):
            yield _model_of(file)


_model_by_state: dict[tuple[Path, int, int], str] = {}


def _model_of(file: Path) -> str:
    """The model of a log as the last part of FOLDER/MODEL; remembered while the file does not change."""
    status = file.stat()
    state = (file, status.st_mtime_ns, status.st_size)
    if state not in _model_by_state:
        _model_by_state[state] = folder_name_of(read_inspect_file(file, header_only=True).eval.model)
    return _model_by_state[state]
