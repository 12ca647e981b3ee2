"""A column of a row in, its text out: numbers become texts, and placeholders for an absent text are recognised.

The placeholders are data, collected from the published Alpaca file. A module of its own because instructions and records are
read by the same rules.
"""

from __future__ import annotations

import re
from typing import Any

from orca_bench.errors import UserError

#: Inputs of published sets that say that there is none (the Alpaca file has 673 of them), as `_normalize` returns them.
PLACEHOLDER_INPUTS = frozenset(
    ("no input", "noinput", "no input required", "no input needed", "no input necessary", "input not required")
    + ("none", "n/a", "na", "nan", "null", "nil", "not applicable")
)
#: Outputs that say that there is none (the Alpaca file has 37 of them).
PLACEHOLDER_OUTPUTS = frozenset(
    ("nooutput", "no output", "no output required", "no output needed", "no output necessary")
)

_IGNORED_CHARACTERS = " \t\r\n<>[](){}\\\"'`.:;,*#!?“”"
_GAP_PATTERN = re.compile(r"[\s_]+|(?<=no)-")


def column_text(row: dict[str, Any], column: str | None, where: str) -> str:
    """The text of a column: empty where the row has none, a number in its digits (18.0 as `18`).

    Raises UserError where the value is neither text nor number.
    """
    cell = row.get(column) if column is not None else None
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return str(cell)
    raise UserError(f"'{column}' is a {type(cell).__name__}, not a text", where=where)


def is_placeholder_input(value: str) -> bool:
    """Whether an input is a placeholder for no input, such as `N/A`."""
    return len(value) < 40 and _normalize(value) in PLACEHOLDER_INPUTS


def is_placeholder_output(value: str) -> bool:
    """Whether an output says that there is none, such as `<nooutput>`."""
    return len(value) < 40 and _normalize(value) in PLACEHOLDER_OUTPUTS


def _normalize(value: str) -> str:
    return _GAP_PATTERN.sub(" ", value.strip(_IGNORED_CHARACTERS).casefold())


def exclusion_reason(instruction: str, response: str, is_published: bool = True) -> str:
    """Why a row is left out, e.g. `without an answer`; empty if it is kept.

    Placeholders are recognised in published rows only, not in records: those were checked when they were written.
    """
    if not instruction.strip():
        return "without an instruction"
    if not response.strip():
        return "without an answer"
    return "with a placeholder for an answer" if is_published and is_placeholder_output(response) else ""


def rows_phrase(count: int, reason: str) -> str:
    """A number of rows and the reason why they are left out, e.g. `3 rows without an answer`."""
    return f"{count:,} {'row' if count == 1 else 'rows'} {reason}"


def is_record(row: dict[str, Any]) -> bool:
    """Whether a row is a record that orca-bench wrote: its texts were checked then and are used unchanged."""
    return {"system", "instruction", "response"} <= row.keys() and ("teacher" in row or "system_id" in row)
