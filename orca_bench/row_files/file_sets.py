"""A path in, the data files that it names out, in order: one file, a folder, a pattern, the parts of one set.

A module of its own because instructions, records and benchmarks are all kept in parts (`train-00000-of-00003.parquet`).
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from orca_bench.errors import UserError

_COMPRESSED_ENDINGS = (".gz", ".zst", ".zstd", ".bz2", ".xz")
DATA_FILE_ENDINGS = (".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".csv", ".tsv")
_SHARD_PATTERN = re.compile(r"(?P<stem>.*?)[-_.]?(?P<number>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]+)?")

#: Files beside the data of a set that describe it.
_DESCRIPTION_FILES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "suite.json")
_SPLIT_NAMES = ("train", "test", "validation", "valid", "val", "dev", "eval")


def has_data_file_ending(path: Path) -> bool:
    """Whether a name is that of a data file, compressed or not, and not that of a description beside one."""
    return _without_compression(path.name.lower()).endswith(DATA_FILE_ENDINGS) and path.name not in _DESCRIPTION_FILES


def data_file_stem(path: Path) -> str:
    """A data file's name without its endings and without its number among the parts of one set."""
    shard = _match_shard(path)
    return (shard["stem"] or path.parent.name) if shard else _without_endings(path)


def is_shard(path: Path) -> bool:
    """Whether a name says that it is one of several parts (`train-00000-of-00003.parquet`)."""
    return _match_shard(path) is not None


def _match_shard(path: Path) -> re.Match[str] | None:
    return _SHARD_PATTERN.fullmatch(_without_endings(path))


def _without_endings(path: Path) -> str:
    name = _without_compression(path.name)
    return name[: len(name) - len(Path(name).suffix)] if name.lower().endswith(DATA_FILE_ENDINGS) else name


def _without_compression(name: str) -> str:
    return next((name[: -len(ending)] for ending in _COMPRESSED_ENDINGS if name.lower().endswith(ending)), name)


def is_path_pattern(path: Path) -> bool:
    """Whether a path is a pattern (`train-*.parquet`) and no file of that very name."""
    return any(character in str(path) for character in "*?[") and not path.exists()


def data_files_of(path_or_pattern: Path) -> list[Path]:
    """The data files that a path names: itself, those in a folder, or those that a pattern with `*` matches; in order.

    Of a folder with splits the train split is taken, as `load_dataset(…, split="train")` of datasets does. Raises UserError
    where there is no such file, where a part of a set is missing, and where a folder holds several sets.
    """
    if path_or_pattern.is_dir():
        return _data_files_in_folder(path_or_pattern)
    if is_path_pattern(path_or_pattern):
        matching_files = [
            Path(name) for name in glob.glob(str(path_or_pattern), recursive=True) if Path(name).is_file()
        ]
        if not matching_files:
            raise UserError("no file matches this pattern", where=path_or_pattern)
        return in_natural_order(matching_files)
    return [path_or_pattern]


def _data_files_in_folder(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.rglob("*")
        if has_data_file_ending(file)
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not files:
        raise UserError(
            "no data file in this folder", where=folder, hint=f"data files end in {', '.join(DATA_FILE_ENDINGS)}"
        )
    files_by_split: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        split_name = next(
            (
                split_name
                for split_name in (data_file_stem(file), file.parent.name)
                if split_name.lower() in _SPLIT_NAMES
            ),
            "",
        )
        files_by_split.setdefault((file.parent, split_name) if split_name else (folder, ""), []).append(file)
    if len(files_by_split) > 1:
        train_keys = [key for key in files_by_split if key[1].lower() == "train"]
        if len(train_keys) != 1 or (folder, "") in files_by_split:
            split_names = sorted(
                {str((parent / split_name).relative_to(folder)) for parent, split_name in files_by_split}
            )
            raise UserError(
                f"several sets ({', '.join(split_names)})", where=folder, hint="name the files of one of them"
            )
        return in_natural_order(files_by_split[train_keys[0]])
    return in_natural_order(files)


def in_natural_order(files: Iterable[Path]) -> list[Path]:
    """Files by name, numbers in it as numbers.

    Raises UserError where one of `NAME-00000-of-00003` … is missing, and where two files have one name but for their ending:
    they are most likely the same rows twice.
    """
    files = sorted(files, key=_natural_sort_key)
    file_by_stem: dict[tuple[Path, str], Path] = {}
    for file in files:
        if not is_shard(file) and file_by_stem.setdefault((file.parent, data_file_stem(file)), file) != file:
            raise UserError(
                f"{file.name} and {file_by_stem[file.parent, data_file_stem(file)].name} have one name",
                where=file.parent,
                hint="keep one",
            )
    shard_numbers_by_set: dict[tuple[Path, str, int], list[int]] = {}
    for file in files:
        if shard := _match_shard(file):
            shard_numbers_by_set.setdefault((file.parent, shard["stem"], int(shard["count"])), []).append(
                int(shard["number"])
            )
    for (folder, set_stem, shard_count), present_numbers in shard_numbers_by_set.items():
        first_number = 1 if shard_count in present_numbers else 0
        missing_numbers = sorted(set(range(first_number, first_number + shard_count)) - set(present_numbers))
        if missing_numbers:
            raise UserError(f"part {missing_numbers[0]:05d} of {shard_count} of '{set_stem}' is missing", where=folder)
        if len(present_numbers) > shard_count:
            raise UserError(f"{len(present_numbers)} files for the {shard_count} parts of '{set_stem}'", where=folder)
    return files


def _natural_sort_key(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in pieces]
