"""YAML text in, plain Python values and the line of each key out; plain values in, YAML text out.

ruamel.yaml reads (YAML 1.2: `2e-5` is a number, `no` is a text, a key given twice is an error). Its round-trip mode alone has
line marks, and gives values of types of its own: they are made plain here, and what it accepts and no recipe or rule can mean
is refused: an alias cycle, aliases that multiply without bound, a key that is no text, a tag of another program.
"""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError, Where

if TYPE_CHECKING:
    from ruamel.yaml import YAML

#: The place of a value: the keys that lead to it.
KeyPath = tuple[str, ...]
_MAX_VALUE_COUNT = 100_000  # aliases of aliases can stand for more values than fit into memory


def read_yaml_file(
    path: Path, content_name: str, missing_file_hint: str | None = None
) -> tuple[Any, dict[KeyPath, int]]:
    """The value of a YAML file and the line, from 1, of each key; `content_name` names the file's kind in an error.

    `missing_file_hint` says what would be right where there is no such file. Raises UserError, with file and line, for a file
    that cannot be read and for text that is no YAML.
    """
    try:
        yaml_text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no such {content_name}", where=path, hint=missing_file_hint) from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text ({error.reason})", where=path, hint="save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read this {content_name}: {error.strerror or error}", where=path) from None
    except ValueError as error:  # a path with a null character
        raise UserError(f"cannot read this {content_name}: {error}", where=repr(str(path))) from None
    return parse_yaml(yaml_text, path)


def parse_yaml(yaml_text: str, where: Where, first_line: int = 1) -> tuple[Any, dict[KeyPath, int]]:
    """The value of some YAML text and the line of each key; the text begins at line `first_line` of the file `where`."""
    round_trip_tree = load_round_trip(yaml_text, where, first_line)
    return _PlainValues(where, first_line).convert(round_trip_tree)


def load_round_trip(yaml_text: str, where: Where, first_line: int = 1) -> Any:
    """The text as ruamel.yaml's own round-trip values, which keep comments and order."""
    from ruamel.yaml.error import YAMLError

    try:
        _refuse_cycles(_round_trip_yaml().compose(yaml_text), where, first_line, {})
        return _round_trip_yaml().load(yaml_text)
    except UserError:
        raise
    except YAMLError as error:
        error_mark = getattr(error, "problem_mark", None)
        file_location = where if error_mark is None else f"{where}:{error_mark.line + first_line}"
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"not YAML: {problem.splitlines()[0]}", where=file_location) from None
    except RecursionError:
        raise UserError("not YAML: nested too deeply", where=where) from None
    except Exception as error:  # ruamel.yaml 0.19.1 raises errors of any type for a malformed number or date
        raise UserError(f"not YAML: {str(error) or type(error).__name__}", where=where) from None


def _refuse_cycles(node: Any, where: Where, first_line: int, is_walked_by_id: dict[int, bool]) -> None:
    """Raise UserError where a node contains itself: ruamel.yaml 0.19.1 builds such a mapping, and of a list makes None.

    `is_walked_by_id` says of each node's id whether the walk below it is over, so that each node is walked once.
    """
    if node is None or isinstance(node.value, str) or not node.value:
        return
    if id(node) in is_walked_by_id:
        if not is_walked_by_id[id(node)]:
            raise UserError("an alias that contains itself", where=f"{where}:{node.start_mark.line + first_line}")
        return
    is_walked_by_id[id(node)] = False
    for child in node.value:
        for node_part in child if isinstance(child, tuple) else (child,):
            _refuse_cycles(node_part, where, first_line, is_walked_by_id)
    is_walked_by_id[id(node)] = True


def to_yaml_text(value: Any) -> str:
    """A value as YAML text, in blocks, keys in their order."""
    text_buffer = io.StringIO()
    _round_trip_yaml().dump(value, text_buffer)
    return text_buffer.getvalue()


def _round_trip_yaml() -> YAML:
    from ruamel.yaml import YAML

    round_trip_yaml = YAML(typ="rt")
    round_trip_yaml.width = 10_000
    round_trip_yaml.allow_unicode = True
    round_trip_yaml.preserve_quotes = True
    return round_trip_yaml


class _PlainValues:
    """Turns one tree of ruamel.yaml into plain values, and notes the line of each key."""

    def __init__(self, where: Where, first_line: int):
        self._where, self._first_line = where, first_line
        self._line_by_key: dict[KeyPath, int] = {}
        self._value_count = 0

    def convert(self, round_trip_tree: Any) -> tuple[Any, dict[KeyPath, int]]:
        """The tree as plain values, and the line of each key."""
        try:
            return self._plain_value(round_trip_tree, ()), self._line_by_key
        except RecursionError:
            raise UserError("nested too deeply", where=self._where) from None

    def _plain_value(self, node: Any, key_path: KeyPath) -> Any:
        self._value_count += 1
        if self._value_count > _MAX_VALUE_COUNT:
            raise UserError(f"more than {_MAX_VALUE_COUNT:,} values", where=self._where, hint="aliases multiply values")
        if isinstance(node, (dict, list)):
            return self._plain_collection(node, key_path)
        for value_type in (bool, int, float, str):  # bool before int: it is one
            if isinstance(node, value_type):
                return value_type(node)
        if node is None or isinstance(node, (datetime.date, datetime.datetime)):
            return node
        if type(node).__name__ == "ScalarBoolean":  # an anchored one; ruamel.yaml 0.19.1 makes it an int
            return bool(node)
        raise UserError(
            f"a value of a kind that is not read here ({type(node).__name__})", where=self._file_location(key_path)
        )

    def _plain_collection(self, node: dict[Any, Any] | list[Any], key_path: KeyPath) -> dict[str, Any] | list[Any]:
        if isinstance(node, list):
            return [self._plain_value(item, key_path) for item in node]
        plain_values = {}
        for key, item in node.items():
            if not isinstance(key, str):
                raise UserError(
                    f"the key {key!r} is no text", where=self._file_location(key_path), hint="put it in quotes"
                )
            inner_path = (*key_path, str(key))
            self._note_line(node, key, inner_path)
            plain_values[str(key)] = self._plain_value(item, inner_path)
        return plain_values

    def _note_line(self, node: dict[Any, Any], key: str, key_path: KeyPath) -> None:
        line_marks = getattr(node, "lc", None)
        if line_marks is not None and line_marks.data and key in line_marks.data:
            self._line_by_key[key_path] = line_marks.data[key][0] + self._first_line

    def _file_location(self, key_path: KeyPath) -> str:
        line_number = next(
            (self._line_by_key[key_path[:n]] for n in range(len(key_path), 0, -1) if key_path[:n] in self._line_by_key),
            None,
        )
        file_location = str(self._where) if line_number is None else f"{self._where}:{line_number}"
        return f"{file_location}: {'.'.join(key_path)}" if key_path else file_location
