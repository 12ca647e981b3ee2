"""Instruction files in, instructions out: the same five texts for any columns, and the reason where a row has no instruction.

A row's columns decide which set it is of (`column_shapes`); file names do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench import row_files, row_texts
from orca_bench.data import column_shapes
from orca_bench.data.conversations import exchange_of_messages
from orca_bench.errors import UserError, spelling_hint


@dataclass(frozen=True)
class Instruction:
    """One instruction with its optional input, the reference answer, and where it came from.

    `system_text` is the row's own system message, None where it has none; `gets_assigned_system` says that it gets one by the
    policy then. `exclusion_reason` says why this row is left out, e.g. `without an answer`, and is empty if it is kept.
    `has_placeholder_input` says that its input was a word for no input. `further_columns` are those of a row that is a record
    already.
    """

    instruction_text: str
    input_text: str
    reference_answer: str
    source_name: str
    row_number: int
    location: str
    system_text: str | None = None
    gets_assigned_system: bool = False
    exclusion_reason: str = ""
    has_placeholder_input: bool = False
    further_columns: dict[str, Any] = field(default_factory=dict)


def read_instructions(
    path_or_pattern: Path, column_shape: column_shapes.ColumnShape | None = None
) -> Iterator[Instruction]:
    """The instructions of a file, of the files in a folder, or of those that a pattern matches; rows counted from 1.

    `column_shape` says which columns to read, where they are not those of a known set. Raises UserError, with file and place, for
    rows of an unknown shape and what `row_files.read_rows` cannot read.
    """
    row_number, source_name = 0, source_name_of(path_or_pattern)
    for file in row_files.data_files_of(path_or_pattern):
        for location, row in row_files.read_rows(file):
            row_number += 1
            yield instruction_of_row(row, location, column_shape, source_name, row_number)


def instruction_of_row(
    row: dict[str, Any],
    location: str,
    column_shape: column_shapes.ColumnShape | None = None,
    source_name: str = "",
    row_number: int = 0,
) -> Instruction:
    """The instruction of one row of a file, as `read_instructions` gives it; raises UserError likewise."""
    return _to_instruction(row, _shape_of_row(row, column_shape, location), source_name, row_number, location)


def text_columns_of_row(row: dict[str, Any], location: str) -> frozenset[str]:
    """The columns of a row that `instruction_of_row` reads; raises UserError likewise."""
    return _shape_of_row(row, None, location).columns


def source_name_of(path: Path) -> str:
    """The source name of the records of a path: its name, or that of a folder above it where it is generic (`train`)."""
    path = path.absolute()
    candidate_names = [row_files.data_file_stem(path), *(parent.name for parent in path.parents)]
    return next(
        (name for name in candidate_names if name and name.lower() not in _GENERIC_SOURCE_NAMES and "*" not in name),
        "rows",
    )


_GENERIC_SOURCE_NAMES = (
    "train",
    "test",
    "validation",
    "data",
    "default",
    "main",
    "all",
    "plain_text",
    "0000",
    ".",
    "..",
)


def _shape_of_row(
    row: dict[str, Any], requested_shape: column_shapes.ColumnShape | None, location: str
) -> column_shapes.ColumnShape:
    if requested_shape is not None:
        absent_column = next((column for column in sorted(requested_shape.columns) if column not in row), None)
        if absent_column is not None:
            hint = spelling_hint(absent_column, row) or f"columns here: {', '.join(row)}"
            raise UserError(
                f"no column '{absent_column}', which {requested_shape.name} names", where=location, hint=hint
            )
        return requested_shape
    try:
        return column_shapes.shape_of_columns(tuple(row))
    except UserError as error:
        try:  # sets that were joined have all columns, and None in those of the other sets
            return column_shapes.shape_of_columns(tuple(column for column, value in row.items() if value is not None))
        except UserError:
            raise UserError(error.problem, where=location, hint=error.hint) from None


def _to_instruction(
    row: dict[str, Any], shape: column_shapes.ColumnShape, source_name: str, row_number: int, location: str
) -> Instruction:
    system_text = (
        None
        if shape.system is None or row[shape.system] is None
        else row_texts.column_text(row, shape.system, location)
    )
    messages = _messages_of_row(row, shape)
    if messages is not None:
        parsed_exchange = exchange_of_messages(messages, location)
        problem = parsed_exchange.problem or row_texts.exclusion_reason(
            parsed_exchange.user_text, parsed_exchange.assistant_text
        )
        system_text = system_text if parsed_exchange.system_text is None else parsed_exchange.system_text
        return Instruction(
            parsed_exchange.user_text,
            "",
            parsed_exchange.assistant_text,
            source_name,
            row_number,
            location,
            system_text,
            exclusion_reason=problem,
        )
    instruction_text, response_text, input_text = (
        row_texts.column_text(row, column, location) for column in (shape.instruction, shape.response, shape.input)
    )
    is_record = row_texts.is_record(row)
    problem = row_texts.exclusion_reason(instruction_text, response_text, is_published_row=not is_record)
    if shape.reasoning is not None:
        reasoning_text = row_texts.column_text(row, shape.reasoning, location)
        response_text = (
            f"{reasoning_text}\nThe answer is {response_text}"
            if reasoning_text.strip()
            else f"The answer is {response_text}"
        )
    if is_record:
        further_columns = _further_columns(row, system_text, location)
        return Instruction(
            instruction_text,
            input_text,
            response_text,
            source_name,
            row_number,
            location,
            system_text,
            exclusion_reason=problem,
            further_columns=further_columns,
        )
    has_placeholder_input = row_texts.is_placeholder_input(input_text)
    input_text = "" if has_placeholder_input or not input_text.strip() else input_text
    gets_assigned_system = shape.assigns_system and shape.response_mark in response_text
    return Instruction(
        instruction_text,
        input_text,
        response_text,
        source_name,
        row_number,
        location,
        system_text,
        gets_assigned_system,
        problem,
        has_placeholder_input=has_placeholder_input,
    )


def _further_columns(row: dict[str, Any], system_text: str | None, location: str) -> dict[str, Any]:
    """The columns of a record beside its texts; the id of a system message only where it has one."""
    text_columns = ("system", "instruction", "input", "response", *(() if system_text is not None else ("system_id",)))
    further_columns = {
        column: value for column, value in row.items() if column not in text_columns and value is not None
    }
    return (
        further_columns | {"id": row_texts.column_text(row, "id", location)}
        if "id" in further_columns
        else further_columns
    )


def _messages_of_row(row: dict[str, Any], shape: column_shapes.ColumnShape) -> Any:
    """The value of a row that holds a conversation; None for a row of texts."""
    if shape.turns is not None:
        return [] if row[shape.turns] is None else row[shape.turns]
    prompt, completion = row.get(shape.instruction or ""), row.get(shape.response or "")
    if isinstance(prompt, list) and isinstance(completion, list):  # prompt and completion as messages, as TRL has them
        return prompt + completion
    return None
