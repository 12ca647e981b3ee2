"""A turn in, a record of it out, and the file of records to which it is added.

Its own module because the chat in the terminal and the page of the server store the same records.
"""

from __future__ import annotations

import contextlib
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
        # Of the file as this object left it: its bytes and its lines.
        self._size = self._line_count = 0

    def append(self, record: dict[str, Any]) -> int:
        """Add a record as a line; returns how many lines the file then has.

        Raises UserError for a file that cannot be read or whose first line is no JSON object, and WriteError where the disk
        does not take the line. The file then stays as it is.
        """
        line = json_line(record).encode()
        with self._lock:
            make_writable_folder(self._path.parent)
            size = self._path.stat().st_size if self._path.exists() else 0
            if not size:
                self._line_count = 0
            elif size != self._size:  # the file is there from before, or another program has changed it
                self._line_count, is_last_line_whole = self._read_lines()
                line = line if is_last_line_whole else b"\n" + line
            self._write(line)
            self._size, self._line_count = size + len(line), self._line_count + 1
            return self._line_count

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

    def _write(self, line: bytes) -> None:
        """Write a line at the end, or nothing of it."""
        with catch_write_errors(self._path), open(self._path, "ab", buffering=0) as handle:
            size = handle.tell()
            try:
                while line:
                    line = line[handle.write(line) :]
            except OSError:
                with contextlib.suppress(OSError):
                    handle.truncate(size)
                raise
