"""Instruction files in, instructions out: the columns of Alpaca, Dolly, GSM8K and FLAN's chain-of-thought sets.

A row's columns say which set it is; nothing is guessed from file names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import read_json_lines


@dataclass(frozen=True)
class Instruction:
    """One instruction with its optional input, the reference answer, and where it came from."""

    instruction: str
    input: str
    reference: str
    source: str
    row: int


#: Columns that tell a set: the ones it has, then where instruction, input and reference stand.
_SETS = (
    (
        {"instruction", "input", "output"},
        ("instruction", "input", "output"),
    ),  # Alpaca, WizardLM, the published Orca sets
    ({"instruction", "context", "response"}, ("instruction", "context", "response")),  # Dolly
    ({"question", "answer", "chain_of_thought"}, ("question", None, None)),  # FLAN's CoT: reasoning, then the answer
    ({"question", "answer"}, ("question", None, "answer")),  # GSM8K: the worked answer
)


def read(path: Path) -> Iterator[Instruction]:
    """The instructions of a JSON Lines file, gzip or not; the reference is empty where the row has none.

    Raises UserError, with file and line, for rows of an unknown shape.
    """
    empty = True
    for line, row in read_json_lines(path):
        empty = False
        yield _instruction(row, path, line)
    if empty:
        raise UserError("no rows", where=path)


def _instruction(row: dict, path: Path, line: int) -> Instruction:
    places = next((places for columns, places in _SETS if columns <= set(row)), None)
    if places is None:
        shapes = "; ".join(", ".join(sorted(columns)) for columns, _ in _SETS)
        raise UserError(
            f"columns {', '.join(map(str, row))} are those of no known instruction set",
            where=f"{path}:{line}",
            hint=f"known: {shapes}",
        )

    instruction, context, reference = places

    def text(column: str | None) -> str:
        value = row.get(column) if column else ""
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UserError(f"'{column}' is a {type(value).__name__}, not a text", where=f"{path}:{line}")
        return value

    answer = text(reference) if reference else f"{text('chain_of_thought')}\nThe answer is {text('answer')}"
    return Instruction(text(instruction), text(context), answer, path.parent.name or path.stem, line)
