"""Data sets from a folder in the place of the hub's: `datasets.load_dataset` reads DIR/PATH/CONFIGURATION/SPLIT first.

lm-eval's tasks, those in YAML and those in Python, get their rows by `datasets.load_dataset(path, name)`. Inside
`rows_from_folder` that call gives the rows in a folder where the data set is there, else what `datasets` itself gives: its
cache with HF_DATASETS_OFFLINE=1, or the hub. Its own module because it knows nothing of tasks and models.

    DIR/OWNER/NAME/CONFIGURATION/SPLIT.parquet     or .jsonl.gz, .json, .arrow, … (row_files), whole or in parts
    DIR/NAME/CONFIGURATION/SPLIT.parquet           OWNER may be left out, and CONFIGURATION is where the task names one
    DIR/OWNER/NAME/CONFIGURATION/data/…, DIR/OWNER/NAME/data/…, CONFIGURATION/SPLIT/0000.parquet      as the hub has them
    DIR/datasets--OWNER--NAME/snapshots/COMMIT/…   the hub's cache
    DIR/TASK/SPLIT.jsonl.gz                        the seven tasks of the suite, as `orca-bench eval` has them
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import pyarrow
import pyarrow.parquet
from datasets import Dataset, DatasetDict

from orca_bench import row_files
from orca_bench.errors import UserError, join_names, one_line
from orca_bench.suite import ALL_TASKS

#: What `datasets` calls its readers of files: they are no data sets of the hub.
_FILE_READERS = ("json", "csv", "parquet", "arrow", "text", "generator")
#: How the parts of a split are called that lies in a folder of its own name.
_PART_STEMS = ("data", "part", "")


class MissingRows(UserError):
    """The rows of a data set are in no place where they were looked for."""


#: The folder that is read first, and the function that `load_dataset` was; the last is of the innermost block.
_folders: list[Path | None] = []
_load_from_hub: Callable[..., Any] = datasets.load_dataset


@contextlib.contextmanager
def rows_from_folder(benchmarks_folder: Path | None) -> Iterator[None]:
    """Inside the block `datasets.load_dataset` reads the data sets that are in a folder; None: it says only what is missing.

    Where a data set can be had nowhere it raises MissingRows.
    """
    if benchmarks_folder is not None and not benchmarks_folder.is_dir():
        raise UserError("no such benchmarks directory", where=benchmarks_folder)
    _folders.append(benchmarks_folder)
    try:
        with without_data_set_bars(), mock.patch.object(datasets, "load_dataset", load_data_set):
            yield
    finally:
        _folders.pop()


@contextlib.contextmanager
def without_data_set_bars() -> Iterator[None]:
    """Keep `datasets` from drawing a bar for every split that a task maps over; its downloads keep theirs."""
    were_enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_enabled:
            datasets.enable_progress_bars()


def load_data_set(path: str, name: str | None = None, *arguments: Any, **options: Any) -> Any:
    """As `datasets.load_dataset`, which stays bound to this where a task's module imported it inside the block."""
    if not _folders:
        return _load_from_hub(path, name, *arguments, **options)
    benchmarks_folder = _folders[-1]
    is_read_from_files = path in _FILE_READERS or Path(path).exists()
    if benchmarks_folder is not None and not is_read_from_files:
        local_set = find_local_set(benchmarks_folder, path, name, options.get("data_dir"), options.get("data_files"))
        if local_set is not None:
            split = options.get("split")
            return local_set if split is None else local_set[str(split)]
    try:
        return _load_from_hub(path, name, *arguments, **options)
    except Exception as error:  # no network, no such data set, a script: `datasets` has no common class of these
        place = (
            f"the files that the task names: {options.get('data_files', path)}"
            if is_read_from_files
            else f"{_expected_place(benchmarks_folder, path, name)}, then by datasets in its cache and on the hub"
        )
        raise MissingRows(
            f"the rows of the data set {path}{f' ({name})' if name else ''} cannot be had "
            f"({type(error).__name__}: {one_line(error, 160)})",
            hint=f"they were looked for in {place}",
        ) from None


def _expected_place(benchmarks_folder: Path | None, path: str, name: str | None) -> str:
    folder_text = "DIR" if benchmarks_folder is None else str(benchmarks_folder)
    place = "/".join(filter(None, (folder_text, path, name))) + "/SPLIT.parquet (.jsonl.gz, .json, …)"
    return f"no folder, for want of --benchmarks DIR with {place}" if benchmarks_folder is None else place


class LocalDataSet(DatasetDict):
    """The splits of a data set in a folder; the rows of one are read when it is used for the first time.

    Of a file with the rows of several configurations those count whose column has a value, `only` = (column, value). Raises
    UserError for a split that is not there, and for files that are no rows.
    """

    def __init__(self, files_by_split: Mapping[str, list[Path]], place: Path, only: tuple[str, str] | None = None):
        super().__init__()
        self._files_by_split, self._place, self._only = dict(files_by_split), place, only

    def __missing__(self, split: Any) -> Dataset:
        split_files = self._files_by_split.get(str(split))
        if split_files is None:
            raise MissingRows(
                f"the split '{split}' is missing",
                where=self._place / f"{split}.parquet",
                hint=f"present: {join_names(sorted(self._files_by_split), 8)}",
            )
        rows = read_split(split_files)
        if self._only is not None:
            column, value = self._only
            rows = rows.select([index for index, row_value in enumerate(rows[column]) if row_value == value])
            if not len(rows):
                raise MissingRows(f"no row whose {column} is '{value}'", where=split_files[0])
        dict.__setitem__(self, str(split), rows)
        return rows

    def __getitem__(self, split: Any) -> Dataset:
        return dict.__getitem__(self, str(split)) if dict.__contains__(self, str(split)) else self.__missing__(split)

    def __contains__(self, split: object) -> bool:
        return str(split) in self._files_by_split

    def __iter__(self) -> Iterator[str]:
        return iter(self._files_by_split)

    def __len__(self) -> int:
        return len(self._files_by_split)

    def keys(self) -> Any:
        """The names of all splits."""
        return self._files_by_split.keys()

    def values(self) -> Any:
        """All splits, read."""
        return [self[split] for split in self]

    def items(self) -> Any:
        """(name, rows) of all splits, read."""
        return [(split, self[split]) for split in self]

    def add_stand_in(self, split: str, other_split: str) -> None:
        """Let a split that is not there have the rows of another one."""
        self._files_by_split[split] = self._files_by_split[other_split]

    def get(self, split: Any, default: Any = None) -> Any:
        """The rows of a split, or `default` where there is none."""
        return self[split] if str(split) in self._files_by_split else default


