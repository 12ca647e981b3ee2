"""Encoded examples on the disk: written piece by piece, checked, memory-mapped, linked into the folder of a run.

A folder of tokens holds one .npy file for each array of `EncodedExamples`, and tokens.json: the key that they were encoded
under, the report, the SHA-256 of each file. Its own module because training processes read such folders, and encode nothing.
The arrays are mapped, not read: processes of one machine share the pages, and the disk's cache decides what is in memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, file_sha256, open_folder_replacement, read_json, write_json
from orca_bench.train.example_encoding import (
    EncodedExamples,
    EncodingReport,
    ReportEncodedCount,
    combine_reports,
)

DESCRIPTION_FILE = "tokens.json"
TRAINING_INDICES_FILE, HELD_OUT_INDICES_FILE = "training.npy", "held_out.npy"
_FORMAT_VERSION = 1  # of the folder
_DTYPE_BY_ARRAY = {
    "ids": np.dtype(np.int32),
    "starts": np.dtype(np.int64),
    "lengths": np.dtype(np.int64),
    "prompt_lengths": np.dtype(np.int32),
    "records": np.dtype(np.int32),
}


@dataclass(frozen=True)
class StoredExamples:
    """Examples whose arrays are those of a folder of tokens, and the key that they were encoded under."""

    folder: Path
    key: str
    examples: EncodedExamples
    report: EncodingReport


@dataclass(frozen=True)
class RunExamples:
    """The examples of a run: those it trains on, and those that it only computes a loss on, which may be none.

    `key` is what they were encoded under; None in runs of earlier versions, which have no key.
    """

    training: EncodedExamples
    held_out: EncodedExamples
    key: str | None


def write_token_files(
    folder: Path,
    chunks: Iterable[tuple[EncodedExamples, EncodingReport]],
    key_of_whole: Callable[[EncodingReport], str],
    report_encoded_count: ReportEncodedCount = lambda record_count: None,
) -> None:
    """Write chunks of examples, as `encode_in_chunks` yields them, to the new folder, which appears when it is whole.

    `key_of_whole(report)` is called after the last chunk, with the report of all; where it raises, no folder is written.
    `report_encoded_count(n)` is called with the number of records done so far. Raises UserError where the disk does not take the
    files, and what the two functions and the chunks raise.
    """
    with open_folder_replacement(folder) as temporary_folder:
        reports: list[EncodingReport] = []
        record_count = 0
        with contextlib.ExitStack() as stack:
            array_files = {
                name: stack.enter_context(_GrowingArrayFile(temporary_folder / f"{name}.npy", dtype))
                for name, dtype in _DTYPE_BY_ARRAY.items()
            }
            for examples, report in chunks:
                token_count = array_files["ids"].length
                for name, array_file in array_files.items():
                    array_file.append(getattr(examples, name) + (token_count if name == "starts" else 0))
                reports.append(report)
                record_count += report.record_count
                report_encoded_count(record_count)
        report = combine_reports(reports)
        description = {
            "format": _FORMAT_VERSION,
            "key": key_of_whole(report),
            "records": report.record_count,
            "cut": report.truncated_count,
            "dropped": report.dropped_record_indices,
            "sha256": {name: file_sha256(temporary_folder / f"{name}.npy") for name in _DTYPE_BY_ARRAY},
        }
        write_json(temporary_folder / DESCRIPTION_FILE, description)


class _GrowingArrayFile:
    """A .npy file of a one-dimensional array that is appended to; whole when it is closed."""

    def __init__(self, path: Path, dtype: np.dtype):
        self._path, self._dtype, self.length = path, dtype, 0
        self._handle: BinaryIO | None = None

    def __enter__(self) -> _GrowingArrayFile:
        self._handle = open(self._path, "wb")
        self._write_header()
        return self

    def append(self, values: np.ndarray) -> None:
        assert self._handle is not None, "the file is open"
        self._handle.write(np.ascontiguousarray(values, self._dtype).data)
        self.length += len(values)

    def __exit__(self, *exception: object) -> None:
        assert self._handle is not None, "the file is open"
        with self._handle:
            self._handle.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        """NumPy leaves room in the header for the largest length, so that the header of any length has one size."""
        assert self._handle is not None, "the file is open"
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._handle, header)


def load_token_files(folder: Path, key: str | None = None, checks_content: bool = False) -> StoredExamples | None:
    """The examples of a folder, memory-mapped; None where it is absent, broken, or of another key than `key`.

    With `checks_content` every byte is read and compared with the folder's SHA-256s: seconds a gigabyte.
    """
    try:
        description = read_json(folder / DESCRIPTION_FILE)
        if description["format"] != _FORMAT_VERSION or (key is not None and description["key"] != key):
            return None
        if checks_content and any(
            file_sha256(folder / f"{name}.npy") != description["sha256"][name] for name in _DTYPE_BY_ARRAY
        ):
            return None
        examples = EncodedExamples(**{name: _map_array(folder / f"{name}.npy") for name in _DTYPE_BY_ARRAY})
        report = EncodingReport(description["records"], description["cut"], description["dropped"])
        return StoredExamples(folder, str(description["key"]), examples, report)
    except (UserError, OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _map_array(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r")
    return np.asarray(array)  # a plain array over the same memory: slices of a memmap take microseconds each


def link_token_files(stored: StoredExamples, folder: Path, indices: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Make `folder` a folder of the same files, by hard links where the disk can, else copies.

    So a run stays whole when the cache is removed, or the run is moved to another machine, and takes no space of its own as
    long as both are there. `indices`: the numbers of the examples that are trained and of those held out, int64, where not
    all are trained. Raises UserError where the disk does not take it.
    """
    with open_folder_replacement(folder) as temporary_folder:
        for name in (*(f"{array_name}.npy" for array_name in _DTYPE_BY_ARRAY), DESCRIPTION_FILE):
            _link_or_copy(stored.folder / name, temporary_folder / name)
        if indices is not None:
            for name, values in zip((TRAINING_INDICES_FILE, HELD_OUT_INDICES_FILE), indices, strict=True):
                np.save(temporary_folder / name, values)


