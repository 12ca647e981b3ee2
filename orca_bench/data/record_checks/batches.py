"""A batch of rows in, all that is checked of each of them alone out: faults, signature, length in tokens, overlap.

A `RowChecker` is made once and used by every worker process. Its own module because it is the part of a check that workers do;
what needs all records together is in record_check.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from orca_bench import prompt, row_texts
from orca_bench.data.column_shapes import ColumnShape
from orca_bench.data.conversion import default_system_text
from orca_bench.data.instructions import Instruction, instruction_of_row
from orca_bench.data.overlap.overlap_search import OverlapIndex, RecordTexts
from orca_bench.data.record_checks import finding_kinds as kinds
from orca_bench.data.record_checks.refusals import refusal_name
from orca_bench.data.record_checks.signatures import Signatures, signatures_of, text_sha256
from orca_bench.data.record_checks.truncation import lacks_end_mark, truncation_rule
from orca_bench.errors import UserError
from orca_bench.results.data_report import OverlapHit
from orca_bench.tokenizers import Tokenizer, load_tokenizer

_KIND_BY_REASON = {
    "without an instruction": kinds.EMPTY_INSTRUCTION,
    "without an answer": kinds.EMPTY_RESPONSE,
    "with a placeholder for an answer": kinds.PLACEHOLDER_RESPONSE,
}


@dataclass(frozen=True)
class RowBatch:
    """Rows of one file, by its number, with the running number of each row among those of all files and its place."""

    file_index: int
    numbers: list[int]
    locations: list[str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class BatchCheck:
    """What a batch gave.

    `file_index`, `numbers`, int64 [rows], and `locations` are those of the batch; `bits`, uint16 [rows], says what was noticed of
    each row (`BIT_BY_KEY`). Of the usable records: `usable_indices`, int64, their places in the batch; `signatures`; and
    `token_lengths`, int32, where there is a tokenizer. `row_error` is the first error of a row of unknown columns.
    """

    file_index: int
    numbers: np.ndarray
    locations: list[str]
    bits: np.ndarray
    usable_indices: np.ndarray
    signatures: Signatures
    token_lengths: np.ndarray | None
    hits: list[OverlapHit]
    row_error: UserError | None = None


class RowChecker:
    """Checks rows one batch at a time. It can be sent to another process; each process loads the tokenizer itself."""

    def __init__(
        self, overlap_index: OverlapIndex | None, tokenizer_path: Path | None, column_shape: ColumnShape | None
    ) -> None:
        self._overlap_index, self._tokenizer_path, self._column_shape = overlap_index, tokenizer_path, column_shape

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        return None if self._tokenizer_path is None else load_tokenizer(self._tokenizer_path)

    def check(self, batch: RowBatch) -> BatchCheck:
        """Check a batch; rows that are no records are faults, not errors."""
        bits: np.ndarray = np.zeros(len(batch.rows), np.uint16)
        usable_indices: list[int] = []
        instructions: list[Instruction] = []
        records: list[RecordTexts] = []
        row_error: UserError | None = None
        for index, (location, row) in enumerate(zip(batch.locations, batch.rows, strict=True)):
            try:
                instruction = instruction_of_row(row, location, self._column_shape)
            except UserError as error:
                row_error = row_error or error
                bits[index] = kinds.BIT_BY_KEY[kinds.UNKNOWN_COLUMNS.key]
                continue
            bits[index] = _fault_bits(instruction)
            if not bits[index] & kinds.UNUSABLE_BITS:
                usable_indices.append(index)
                instructions.append(instruction)
                records.append(_record_texts(instruction))
        texts = ["\n".join((record.instruction, record.input, record.response)) for record in records]
        system_texts = [instruction.system_text or "" for instruction in instructions]
        text_hashes = [
            text_sha256(system_text, record.instruction, record.input, record.response)
            for system_text, record in zip(system_texts, records, strict=True)
        ]
        hits = self._overlap_index.find(records) if self._overlap_index is not None and records else []
        index_by_location = {batch.locations[index]: index for index in usable_indices}
        assert len(index_by_location) == len(usable_indices), "every row of a file has a place of its own"
        for hit in hits:
            bits[index_by_location[hit.record]] |= kinds.BIT_BY_KEY[kinds.REMOVAL_KEY_BY_OVERLAP[hit.kind]]
        return BatchCheck(
            batch.file_index,
            np.array(batch.numbers, np.int64),
            batch.locations,
            bits,
            np.array(usable_indices, np.int64),
            signatures_of(texts, text_hashes, system_texts),
            self._token_lengths(instructions),
            hits,
            row_error,
        )

    def _token_lengths(self, instructions: Sequence[Instruction]) -> np.ndarray | None:
        """The length of each training example as train/ encodes it: BOS, prompt, response and EOS; int32 [instructions]."""
        if self._tokenizer is None:
            return None
        prompts = [
            prompt.render(default_system_text(instruction), instruction.instruction_text, instruction.input_text)
            for instruction in instructions
        ]
        prompt_ids = self._tokenizer.encode_batch(prompts)
        response_ids = self._tokenizer.encode_batch([instruction.reference_answer for instruction in instructions])
        added_count = len(self._tokenizer.prefix) + 1
        lengths = (len(ids) + len(others) + added_count for ids, others in zip(prompt_ids, response_ids, strict=True))
        return np.fromiter(lengths, np.int32, len(instructions))


def _fault_bits(instruction: Instruction) -> int:
    bits = 0
    if instruction.has_placeholder_input or row_texts.is_placeholder_input(instruction.input_text):
        bits |= kinds.BIT_BY_KEY[kinds.PLACEHOLDER_INPUT.key]
    if instruction.exclusion_reason:
        kind = _KIND_BY_REASON.get(instruction.exclusion_reason, kinds.UNUSABLE_CONVERSATION)
        return bits | kinds.BIT_BY_KEY[kind.key]
    response = instruction.reference_answer
    if refusal_name(response) is not None:
        bits |= kinds.BIT_BY_KEY[kinds.REFUSAL.key]
    if truncation_rule(response) is not None:
        bits |= kinds.BIT_BY_KEY[kinds.TRUNCATED_RESPONSE.key]
    elif lacks_end_mark(response):
        bits |= kinds.BIT_BY_KEY[kinds.UNPUNCTUATED_RESPONSE.key]
    return bits


def _record_texts(instruction: Instruction) -> RecordTexts:
    texts = (instruction.instruction_text, instruction.input_text, instruction.reference_answer)
    return RecordTexts(instruction.location, text_sha256(*texts), *texts)