def find_local_set(
    benchmarks_folder: Path, path: str, name: str | None, data_folder: str | None = None, data_files: Any = None
) -> LocalDataSet | None:
    """The data set of a hub id and a configuration in a folder; None where it is not there.

    `data_folder` and `data_files` are `load_dataset`'s: a folder in the data set, and files of it by split.
    """
    for root_folder in _root_folders(benchmarks_folder, path):
        if isinstance(data_files, Mapping):
            files_by_split = {
                str(split): _named_files(root_folder, file_names) for split, file_names in data_files.items()
            }
            if all(files_by_split.values()):
                return LocalDataSet(files_by_split, root_folder)
            continue
        if data_folder:
            subfolders = [data_folder]
        elif name and name != "default":
            subfolders = [name, f"{name}/data", f"data/{name}"]
        else:
            subfolders = ["", "data", "default", "default/data"]
        for subfolder in subfolders:
            if files_by_split := _files_by_split(root_folder / subfolder):
                return LocalDataSet(files_by_split, root_folder / subfolder)
        if not name and not data_folder:
            only_sets = [
                (child, child_files) for child in _folders_in(root_folder) if (child_files := _files_by_split(child))
            ]
            if len(only_sets) == 1:  # one configuration, which `load_dataset` takes without its name
                return LocalDataSet(only_sets[0][1], only_sets[0][0])
    return _suite_set(benchmarks_folder, path, name)


def _suite_set(benchmarks_folder: Path, path: str, name: str | None) -> LocalDataSet | None:
    """The rows of one of the suite's tasks, or of one of its subjects, as they lie for `orca-bench eval`."""
    for task in ALL_TASKS:
        repository_id, configuration = task.hub_dataset
        if path != repository_id or not (name == configuration or task.subject_column):
            continue
        if files_by_split := _files_by_split(benchmarks_folder / task.name):
            only = (task.subject_column, name) if task.subject_column and name and name != configuration else None
            return LocalDataSet(files_by_split, benchmarks_folder / task.name, only)
    return None


def _root_folders(benchmarks_folder: Path, path: str) -> list[Path]:
    """The folders that may be the data set's, those that exist."""
    cache_folder = benchmarks_folder / f"datasets--{path.replace('/', '--')}" / "snapshots"
    candidates = [
        benchmarks_folder / path,
        benchmarks_folder / path.rpartition("/")[2],
        *sorted(cache_folder.glob("*")),
    ]
    return [candidate for candidate in dict.fromkeys(candidates) if candidate.is_dir()]


def _named_files(root_folder: Path, file_names: Any) -> list[Path]:
    names = [file_names] if isinstance(file_names, str) else list(file_names)
    return [file for name in names for file in sorted(root_folder.glob(str(name))) if file.is_file()]


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    """The data files of each split in a folder: SPLIT.jsonl, SPLIT-00000-of-00001.parquet, SPLIT/0000.parquet."""
    files_by_split: dict[str, list[Path]] = {}
    for file in _data_files(folder):
        files_by_split.setdefault(row_files.data_file_stem(file), []).append(file)
    for child in _folders_in(folder):
        child_files = _data_files(child)
        if child_files and all(_is_part(file, child.name) for file in child_files):
            files_by_split.setdefault(child.name, child_files)
    return {split: row_files.in_natural_order(split_files) for split, split_files in files_by_split.items()}


def _is_part(file: Path, split: str) -> bool:
    stem = row_files.data_file_stem(file)
    return stem in (*_PART_STEMS, split) or stem.isdecimal()


def _folders_in(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.is_file() and row_files.has_data_file_ending(file))


def read_split(split_files: Sequence[Path]) -> Dataset:
    """The rows of some files, in order; raises UserError where they are no rows, or columns have values of several types.

    A Parquet file keeps the features that it names (the labels of a class): some tasks read them.
    """
    return _read_files(tuple(split_files), tuple(file.stat().st_mtime_ns for file in split_files))


@functools.lru_cache(maxsize=4)  # the subjects of one file are read one after the other
def _read_files(split_files: tuple[Path, ...], _change_times_ns: tuple[int, ...]) -> Dataset:
    """As `read_split`, remembered as long as the files do not change."""
    if all(file.name.endswith(".parquet") for file in split_files):
        with contextlib.suppress(pyarrow.ArrowException, OSError):  # what is wrong is said below
            tables = [pyarrow.parquet.read_table(file) for file in split_files]
            return Dataset(pyarrow.concat_tables(tables))
    rows = [row for file in split_files for _, row in row_files.read_rows(file)]
    columns = dict.fromkeys(column for row in rows for column in row)
    try:
        return Dataset.from_dict({column: [row.get(column) for row in rows] for column in columns})
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the columns are not of one type ({one_line(error, 160)})", where=split_files[0]) from None
