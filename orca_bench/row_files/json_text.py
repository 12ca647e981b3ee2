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
from orca_bench.files import MAX_JSON_DEPTH, check_json_depth

NumberedLines = Iterator[tuple[int, str]]
LocatedRows = Iterator[tuple[str, dict[str, Any]]]

#: Keys under which one JSON object holds its rows beside other facts (a version, a licence).
_ROW_LIST_KEYS = ("data", "rows", "train", "examples", "instances", "records", "items", "questions")

#: A JSON escape of half a surrogate pair, which may or may not have its other half beside it.
_SURROGATE_PATTERN = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE_PATTERN = re.compile(r"\s*")


def object_rows(path: Path, numbered_lines: NumberedLines) -> LocatedRows:
    """JSON Lines where the first of several lines is a whole object, else objects of any number of lines."""
    first_numbered_line = next(numbered_lines)
    second_numbered_line = next(_not_blank(numbered_lines), None)
    if second_numbered_line is None or not _is_json(first_numbered_line[1]):
        yield from _document_rows(
            path,
            _join_lines(
                itertools.chain(
                    [first_numbered_line], [second_numbered_line] if second_numbered_line else [], numbered_lines
                )
            ),
        )
        return
    for line_number, line in itertools.chain([first_numbered_line, second_numbered_line], _not_blank(numbered_lines)):
        location = f"{path}:{line_number}"
        yield location, _check_row_is_object(_parse_row_text(line, location), location)


def row_spans(path: Path, json_text: str) -> list[tuple[int, int]] | None:
    """(begin, end) of each row in an array, or of each of the objects one after another; None for a list inside an object."""
    reader = _JsonText(path, json_text)
    spans: list[tuple[int, int]] = []
    if json_text.lstrip().startswith("["):
        for _ in reader.elements():
            spans.append(reader.last_span)
        return spans
    while not reader.at_end():
        _, json_value = reader.next_value()
        spans.append(reader.last_span)
    if len(spans) == 1 and _row_list_of_object(json_value, path) is not None:
        return None
    return spans


def are_json_lines(numbered_lines: NumberedLines) -> bool:
    """Whether objects stand one a line: the first of several lines is a whole object."""
    filled_lines = _not_blank(numbered_lines)
    first_line = next(filled_lines, None)
    return first_line is not None and next(filled_lines, None) is not None and _is_json(first_line[1])


def is_blank(line: str) -> bool:
    """Whether a line is passed over: it has nothing but what Python takes for space, as U+00A0 and U+3000."""
    return not line.strip()


def _not_blank(numbered_lines: NumberedLines) -> NumberedLines:
    return ((line_number, line) for line_number, line in numbered_lines if not is_blank(line))


def _join_lines(numbered_lines: NumberedLines) -> str:
    """The text of these lines, with line ends for lines that are not among them, so that lines can be counted in it."""
    line_texts, last_line_number = [], 0
    for line_number, line in numbered_lines:
        line_texts.append("\n" * (line_number - last_line_number - 1) + line)
        last_line_number = line_number
    return "".join(line_texts)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _document_rows(path: Path, json_text: str) -> LocatedRows:
    """The objects of a text one after another, or the rows in the one list that a single object holds.

    The place of an object that has its line alone is `FILE:LINE`, and `FILE:LINE row N` where several begin in the line.
    """
    reader = _JsonText(path, json_text)
    location, json_value = reader.next_value()
    if reader.at_end():
        rows = _row_list_of_object(json_value, path)
        if rows is None:
            yield location, _check_row_is_object(json_value, location)
        else:
            yield from (
                (f"{path} row {n}", _check_row_is_object(row, f"{path} row {n}")) for n, row in enumerate(rows, 1)
            )
        return
    last_location = ""
    for row_number in itertools.count(1):
        shares_line = location == last_location or reader.has_more_in_line()
        place = f"{location} row {row_number}" if shares_line else location
        yield place, _check_row_is_object(json_value, place)
        if reader.at_end():
            return
        last_location = location
        location, json_value = reader.next_value()


def _row_list_of_object(json_object: dict[str, Any], path: Path) -> list[Any] | None:
    """The list of rows that a single object holds, or None where the object is a row itself."""
    row_list_by_key = {
        key: inner_value
        for key, inner_value in json_object.items()
        if isinstance(inner_value, list) and inner_value and _are_rows(inner_value)
    }
    list_keys = [key for key in row_list_by_key if key.lower() in _ROW_LIST_KEYS]
    if len(row_list_by_key) == 1 and (list_keys or len(json_object) == 1):
        return next(iter(row_list_by_key.values()))
    if len(row_list_by_key) > 1 and len(row_list_by_key) == len(json_object):
        raise UserError(
            f"one object with several lists of rows ({', '.join(row_list_by_key)})",
            where=path,
            hint="write each list to a file of its own",
        )
    if _is_pandas_table(json_object):
        raise UserError(
            "a table as pandas' to_json writes it by columns, by index or split, not a list of rows",
            where=path,
            hint="write it with to_json(…, orient='records', lines=True)",
        )
    return None


