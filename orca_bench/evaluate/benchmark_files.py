"""A benchmarks folder in, the files of one split of one task out, in order: our layout and those that the hub's files have.

People carry data sets to machines without a network as they got them: a clone of a hub repository, its Parquet conversion,
the hub's cache, `save_to_disk`. A module of its own because where files lie has nothing to do with what is in them.

    DIR/TASK/SPLIT.jsonl.gz                     ours; any kind of file that row_files reads, in parts or whole
    DIR/TASK/CONFIG/SPLIT-00000-of-00001.parquet     a clone of the hub's repository, where TASK may be OWNER/NAME or NAME too
    DIR/TASK/data/SPLIT-00000-of-00001.parquet       the same of a set without configurations
    DIR/TASK/CONFIG/SPLIT/0000.parquet               the hub's conversion (refs/convert/parquet)
    DIR/TASK/SPLIT/data-00000-of-00001.arrow         save_to_disk
    DIR/datasets--OWNER--NAME/snapshots/COMMIT/…     the hub's cache
"""

from __future__ import annotations

from pathlib import Path

from orca_bench import row_files
from orca_bench.errors import UserError
from orca_bench.evaluate.tasks.task import Task


def files_of_split(benchmarks: Path, task: Task, split: str) -> list[Path]:
    """The files of a split; raises UserError where there are none, where some are missing, and where there are two sets."""
    files_by_location: dict[tuple[Path, str], list[Path]] = {}
    for folder in _folders(benchmarks, task):
        for file in _data_files(folder):
            if row_files.stem(file) == split:
                file_name = "" if row_files.is_part(file) else file.name
                files_by_location.setdefault((folder, file_name), []).append(file)
        if split_files := _data_files(folder / split):
            files_by_location[folder / split, ""] = split_files
    if not files_by_location:
        present_names = sorted({file.name for folder in _folders(benchmarks, task) for file in _data_files(folder)})
        raise UserError(
            f"the split '{split}' of {task.name} is missing",
            where=benchmarks / task.name / f"{split}.jsonl.gz",
            hint=f"present: {', '.join(present_names)}"
            if present_names
            else "expected DIR/TASK/SPLIT.jsonl.gz or the hub's own files",
        )
    if len(files_by_location) > 1:
        first_paths = ", ".join(
            str(location_files[0].relative_to(benchmarks)) for location_files in files_by_location.values()
        )
        raise UserError(
            f"the split '{split}' of {task.name} is there more than once ({first_paths})",
            where=benchmarks,
            hint="keep one",
        )
    return row_files.in_order(next(iter(files_by_location.values())))


def has_rows(benchmarks: Path, task: Task) -> bool:
    """Whether there is a folder that may have the files of a task."""
    return bool(_folders(benchmarks, task))


def _folders(benchmarks: Path, task: Task) -> list[Path]:
    """Where the files of a task may lie, each folder once whatever it is called."""
    repository_id, configuration = task.facts.hub_dataset
    owner, _, repository_name = repository_id.rpartition("/")
    root_folders = [benchmarks / task.name, benchmarks / owner / repository_name, benchmarks / repository_name]
    root_folders += sorted((benchmarks / f"datasets--{owner}--{repository_name}" / "snapshots").glob("*"))
    subfolders = ["", "data", "default", *([configuration, f"{configuration}/data"] if configuration else [])]
    folders = (root / subfolder for root in root_folders for subfolder in subfolders)
    return list({folder.resolve(): folder for folder in reversed(list(folders)) if folder.is_dir()}.values())[::-1]


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.is_file() and row_files.has_ending(file))
