"""JSON texts in, (place, row) pairs out: an array, one object a line, objects one after another, an object that holds a list.

A module of its own because Python's json reads a whole text or nothing: here each row is decoded alone and known by its line.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import MAX_DEPTH, check_depth

Lines = Iterator[tuple[int, str]]
Rows = Iterator[tuple[str, dict[str, Any]]]

#: Keys under which one JSON object holds its rows beside other facts (a version, a licence).
_LISTS = ("data", "rows", "train", "examples", "instances", "records", "items", "questions")

#: A JSON escape of half a surrogate pair, which may or may not have its other half beside it.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"\s*")


def object_rows(path: Path, lines: Lines) -> Rows:
    """JSON Lines where the first of several lines is a whole object, else objects of any number of lines."""
    first = next(lines)
    second = next(_not_blank(lines), None)
    if second is None or not _is_json(first[1]):
        yield from _document_rows(path, _join(itertools.chain([first], [second] if second else [], lines)))
        return
    for number, line in itertools.chain([first, second], _not_blank(lines)):
        place = f"{path}:{number}"
        yield place, _row(_parse(line, place), place)


def _not_blank(lines: Lines) -> Lines:
    return ((number, line) for number, line in lines if line.strip())


def _join(lines: Lines) -> str:
    """The text of these lines, with line ends for lines that are not among them, so that lines can be counted in it."""
    parts, last = [], 0
    for number, line in lines:
        parts.append("\n" * (number - last - 1) + line)
        last = number
    return "".join(parts)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _document_rows(path: Path, text: str) -> Rows:
    """The objects of a text one after another, or the rows in the one list that a single object holds."""
    reader = _JsonText(path, text)
    place, value = reader.next_value()
    if reader.at_end():
        rows = _list_of(value, path)
        if rows is None:
            yield place, _row(value, place)
        else:
            yield from ((f"{path} row {n}", _row(row, f"{path} row {n}")) for n, row in enumerate(rows, 1))
        return
    yield place, _row(value, place)
    while not reader.at_end():
        place, value = reader.next_value()
        yield place, _row(value, place)


def _list_of(value: dict[str, Any], path: Path) -> list[Any] | None:
    """The list of rows that a single object holds, or None where the object is a row itself."""
    lists = {key: inner for key, inner in value.items() if isinstance(inner, list) and inner and _are_rows(inner)}
    named = [key for key in lists if key.lower() in _LISTS]
    if len(lists) == 1 and (named or len(value) == 1):
        return next(iter(lists.values()))
    if len(lists) > 1 and len(lists) == len(value):
        raise UserError(
            f"one object with several lists of rows ({', '.join(lists)})",
            where=path,
            hint="write each list to a file of its own",
        )
    if _is_pandas_table(value):
        raise UserError(
            "a table as pandas' to_json writes it by columns, by index or split, not a list of rows",
            where=path,
            hint="write it with to_json(…, orient='records', lines=True)",
        )
    return None


def _is_pandas_table(value: dict[str, Any]) -> bool:
    numbers = {"0", "1"}
    by_columns = len(value) > 1 and all(isinstance(column, dict) and "0" in column for column in value.values())
    by_index = numbers <= value.keys() and isinstance(value["0"], dict)
    return by_columns or by_index or value.keys() == {"columns", "index", "data"}


def _are_rows(values: list[Any]) -> bool:
    """Whether a list holds objects that are not the messages of one conversation."""
    return all(isinstance(value, dict) and not value.keys() & {"role", "from", "content", "value"} for value in values)


def array_rows(path: Path, lines: Lines) -> Rows:
    """The objects of an array, each at `FILE:LINE row N`."""
    reader = _JsonText(path, _join(lines))
    for number, (place, value) in enumerate(reader.elements(), 1):
        place = f"{place} row {number}"
        yield place, _row(value, place)


class _JsonText:
    """A JSON text whose values are decoded one by one, each with the line that it begins in."""

    def __init__(self, path: Path, text: str):
        self.path, self.text = path, text
        self._position = self._counted = 0
        self._line = 1

    def next_value(self) -> tuple[str, Any]:
        """(place, value) of the value that begins here."""
        start = self._skip_space()
        place = self._place(start)
        try:
            value, self._position = _DECODER.raw_decode(self.text, start)
        except json.JSONDecodeError as error:
            raise self._error(error.msg, error.pos) from None
        except (ValueError, RecursionError) as error:
            raise _parse_error(error, place) from None
        return place, _check_value(value, _SURROGATE.search(self.text, start, self._position) is not None, place)

    def elements(self) -> Iterator[tuple[str, Any]]:
        """(place, value) of each element of the array that begins here, up to the end of the text."""
        self._position = self._skip_space() + 1
        if self._take("]"):
            return
        while True:
            yield self.next_value()
            if self._take("]"):
                break
            if not self._take(","):
                raise self._error("expecting ',' or ']'", self._skip_space())
        if not self.at_end():
            raise self._error("more text after the array", self._position)

    def at_end(self) -> bool:
        """Whether nothing but space is left."""
        return self._skip_space() == len(self.text)

    def _take(self, letter: str) -> bool:
        if self.text.startswith(letter, self._skip_space()):
            self._position += 1
            return True
        return False

    def _skip_space(self) -> int:
        space = _SPACE.match(self.text, self._position)
        assert space is not None, "the pattern matches an empty text"
        self._position = space.end()
        return self._position

    def _place(self, position: int) -> str:
        self._line += self.text.count("\n", self._counted, position)
        self._counted = position
        return f"{self.path}:{self._line}"

    def _error(self, what: str, position: int) -> UserError:
        """Where something is missing, the line is that of the last character before it."""
        before = len(self.text[:position].rstrip())
        line = self.text.count("\n", 0, max(before - 1, 0)) + 1
        cut = not self.text[position:].strip()
        return UserError(
            f"not JSON ({what})", where=f"{self.path}:{line}", hint="the file ends too early" if cut else None
        )


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_DECODER = json.JSONDecoder(parse_constant=lambda name: None, parse_float=_finite)


def _parse(line: str, place: str) -> Any:
    try:
        value = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON ({error.msg})", where=place, hint="each line must be one JSON object, or the file one array"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _parse_error(error, place) from None
    return _check_value(value, _SURROGATE.search(line) is not None, place)


def _check_value(value: Any, with_surrogates: bool, place: str) -> Any:
    try:
        check_depth(value)
        if with_surrogates:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _parse_error(error, place) from None
    return value


def _parse_error(error: Exception, place: str) -> UserError:
    if isinstance(error, RecursionError):
        return UserError(f"JSON nested more than {MAX_DEPTH} deep", where=place)
    if isinstance(error, UnicodeEncodeError):
        return UserError("a text with a lone surrogate, which no encoding holds", where=place)
    return UserError("a number of too many digits", where=place)  # Python reads no integer of more than 4,300


def _row(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"a {type(value).__name__}, not a JSON object", where=place)
    return value
