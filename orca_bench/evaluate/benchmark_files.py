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
    places: dict[tuple[Path, str], list[Path]] = {}
    for folder in _folders(benchmarks, task):
        for file in _data_files(folder):
            if row_files.stem(file) == split:
                part = "" if row_files.is_part(file) else file.name
                places.setdefault((folder, part), []).append(file)
        if parts := _data_files(folder / split):
            places[folder / split, ""] = parts
    if not places:
        present = sorted({file.name for folder in _folders(benchmarks, task) for file in _data_files(folder)})
        raise UserError(
            f"the split '{split}' of {task.name} is missing",
            where=benchmarks / task.name / f"{split}.jsonl.gz",
            hint=f"present: {', '.join(present)}"
            if present
            else "expected DIR/TASK/SPLIT.jsonl.gz or the hub's own files",
        )
    if len(places) > 1:
        names = ", ".join(str(files[0].relative_to(benchmarks)) for files in places.values())
        raise UserError(
            f"the split '{split}' of {task.name} is there more than once ({names})", where=benchmarks, hint="keep one"
        )
    return row_files.in_order(next(iter(places.values())))


def has_rows(benchmarks: Path, task: Task) -> bool:
    """Whether there is a folder that may have the files of a task."""
    return bool(_folders(benchmarks, task))


def _folders(benchmarks: Path, task: Task) -> list[Path]:
    """Where the files of a task may lie, each folder once whatever it is called."""
    repository, configuration = task.facts.hub
    owner, _, name = repository.rpartition("/")
    roots = [benchmarks / task.name, benchmarks / owner / name, benchmarks / name]
    roots += sorted((benchmarks / f"datasets--{owner}--{name}" / "snapshots").glob("*"))
    inner = ["", "data", "default", *([configuration, f"{configuration}/data"] if configuration else [])]
    folders = (root / part for root in roots for part in inner)
    return list({folder.resolve(): folder for folder in reversed(list(folders)) if folder.is_dir()}.values())[::-1]


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.is_file() and row_files.has_ending(file))
