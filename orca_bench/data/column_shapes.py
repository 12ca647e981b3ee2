"""The columns in which instruction sets are published, as data: a row's columns in, what each of them holds out.

A module of its own because a new instruction set needs a new line in this table and no other change.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import Any

from orca_bench.errors import UserError, spelling_hint


@dataclasses.dataclass(frozen=True)
class ColumnShape:
    """Which column of a row holds what; None where there is no such column.

    `turns` holds a list of messages, `reasoning` the steps before the response. `assigns_system` says that a row without a
    system message gets one by the policy, as the card's sources do; rows of other sets are somebody's own. Where a set has
    column names that are common, `response_mark` is a text that only its responses have.
    """

    name: str
    instruction: str | None = None
    response: str | None = None
    input: str | None = None
    system: str | None = None
    reasoning: str | None = None
    turns: str | None = None
    assigns_system: bool = False
    response_mark: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the shape names."""
        return frozenset(
            column for field, column in dataclasses.asdict(self).items() if field in SHAPE_FIELDS and column
        )


#: What a column can hold, in the words of `--map`; `messages` is `turns`.
SHAPE_FIELDS = ("instruction", "response", "input", "system", "reasoning", "turns")

#: A row is of a shape where it has all of its columns; other columns do no harm, but for those in `_QUESTION_COLUMNS`.
KNOWN_COLUMN_SHAPES = (
    ColumnShape("Alpaca, WizardLM, Orca sets", "instruction", "output", assigns_system=True),
    ColumnShape("Dolly", "instruction", "response", "context", assigns_system=True),
    ColumnShape("records", "instruction", "response"),
    ColumnShape("FLAN's chain of thought", "question", "answer", reasoning="chain_of_thought", assigns_system=True),
    ColumnShape("GSM8K", "question", "answer", assigns_system=True, response_mark="####"),
    ColumnShape("FLAN", "inputs", "targets", assigns_system=True),
    ColumnShape("OpenOrca", "question", "response"),
    ColumnShape("prompts", "prompt", "completion"),
    ColumnShape("prompts", "prompt", "response"),
    ColumnShape("instructions", "instruction", "completion"),
    ColumnShape("instructions", "instruction", "answer"),
    ColumnShape("chat", turns="messages"),
    ColumnShape("ShareGPT", turns="conversations"),
)

#: Columns that any shape may have beside its own.
_INPUT_COLUMNS = ("input", "context")
_SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")

#: Columns that belong to a question: a row with one of them cannot be read as an instruction without it.
_QUESTION_COLUMNS = ("choices", "options", "passage", "document", "paragraph", "article", "endings")

_MAP_OPTION_HINT = (
    "say which columns to read: --map instruction=COLUMN,response=COLUMN (and input=, system=, messages=)"
)


@functools.lru_cache(maxsize=1024)
def shape_of_columns(columns: tuple[str, ...]) -> ColumnShape:
    """The shape of a row with these columns, whose case does not matter; its columns are named as in the row.

    Raises UserError, without a place, for columns of no known shape and of more than one.
    """
    row_column_by_name = {name.strip().lower(): name for name in columns} | {name: name for name in columns}
    fitting_shapes = [shape for shape in KNOWN_COLUMN_SHAPES if shape.columns <= set(row_column_by_name)]
    fitting_shapes = [
        shape
        for shape in fitting_shapes
        if not any(shape.columns < other_shape.columns for other_shape in fitting_shapes)
    ]
    if not fitting_shapes:
        raise UserError(
            f"columns {', '.join(columns) or '(none)'} are those of no known instruction set",
            hint=f"{_MAP_OPTION_HINT}; orca-bench data convert --help has the known ones",
        )
    if len(fitting_shapes) > 1:
        shape_descriptions = " or ".join(
            f"{', '.join(sorted(shape.columns))} ({shape.name})" for shape in fitting_shapes
        )
        raise UserError(f"columns can be read as {shape_descriptions}", hint=_MAP_OPTION_HINT)
    shape = fitting_shapes[0]
    question_column = next((column for column in _QUESTION_COLUMNS if column in row_column_by_name), None)
    if question_column:
        raise UserError(f"column '{question_column}' would be left out of the instruction", hint=_MAP_OPTION_HINT)
    optional_column_by_field = {
        "input": _only_present_column(_INPUT_COLUMNS, row_column_by_name, shape),
        "system": _only_present_column(_SYSTEM_COLUMNS, row_column_by_name, shape),
    }
    own_column_by_field = {
        field: row_column_by_name[column] for field in SHAPE_FIELDS if (column := getattr(shape, field))
    }
    row_column_by_field: dict[str, Any] = {
        field: column for field, column in optional_column_by_field.items() if column
    } | own_column_by_field
    return dataclasses.replace(shape, **row_column_by_field)


def _only_present_column(
    candidate_columns: Iterable[str], row_column_by_name: dict[str, str], shape: ColumnShape
) -> str | None:
    present_columns = [
        row_column_by_name[column]
        for column in candidate_columns
        if column in row_column_by_name and column not in shape.columns
    ]
    if len(present_columns) > 1:
        raise UserError(
            f"columns {' and '.join(present_columns)} can be read as one and the same", hint=_MAP_OPTION_HINT
        )
    return present_columns[0] if present_columns else None


def shape_of_options(map_options: Iterable[str]) -> ColumnShape | None:
    """The shape that `--map` describes (`instruction=COLUMN,response=COLUMN`), or None where there is no option.

    Raises UserError where it is not such a list.
    """
    column_by_field: dict[str, Any] = {}
    option_keys = ("instruction", "input", "response", "system", "messages")
    for option in map_options:
        for key_and_column in re.split(rf",\s*(?=(?:{'|'.join(option_keys)})\s*=)", option):
            key, separator, column = (pair_part.strip() for pair_part in key_and_column.partition("="))
            if not separator or not column or key not in option_keys:
                hint = (
                    spelling_hint(key, option_keys)
                    or f"e.g. instruction=prompt,response=answer; keys are {', '.join(option_keys)}"
                )
                raise UserError(f"'{key_and_column}' does not say where something is", where="--map", hint=hint)
            if column_by_field.setdefault("turns" if key == "messages" else key, column) != column:
                raise UserError(f"'{key}' twice", where="--map")
    if not column_by_field:
        return None
    if "turns" not in column_by_field and not {"instruction", "response"} <= set(column_by_field):
        raise UserError("instruction and response are needed", where="--map", hint="instruction=COLUMN,response=COLUMN")
    if "turns" in column_by_field and set(column_by_field) & {"instruction", "response", "input"}:
        raise UserError("messages hold instruction and response already", where="--map")
    return ColumnShape("--map", **column_by_field)
