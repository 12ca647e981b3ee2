"""A file of instructions in, a file of the answers of one or several models out, an answer a line.

A line of answers is a record: it can be checked, converted and trained on; its `teacher` is the model, and its `id` that of the
instruction, which the answers of several models have in common. Each answer is written as soon as it is there, and answers that a
file has already are not computed again. Its own module because one instruction (text_generation.py) is streamed and kept
nowhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.cards import markdown
from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_read_errors, catch_write_errors, json_line, make_writable_folder, read_json_lines
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_identity import weights_sha256
from orca_bench.sampling_by_hash import sample_by_hash
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator
from orca_bench.system_messages import system_message

#: The keys that are read of a line of instructions.
_READ_KEYS = ("instruction", "input", "system", "id")
#: Further keys of records, which are no misspellings of these.
_RECORD_KEYS = ("system_id", "source", "teacher", "response", "output", "answered_with", "was_cut")
#: Gets the number of answers that are there, and of all.
ReportProgress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Instruction:
    """What a model is to answer: its id in the file (else its line), the system message, and an input, which may be empty."""

    id: str
    system: str
    instruction: str
    input: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer of one model to one instruction; `was_cut` says that it had not ended after `max_new_tokens`."""

    instruction: Instruction
    model_name: str
    response: str
    was_cut: bool


def read_instruction_file(path: Path, default_system: str) -> list[Instruction]:
    """The instructions of a file of JSON Lines, with the keys `instruction`, and if wanted `input`, `system` and `id`.

    `default_system` stands for a line without `system`, which is a text or an id of the Orca paper; other keys are passed over,
    so that a file of records can be read. Raises UserError, with file and line, for a line that is no instruction, and for a key
    that looks like a misspelled one.
    """
    instructions = [
        _instruction(line, f"{path}:{line_number}", line_number, default_system)
        for line_number, line in read_json_lines(path)
    ]
    if not instructions:
        raise UserError("no instruction in this file", where=path, hint='a line is {"instruction": "…"}')
    first_line_by_id: dict[str, int] = {}
    for number, instruction in enumerate(instructions, 1):
        first = first_line_by_id.setdefault(instruction.id, number)
        if first != number:
            raise UserError(f"instructions {first} and {number} have the id '{instruction.id}'", where=path)
    return instructions


def _instruction(line: Mapping[str, Any], where: str, line_number: int, default_system: str) -> Instruction:
    for key in line.keys() - {*_READ_KEYS, *_RECORD_KEYS}:
        if similar_keys := difflib.get_close_matches(key, _READ_KEYS, n=1, cutoff=0.8):
            raise UserError(f"unknown key '{key}'", where=where, hint=f"did you mean '{similar_keys[0]}'?")
    texts = {}
    for key in ("instruction", "input"):
        value = line.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(f"'{key}' is no text", where=where)
        texts[key] = value or ""
    if not texts["instruction"].strip():
        raise UserError("no instruction", where=where, hint='a line is {"instruction": "…"}')
    system, id_ = line.get("system"), line.get("id")
    if isinstance(system, bool) or not isinstance(system, str | int | None):
        raise UserError("'system' is no text", where=where, hint="give a text, or an id of the Orca paper")
    if isinstance(id_, bool) or not isinstance(id_, str | int | None):
        raise UserError("'id' is no text and no whole number", where=where)
    system_text = default_system if system is None else system_message(system, f"{where}: 'system'")
    instruction = Instruction(str(line_number if id_ is None else id_), system_text, **texts)
    try:
        "".join(dataclasses.astuple(instruction)).encode()
    except UnicodeEncodeError:
        raise UserError("half of a surrogate pair, which is no character", where=where) from None
    return instruction


def sample_instructions(instructions: Sequence[Instruction], count: int, seed: int) -> list[Instruction]:
    """`count` of the instructions (all, where they are fewer) in their order: the smallest hashes of seed and texts."""

    def text_hash(instruction: Instruction) -> int:
        texts = (str(seed), instruction.system, instruction.instruction, instruction.input)
        return int.from_bytes(hashlib.sha256("\0".join(texts).encode()).digest(), "big")

    return sample_by_hash(instructions, count, text_hash)


