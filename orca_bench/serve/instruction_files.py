"""A file of instructions in, a file of the answers of one or several models out, an answer a line.

A line of answers is a record: it can be checked, converted and trained on; its `teacher` is the model. Each answer is written as
soon as it is there, and answers that a file has already are not computed again. Its own module because one instruction
(text_generation.py) is streamed and kept nowhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.cards import markdown
from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_write_errors, make_writable_folder, open_text_replacement, read_json_lines
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_identity import weights_sha256
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator
from orca_bench.system_messages import system_message

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
    so that a file of records can be read. Raises UserError, with file and line, for a line that is no instruction.
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
    system_text = default_system if system is None else system_message(system, f"{where}: 'system'")
    instruction = Instruction(str(line_number if id_ is None else id_), system_text, **texts)
    try:
        "".join(dataclasses.astuple(instruction)).encode()
    except UnicodeEncodeError:
        raise UserError("half of a surrogate pair, which is no character", where=where) from None
    return instruction


def sample_instructions(instructions: Sequence[Instruction], count: int, seed: int) -> list[Instruction]:
    """`count` of the instructions (all, where they are fewer) in their order: the smallest hashes of seed and texts."""

    def text_hash(instruction: Instruction) -> bytes:
        texts = (str(seed), instruction.system, instruction.instruction, instruction.input)
        return hashlib.sha256("\0".join(texts).encode()).digest()

    chosen = sorted(instructions, key=text_hash)[:count]
    return [instruction for instruction in instructions if instruction in chosen]


class AnswerFile:
    """The file of answers: those that are there, and one line more for each that is computed.

    Raises UserError where a file that is no file of answers has its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_writable_folder(path.parent)
        self._line_by_key: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        """Read the lines that are there; half a line, which a killed command left at the end, is taken away."""
        content = self.path.read_bytes()
        whole_content = content[: content.rfind(b"\n") + 1]
        if content and not whole_content:
            raise UserError("not a file of answers", where=self.path, hint="name another file with --out")
        if len(whole_content) < len(content):
            with open_text_replacement(self.path) as handle:
                handle.write(whole_content.decode("utf-8", "backslashreplace"))
        for line_number, line in read_json_lines(self.path):
            if not isinstance(line.get("response"), str) or not isinstance(line.get("answered_with"), dict):
                where = f"{self.path}:{line_number}"
                raise UserError("not a line of answers", where=where, hint="name another file with --out")
            self._line_by_key[_key(line)] = line

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
        with catch_write_errors(self.path), open(self.path, "a", encoding="utf-8", newline="\n") as handle:
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._line_by_key[_key(line)] = line


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
