"""A column of a row in, its text out: numbers become texts, and placeholders for an absent text are recognised.

The placeholders are data, collected from the published Alpaca file. A module of its own because instructions and records are
read by the same rules.
"""

from __future__ import annotations

import re
from typing import Any

from orca_bench.counts import counted
from orca_bench.errors import UserError

#: Inputs of published sets that say that there is none (the Alpaca file has 673 of them), as `_normalize_placeholder` returns
#: them.
PLACEHOLDER_INPUTS = frozenset(
    ("no input", "noinput", "no input required", "no input needed", "no input necessary", "input not required")
    + ("none", "n/a", "na", "nan", "null", "nil", "not applicable")
)
#: Outputs that say that there is none (the Alpaca file has 37 of them).
PLACEHOLDER_OUTPUTS = frozenset(
    ("nooutput", "no output", "no output required", "no output needed", "no output necessary")
)

#: Why a row has no reference answer, in the words of `exclusion_reason`.
ANSWER_REASONS = ("without an answer", "with a placeholder for an answer")

_IGNORED_CHARACTERS = " \t\r\n<>[](){}\\\"'`.:;,*#!?“”"
_GAP_PATTERN = re.compile(r"[\s_]+|(?<=no)-")


def column_text(row: dict[str, Any], column: str | None, where: str) -> str:
    """The text of a column: empty where the row has none, a number in its digits (18.0 as `18`).

    Raises UserError where the value is neither text nor number.
    """
    cell_value = row.get(column) if column is not None else None
    if cell_value is None:
        return ""
    if isinstance(cell_value, str):
        return cell_value
    if isinstance(cell_value, float) and cell_value.is_integer():
        cell_value = int(cell_value)
    if isinstance(cell_value, int | float) and not isinstance(cell_value, bool):
        return str(cell_value)
    raise UserError(f"'{column}' is a {type(cell_value).__name__}, not a text", where=where)


def is_placeholder_input(input_text: str) -> bool:
    """Whether an input is a placeholder for no input, such as `N/A`."""
    return len(input_text) < 40 and _normalize_placeholder(input_text) in PLACEHOLDER_INPUTS


def is_placeholder_output(output_text: str) -> bool:
    """Whether an output says that there is none, such as `<nooutput>`."""
    return len(output_text) < 40 and _normalize_placeholder(output_text) in PLACEHOLDER_OUTPUTS


def _normalize_placeholder(cell_text: str) -> str:
    return _GAP_PATTERN.sub(" ", cell_text.strip(_IGNORED_CHARACTERS).casefold())


def exclusion_reason(instruction: str, response: str, is_published_row: bool = True) -> str:
    """Why a row is left out, e.g. `without an answer`; empty if it is kept.

    Placeholders are recognised in published rows only, not in records: those were checked when they were written.
    """
    if not instruction.strip():
        return "without an instruction"
    if not response.strip():
        return ANSWER_REASONS[0]
    return ANSWER_REASONS[1] if is_published_row and is_placeholder_output(response) else ""


def rows_phrase(row_count: int, reason: str) -> str:
    """A number of rows and the reason why they are left out, e.g. `3 rows without an answer`."""
    return f"{counted(row_count, 'row')} {reason}"


def is_record(row: dict[str, Any]) -> bool:
    """Whether a row is a record that orca-bench wrote: its texts were checked then and are used unchanged."""
    return {"system", "instruction", "response"} <= row.keys() and ("teacher" in row or "system_id" in row)
