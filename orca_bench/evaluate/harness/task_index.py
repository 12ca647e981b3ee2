"""Where lm-eval's own task files are and what each is the file of, remembered between commands.

`TaskManager()` of lm_eval 0.4.13 reads its 14,000 task files at every start, 11 s on a fast machine. The names, kinds and tags
that it wants of them are written into the user's cache, and used as long as the names, sizes and times of all files are the
same (0.2 s). Its own module because it knows nothing of tasks but the places of their files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import lm_eval
from lm_eval.tasks import manager
from lm_eval.tasks._index import Entry, Kind, TaskIndex

from orca_bench import files
from orca_bench.errors import UserError

_BUILD_INDEX = TaskIndex.build


@contextlib.contextmanager
def remember_task_files() -> Iterator[None]:
    """Inside the block `TaskManager()` of lm-eval takes the places of lm-eval's own task files from the cache.

    It is patched, for it has no argument for that; tests/evaluate/harness/test_task_index.py fails when the name moves.
    """
    with mock.patch.object(manager.TaskIndex, "build", staticmethod(_build_index)):
        yield


def _build_index(paths: Iterable[Path], **options: Any) -> dict[str, Entry]:
    """As `TaskIndex.build`: the entry of each name in some folders; a later folder's entry replaces an earlier one's."""
    entry_by_name: dict[str, Entry] = {}
    for folder in paths:
        is_own_folder = folder == Path(lm_eval.__file__).parent / "tasks"
        entry_by_name |= _index_of_own_files(folder) if is_own_folder else _BUILD_INDEX([folder], **options)
    return entry_by_name


def _index_of_own_files(folder: Path) -> dict[str, Entry]:
    """The entries of lm-eval's own files, from the cache where it is of these very files."""
    cache_file = files.cache_folder("lm_eval_tasks") / f"{_key_of_files(folder)}.json"
    if cache_file.is_file():
        with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
            return {
                name: _entry_from_json(name, fields, folder) for name, fields in files.read_json(cache_file).items()
            }
    entry_by_name: dict[str, Entry] = _BUILD_INDEX([folder])
    fields_by_name = {name: _entry_to_json(entry, folder) for name, entry in entry_by_name.items()}
    with contextlib.suppress(UserError):  # a cache that cannot be written costs time only
        files.make_writable_folder(cache_file.parent)
        files.write_json(cache_file, fields_by_name)
    return entry_by_name


def _key_of_files(folder: Path) -> str:
    """16 hexadecimal digits of SHA-256 over lm-eval's version and the path, size and time of change of each task file."""
    digest = hashlib.sha256(f"{lm_eval.__version__} {folder}".encode())
    for parent_path, folder_names, file_names in os.walk(folder):
        folder_names.sort()
        for file_name in sorted(file_names):
            if file_name.endswith(".yaml"):
                status = os.stat(os.path.join(parent_path, file_name))
                digest.update(f"{parent_path}/{file_name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _entry_to_json(entry: Entry, folder: Path) -> list[Any]:
    task_file = None if entry.yaml_path is None else entry.yaml_path.relative_to(folder).as_posix()
    return [entry.kind.name, task_file, sorted(entry.tags)]


def _entry_from_json(name: str, fields: list[Any], folder: Path) -> Entry:
    # lm-eval reads `cfg` of entries without a file only, which tags are, and tags have none.
    kind_name, task_file, tags = fields
    return Entry(name, Kind[kind_name], None if task_file is None else folder / task_file, tags=set(tags))