class AnswerFile:
    """The file of answers: those that are there, and one line more for each that is computed.

    Raises UserError where a file that is no file of answers has its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_writable_folder(path.parent)
        self._line_by_key: dict[str, dict[str, Any]] = {}
        #: Where half a line begins that a killed command left at the end, in bytes; the next answer is written over it.
        self._half_line_start: int | None = None
        self._lacks_last_newline = False
        if path.is_file():
            self._read()

    def _read(self) -> None:
        """Read the answers that are there; the file stays as it is."""
        with catch_read_errors(self.path):
            content = self.path.read_bytes()
        *lines, last_line = content.split(b"\n")
        for line_number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if (answer := _answer_of_line(line)) is None:
                where = f"{self.path}:{line_number}"
                raise UserError("not a line of answers", where=where, hint="name another file with --out")
            self._line_by_key[_key(answer)] = answer
        if not last_line.strip():
            return
        if (last_answer := _answer_of_line(last_line)) is not None:
            self._line_by_key[_key(last_answer)] = last_answer
            self._lacks_last_newline = True
        elif self._line_by_key:
            self._half_line_start = len(content) - len(last_line)
        else:
            raise UserError("not a file of answers", where=self.path, hint="name another file with --out")

    def answer_all(
        self, instructions: Sequence[Instruction], model_folder: ModelFolder, sampling: Sampling, report: ReportProgress
    ) -> list[Answer]:
        """The answers of a model to all instructions; those that the file does not have are computed and appended."""
        generator = Generator(model_folder)
        settings = dataclasses.asdict(sampling) | {"weights_sha256": weights_sha256(generator.model)}
        answers = []
        for number, instruction in enumerate(instructions, 1):
            line = _line_without_answer(instruction, model_folder.name, settings)
            if (known_line := self._line_by_key.get(_key(line))) is None:
                texts = generator.answer(instruction.system, instruction.instruction, instruction.input, sampling)
                line |= {"response": "".join(texts), "was_cut": generator.has_run_out}
                self._append(line)
            else:
                line = known_line
            answers.append(Answer(instruction, model_folder.name, line["response"], bool(line.get("was_cut"))))
            report(number, len(instructions))
        return answers

    def _append(self, line: dict[str, Any]) -> None:
        with catch_write_errors(self.path), open(self.path, "ab") as handle:
            if self._half_line_start is not None:
                handle.truncate(self._half_line_start)
            handle.write((("\n" if self._lacks_last_newline else "") + json_line(line)).encode())
        self._half_line_start, self._lacks_last_newline = None, False
        self._line_by_key[_key(line)] = line


def _answer_of_line(line: bytes) -> dict[str, Any] | None:
    """The answer in a line of a file of answers; None where the line has none."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, or no UTF-8
        return None
    is_answer = (
        isinstance(answer, dict)
        and isinstance(answer.get("response"), str)
        and isinstance(answer.get("answered_with"), dict)
    )
    return answer if is_answer else None


def _line_without_answer(instruction: Instruction, model_name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return dataclasses.asdict(instruction) | {"teacher": model_name, "answered_with": dict(settings)}


def _key(line: Mapping[str, Any]) -> str:
    """What two lines of the same answer have in common: all but the answer, and its number in the file."""
    names = ("system", "instruction", "input", "teacher", "answered_with")
    return json.dumps([line.get(name) for name in names], sort_keys=True)


def answers_markdown(answers: Iterable[Answer]) -> str:
    """The answers of one or several models as Markdown: each instruction, and below it a block of text for each model."""
    answers_by_instruction: dict[Instruction, list[Answer]] = {}
    for answer in answers:
        answers_by_instruction.setdefault(answer.instruction, []).append(answer)
    sections = (
        "\n".join(_section_lines(number, instruction, own_answers))
        for number, (instruction, own_answers) in enumerate(answers_by_instruction.items(), 1)
    )
    return "\n".join(sections)


def _section_lines(number: int, instruction: Instruction, answers: Sequence[Answer]) -> Iterator[str]:
    yield f"### {number}. {markdown.escape(one_line(instruction.instruction), begins_block=False)}\n"
    system_text = markdown.plain(instruction.system) or "none"
    yield f"System message: {system_text}\n"
    if instruction.input:
        yield f"Input:\n\n{markdown.code_block(instruction.input, 'text')}"
    for answer in answers:
        note = ", cut at its greatest length" if answer.was_cut else ""
        yield f"{markdown.plain(answer.model_name)}{note}:\n\n{markdown.code_block(answer.response, 'text')}"
