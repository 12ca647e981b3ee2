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
from orca_bench.data.conversations import exchange
from orca_bench.errors import UserError, nearest


@dataclass(frozen=True)
class Instruction:
    """One instruction with its optional input, the reference answer, and where it came from.

    `system` is the row's own system message, None where it has none; `assigns_system` says that it gets one by the policy
    then. `problem` says why this row is left out, e.g. `without an answer`, and is empty if it is kept. `placeholder` says
    that its input was a word for no input. `further_columns` are those of a row that is a record already.
    """

    instruction: str
    input: str
    reference: str
    source: str
    row: int
    place: str
    system: str | None = None
    assigns_system: bool = False
    problem: str = ""
    placeholder: bool = False
    further_columns: dict[str, Any] = field(default_factory=dict)


def read(path: Path, mapping: column_shapes.Shape | None = None) -> Iterator[Instruction]:
    """The instructions of a file, of the files in a folder, or of those that a pattern matches; rows counted from 1.

    `mapping` says which columns to read, where they are not those of a known set. Raises UserError, with file and place, for
    rows of an unknown shape and what `row_files.read` cannot read.
    """
    number, source = 0, source_of(path)
    for file in row_files.files_of(path):
        for place, row in row_files.read(file):
            number += 1
            yield _instruction(row, _shape(row, mapping, place), source, number, place)


def source_of(path: Path) -> str:
    """The source name of the records of a path: its name, or that of a folder above it where it is generic (`train`)."""
    path = path.absolute()
    names = [row_files.stem(path), *(parent.name for parent in path.parents)]
    return next((name for name in names if name and name.lower() not in _GENERIC and "*" not in name), "rows")


_GENERIC = ("train", "test", "validation", "data", "default", "main", "all", "plain_text", "0000", ".", "..")


def _shape(row: dict[str, Any], mapping: column_shapes.Shape | None, place: str) -> column_shapes.Shape:
    if mapping is not None:
        absent = next((column for column in sorted(mapping.columns) if column not in row), None)
        if absent is not None:
            hint = nearest(absent, row) or f"columns here: {', '.join(row)}"
            raise UserError(f"no column '{absent}', which --map names", where=place, hint=hint)
        return mapping
    try:
        return column_shapes.of(tuple(row))
    except UserError as error:
        try:  # sets that were joined have all columns, and None in those of the other sets
            return column_shapes.of(tuple(column for column, value in row.items() if value is not None))
        except UserError:
            raise UserError(error.what, where=place, hint=error.hint) from None


def _instruction(row: dict[str, Any], shape: column_shapes.Shape, source: str, number: int, place: str) -> Instruction:
    system = None if shape.system is None or row[shape.system] is None else row_texts.text(row, shape.system, place)
    messages = _messages(row, shape)
    if messages is not None:
        turns = exchange(messages, place)
        problem = turns.problem or row_texts.exclusion_reason(turns.user, turns.assistant)
        system = system if turns.system is None else turns.system
        return Instruction(turns.user, "", turns.assistant, source, number, place, system, problem=problem)
    instruction, response, context = (
        row_texts.text(row, column, place) for column in (shape.instruction, shape.response, shape.input)
    )
    is_record = row_texts.is_record(row)
    problem = row_texts.exclusion_reason(instruction, response, published=not is_record)
    if shape.reasoning is not None:
        steps = row_texts.text(row, shape.reasoning, place)
        response = f"{steps}\nThe answer is {response}" if steps.strip() else f"The answer is {response}"
    if is_record:
        further = _further_columns(row, system, place)
        return Instruction(
            instruction, context, response, source, number, place, system, problem=problem, further_columns=further
        )
    placeholder = row_texts.is_placeholder_input(context)
    context = "" if placeholder or not context.strip() else context
    assigns_system = shape.assigns_system and shape.mark in response
    return Instruction(
        instruction, context, response, source, number, place, system, assigns_system, problem, placeholder=placeholder
    )


def _further_columns(row: dict[str, Any], system: str | None, place: str) -> dict[str, Any]:
    """The columns of a record beside its texts; the id of a system message only where it has one."""
    texts = ("system", "instruction", "input", "response", *(() if system is not None else ("system_id",)))
    further = {column: value for column, value in row.items() if column not in texts and value is not None}
    return further | {"id": row_texts.text(row, "id", place)} if "id" in further else further


def _messages(row: dict[str, Any], shape: column_shapes.Shape) -> Any:
    """The value of a row that holds a conversation; None for a row of texts."""
    if shape.turns is not None:
        return [] if row[shape.turns] is None else row[shape.turns]
    prompt, completion = row.get(shape.instruction or ""), row.get(shape.response or "")
    if isinstance(prompt, list) and isinstance(completion, list):  # prompt and completion as messages, as TRL has them
        return prompt + completion
    return None