def _is_pandas_table(json_object: dict[str, Any]) -> bool:
    first_indices = {"0", "1"}
    is_by_columns = len(json_object) > 1 and all(
        isinstance(column, dict) and "0" in column for column in json_object.values()
    )
    is_by_index = first_indices <= json_object.keys() and isinstance(json_object["0"], dict)
    return is_by_columns or is_by_index or json_object.keys() == {"columns", "index", "data"}


def _are_rows(values: list[Any]) -> bool:
    """Whether a list holds objects that are not the messages of one conversation."""
    return all(isinstance(value, dict) and not value.keys() & {"role", "from", "content", "value"} for value in values)


def array_rows(path: Path, numbered_lines: NumberedLines) -> LocatedRows:
    """The objects of an array, each at `FILE:LINE row N`."""
    reader = _JsonText(path, _join_lines(numbered_lines))
    for row_number, (location, array_element) in enumerate(reader.elements(), 1):
        location = f"{location} row {row_number}"
        yield location, _check_row_is_object(array_element, location)


class _JsonText:
    """A JSON text whose values are decoded one by one, each with the line that it begins in."""

    def __init__(self, path: Path, text: str):
        self.path, self.text = path, text
        self._position = self._counted_position = 0
        self._line_number = 1
        #: (begin, end) of the value that was decoded last.
        self.last_span = (0, 0)

    def next_value(self) -> tuple[str, Any]:
        """(place, value) of the value that begins here."""
        start = self._skip_space()
        location = self._location(start)
        try:
            json_value, self._position = _FINITE_JSON_DECODER.raw_decode(self.text, start)
        except json.JSONDecodeError as error:
            raise self._error(error.msg, error.pos) from None
        except (ValueError, RecursionError) as error:
            raise _parse_error(error, location) from None
        self.last_span = start, self._position
        return location, _check_depth_and_surrogates(
            json_value, _SURROGATE_PATTERN.search(self.text, start, self._position) is not None, location
        )

    def elements(self) -> Iterator[tuple[str, Any]]:
        """(place, value) of each element of the array that begins here, up to the end of the text."""
        self._position = self._skip_space() + 1
        if self._skip_character("]"):
            return
        while True:
            yield self.next_value()
            if self._skip_character("]"):
                break
            if not self._skip_character(","):
                raise self._error("expecting ',' or ']'", self._skip_space())
        if not self.at_end():
            raise self._error("more text after the array", self._position)

    def at_end(self) -> bool:
        """Whether nothing but space is left."""
        return self._skip_space() == len(self.text)

    def has_more_in_line(self) -> bool:
        """Whether another value begins in the line in which the last one began."""
        return not self.at_end() and self.text.find("\n", self.last_span[0], self._position) < 0

    def _skip_character(self, character: str) -> bool:
        if self.text.startswith(character, self._skip_space()):
            self._position += 1
            return True
        return False

    def _skip_space(self) -> int:
        space = _SPACE_PATTERN.match(self.text, self._position)
        assert space is not None, "the pattern matches an empty text"
        self._position = space.end()
        return self._position

    def _location(self, position: int) -> str:
        self._line_number += self.text.count("\n", self._counted_position, position)
        self._counted_position = position
        return f"{self.path}:{self._line_number}"

    def _error(self, problem: str, position: int) -> UserError:
        """Where something is missing, the line is that of the last character before it."""
        text_end = len(self.text[:position].rstrip())
        line_number = self.text.count("\n", 0, max(text_end - 1, 0)) + 1
        is_cut_off = not self.text[position:].strip()
        return UserError(
            f"not JSON ({problem})",
            where=f"{self.path}:{line_number}",
            hint="the file ends too early" if is_cut_off else None,
        )


def _parse_finite(number_text: str) -> float | None:
    number = float(number_text)
    return number if math.isfinite(number) else None


_FINITE_JSON_DECODER = json.JSONDecoder(parse_constant=lambda name: None, parse_float=_parse_finite)


def _parse_row_text(row_text: str, location: str) -> Any:
    try:
        row_value = _FINITE_JSON_DECODER.decode(row_text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON ({error.msg})", where=location, hint="each line must be one JSON object, or the file one array"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _parse_error(error, location) from None
    return _check_depth_and_surrogates(row_value, _SURROGATE_PATTERN.search(row_text) is not None, location)


def _check_depth_and_surrogates(json_value: Any, may_hold_surrogates: bool, location: str) -> Any:
    try:
        check_json_depth(json_value)
        if may_hold_surrogates:
            json.dumps(json_value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _parse_error(error, location) from None
    return json_value


def _parse_error(error: Exception, location: str) -> UserError:
    if isinstance(error, RecursionError):
        return UserError(f"JSON nested more than {MAX_JSON_DEPTH} deep", where=location)
    if isinstance(error, UnicodeEncodeError):
        return UserError("a text with a lone surrogate, which no encoding holds", where=location)
    return UserError("a number of too many digits", where=location)  # Python reads no integer of more than 4,300


def _check_row_is_object(row_value: Any, location: str) -> dict[str, Any]:
    if not isinstance(row_value, dict):
        raise UserError(f"a {type(row_value).__name__}, not a JSON object", where=location)
    return row_value
