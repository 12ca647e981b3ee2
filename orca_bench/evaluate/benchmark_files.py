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


def files_of_split(benchmarks_folder: Path, task: Task, split_name: str) -> list[Path]:
    """The files of a split; raises UserError where there are none, where some are missing, and where there are two sets."""
    files_by_folder_and_name = _split_files_by_folder_and_name(benchmarks_folder, task, split_name)
    if not files_by_folder_and_name:
        present_file_names = sorted(
            {
                data_file.name
                for data_folder in _task_folders(benchmarks_folder, task)
                for data_file in _data_files(data_folder)
            }
        )
        raise UserError(
            f"the split '{split_name}' of {task.name} is missing",
            where=benchmarks_folder / task.name / f"{split_name}.jsonl.gz",
            hint=f"present: {', '.join(present_file_names)}"
            if present_file_names
            else "expected DIR/TASK/SPLIT.jsonl.gz or the hub's own files",
        )
    if len(files_by_folder_and_name) > 1:
        first_paths = ", ".join(
            str(location_files[0].relative_to(benchmarks_folder))
            for location_files in files_by_folder_and_name.values()
        )
        raise UserError(
            f"the split '{split_name}' of {task.name} is there more than once ({first_paths})",
            where=benchmarks_folder,
            hint="keep one",
        )
    return row_files.in_natural_order(next(iter(files_by_folder_and_name.values())))


def has_split(benchmarks_folder: Path, task: Task, split_name: str) -> bool:
    """Whether there is any file of a split."""
    return bool(_split_files_by_folder_and_name(benchmarks_folder, task, split_name))


def _split_files_by_folder_and_name(
    benchmarks_folder: Path, task: Task, split_name: str
) -> dict[tuple[Path, str], list[Path]]:
    files_by_folder_and_name: dict[tuple[Path, str], list[Path]] = {}
    for data_folder in _task_folders(benchmarks_folder, task):
        for data_file in _data_files(data_folder):
            if row_files.data_file_stem(data_file) == split_name:
                whole_file_name = "" if row_files.is_shard(data_file) else data_file.name
                files_by_folder_and_name.setdefault((data_folder, whole_file_name), []).append(data_file)
        if split_files := _data_files(data_folder / split_name):
            files_by_folder_and_name[data_folder / split_name, ""] = split_files
    return files_by_folder_and_name


def has_task_folder(benchmarks_folder: Path, task: Task) -> bool:
    """Whether there is a folder that may have the files of a task."""
    return bool(_task_folders(benchmarks_folder, task))


def _task_folders(benchmarks_folder: Path, task: Task) -> list[Path]:
    """Where the files of a task may lie, each folder once whatever it is called."""
    repository_id, configuration_name = task.facts.hub_dataset
    owner, _, repository_name = repository_id.rpartition("/")
    root_folders = [
        benchmarks_folder / task.name,
        benchmarks_folder / owner / repository_name,
        benchmarks_folder / repository_name,
    ]
    root_folders += sorted((benchmarks_folder / f"datasets--{owner}--{repository_name}" / "snapshots").glob("*"))
    subfolders = [
        "",
        "data",
        "default",
        *([configuration_name, f"{configuration_name}/data"] if configuration_name else []),
    ]
    candidate_folders = (root_folder / subfolder for root_folder in root_folders for subfolder in subfolders)
    return list(
        {
            data_folder.resolve(): data_folder
            for data_folder in reversed(list(candidate_folders))
            if data_folder.is_dir()
        }.values()
    )[::-1]


def _data_files(data_folder: Path) -> list[Path]:
    if not data_folder.is_dir():
        return []
    return sorted(
        data_file
        for data_file in data_folder.iterdir()
        if data_file.is_file() and row_files.has_data_file_ending(data_file)
    )
