"""A turn in, a record of it out, and the file of records to which it is added.

Its own module because the chat in the terminal and the page of the server store the same records.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

from orca_bench.files import catch_read_errors, catch_write_errors, json_line, make_writable_folder, parse_json_object
from orca_bench.prompt import Turn

_BLOCK_BYTES = 1 << 20  # of a file that is read to count its lines


def turn_record(system: str, turn: Turn, model_name: str, was_cut: bool) -> dict[str, Any]:
    """A turn under a system message as a record that `orca-bench train` reads; its `teacher` is the model.

    `was_cut` says whether the answer was stopped, by its reader or at its greatest length.
    """
    texts = {"system": system, "instruction": turn.instruction, "input": turn.input or "", "response": turn.response}
    return texts | {"teacher": model_name, "was_cut": was_cut}


class RecordFile:
    """A file of records, one a line, which is made with its folder where it is absent. Any thread may add to it."""

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()
        # Of the file as this object left it: its bytes and the time of its last change in nanoseconds; and its lines.
        self._size_and_time, self._line_count = (0, 0), 0

    def append(self, record: dict[str, Any]) -> int:
        """Add a record as a line; returns how many lines the file then has.

        Raises UserError for a file that cannot be read or whose first line is no JSON object, and WriteError where the disk
        does not take the line. The file then stays as it is.

        Other programs may add lines to the file too. The number that is returned then lacks the lines that are added during
        the call. Where one is added while the disk does not take this line, the written part of this line stays in the file,
        since its removal could remove the other line.
        """
        line = json_line(record).encode()
        with self._lock:
            make_writable_folder(self._path.parent)
            size, change_time_ns = self._read_size_and_time()
            if not size:
                self._line_count = 0
            elif (size, change_time_ns) != self._size_and_time:  # from before, or changed by another program
                self._line_count, is_last_line_whole = self._read_lines()
                line = line if is_last_line_whole else b"\n" + line
            change_time_ns = self._write(line)
            # The size without what other programs have added during this call: it is counted by the next one.
            self._size_and_time, self._line_count = (size + len(line), change_time_ns), self._line_count + 1
            return self._line_count

    def _read_size_and_time(self) -> tuple[int, int]:
        """The file's bytes and the time of its last change in nanoseconds; both 0 where there is no file."""
        with catch_write_errors(self._path):
            try:
                status = self._path.stat()
            except FileNotFoundError:
                return 0, 0
        return status.st_size, status.st_mtime_ns

    def _read_lines(self) -> tuple[int, bool]:
        """The number of lines, and whether the last one has its end."""
        with catch_read_errors(self._path), open(self._path, "rb") as handle:
            first_line = last_block = handle.readline()
            end_count = first_line.count(b"\n")
            while block := handle.read(_BLOCK_BYTES):
                end_count += block.count(b"\n")
                last_block = block
        if first_line.strip():
            parse_json_object(first_line.decode("utf-8", "replace"), f"{self._path}:1")
        is_last_line_whole = not last_block or last_block.endswith(b"\n")
        return end_count + (not is_last_line_whole), is_last_line_whole

    def _write(self, line: bytes) -> int:
        """Write a line at the end, or nothing of it; returns the time of this change in nanoseconds.

        A part of the line stays where the disk does not take the rest and another program has added to the file meanwhile.
        """
        with catch_write_errors(self._path), open(self._path, "ab", buffering=0) as handle:
            size, written_bytes = handle.tell(), 0
            try:
                while written_bytes < len(line):
                    written_bytes += handle.write(line[written_bytes:])
            except OSError:
                with contextlib.suppress(OSError):
                    if os.fstat(handle.fileno()).st_size == size + written_bytes:
                        handle.truncate(size)
                raise
            return os.fstat(handle.fileno()).st_mtime_ns