def _link_or_copy(source_path: Path, new_path: Path) -> None:
    try:
        os.link(source_path, new_path)
    except OSError:  # another disk, or one without hard links
        with catch_write_errors(new_path):
            shutil.copyfile(source_path, new_path)


def load_run_examples(tokens_folder: Path, earlier_tokens_file: Path) -> RunExamples:
    """The examples of a prepared run; `earlier_tokens_file` is where runs of earlier versions have them.

    Raises UserError where neither can be read.
    """
    stored = load_token_files(tokens_folder)
    if stored is None:
        return _without_held_out(_load_earlier_file(tokens_folder, earlier_tokens_file), None)
    try:
        training, held_out = (
            stored.examples.subset(np.load(tokens_folder / name))
            for name in (TRAINING_INDICES_FILE, HELD_OUT_INDICES_FILE)
        )
    except FileNotFoundError:
        return _without_held_out(stored.examples, stored.key)
    except (OSError, ValueError, IndexError, EOFError):
        raise _unreadable(tokens_folder) from None
    return RunExamples(training, held_out, stored.key)


def _without_held_out(examples: EncodedExamples, key: str | None) -> RunExamples:
    return RunExamples(examples, examples.subset(np.zeros(0, np.int64)), key)


def _load_earlier_file(tokens_folder: Path, tokens_file: Path) -> EncodedExamples:
    """The examples of a tokens.npz."""
    try:
        with np.load(tokens_file) as npz_file:
            offsets = npz_file["offsets"]
            return EncodedExamples(
                npz_file["ids"], offsets[:-1], np.diff(offsets), npz_file["prompt_lengths"], npz_file["records"]
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise _unreadable(tokens_folder) from None


def _unreadable(tokens_folder: Path) -> UserError:
    return UserError(
        "the run's tokens cannot be read", where=tokens_folder, hint="the train command encodes them again"
    )
