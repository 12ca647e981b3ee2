"""Records to token ids and a loss mask, as the card's training code did it.

BOS + prompt + response + EOS, where prompt and response are **tokenized separately** and their ids concatenated, cut at
`max_length` from the right; the loss falls on the response and EOS only. Source: yxuansu/OpenAlpaca c7cd58d,
datasets/sft_dataset.py. Evaluation in the Orca prompt concatenates the same way, or it would score token ids that
training never saw. A model without BOS gets none.

Encoding 137,000 records takes a minute, so the arrays are stored in a file. They are read from it as long as the texts, the
tokenizer and `max_length` are the same.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.files import open_binary_replacement
from orca_bench.tokenizers import Tokenizer
from orca_bench.train.record_files import Record

ReportEncodedCount = Callable[[int], None]

_RECORDS_PER_CHUNK = 1000  # records encoded between two reports of progress
_ENCODING_FORMAT_VERSION = (
    1  # of a file of encoded records, and of how a record is encoded: raised where either changes
)


class NoResponseLeft(UserError):
    """All of `record_count` records lose their whole response to the cut at `max_length` tokens.

    What decides the length is the caller's to say: a key of a recipe, an option, a model's window.
    """

    def __init__(self, record_count: int, max_length: int):
        super().__init__(f"all {record_count} records lose their whole response to the cut at {max_length} tokens")


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as flat arrays: example i is `ids[offsets[i]:offsets[i + 1]]`, its first `prompt_lengths[i]` untrained.

    ids: int32 [tokens]; offsets: int64 [examples + 1]; prompt_lengths: int32 [examples], BOS included; records: int32
    [examples], the number of the record (from 0) that each example is.
    """

    ids: np.ndarray
    offsets: np.ndarray
    prompt_lengths: np.ndarray
    records: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def example(self, index: int) -> np.ndarray:
        """The token ids of one example, int32 [length]."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, int64 [examples]."""
        return np.diff(self.offsets)

    @property
    def trained_token_counts(self) -> np.ndarray:
        """Tokens of each example on which the loss falls, int64 [examples]."""
        return self.lengths - self.prompt_lengths

    @classmethod
    def load(cls, path: Path) -> EncodedExamples:
        """Read the arrays of a file that `save_encoded_examples` wrote."""
        with np.load(path) as npz_file:
            return cls(**{name: npz_file[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class EncodingReport:
    """What the cut at `max_length` did.

    Attributes:
        records: How many records there were.
        truncated_count: How many of them are longer than `max_length`.
        dropped_records: The numbers, from 0, of the records whose response was cut away entirely.
    """

    record_count: int
    truncated_count: int
    dropped_record_indices: list[int]


def encode_records(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    max_length: int,
    report_encoded_count: ReportEncodedCount = lambda record_count: None,
) -> tuple[EncodedExamples, EncodingReport]:
    """Encode all records; `report_encoded_count(n)` is called with the number done so far.

    Records whose response is cut away entirely are left out, and the report has their numbers.
    Raises NoResponseLeft where none is left, and UserError where the tokenizer has no EOS to train.
    """
    if tokenizer.eos_id is None:
        raise UserError("this tokenizer has no EOS, so that a student would not learn to end", where=tokenizer.source)
    token_id_chunks: list[np.ndarray] = []
    example_lengths: list[int] = []
    prompt_lengths: list[int] = []
    record_indices: list[int] = []
    truncated_count, dropped_record_indices = 0, []
    for chunk_start in range(0, len(records), _RECORDS_PER_CHUNK):
        record_chunk = records[chunk_start : chunk_start + _RECORDS_PER_CHUNK]
        prompt_ids_of_chunk = tokenizer.encode_batch(
            [prompt.render(r.system, r.instruction, r.input) for r in record_chunk]
        )
        response_ids_of_chunk = tokenizer.encode_batch([r.response for r in record_chunk])
        chunk_token_ids: list[int] = []
        for record_index, (prompt_ids, response_ids) in enumerate(
            zip(prompt_ids_of_chunk, response_ids_of_chunk, strict=True), chunk_start
        ):
            example_ids, prompt_length, is_truncated = _assemble_example(
                prompt_ids, response_ids, tokenizer, max_length
            )
            truncated_count += is_truncated
            if len(example_ids) <= prompt_length:
                dropped_record_indices.append(record_index)
                continue
            chunk_token_ids += example_ids
            example_lengths.append(len(example_ids))
            prompt_lengths.append(prompt_length)
            record_indices.append(record_index)
        token_id_chunks.append(np.asarray(chunk_token_ids, dtype=np.int32))
        report_encoded_count(chunk_start + len(record_chunk))
    if not example_lengths:
        raise NoResponseLeft(len(records), max_length)
    examples = EncodedExamples(
        np.concatenate(token_id_chunks),
        np.cumsum([0, *example_lengths], dtype=np.int64),
        np.asarray(prompt_lengths, dtype=np.int32),
        np.asarray(record_indices, dtype=np.int32),
    )
    return examples, EncodingReport(len(records), truncated_count, dropped_record_indices)


def _assemble_example(
    prompt_ids: list[int], response_ids: list[int], tokenizer: Tokenizer, max_length: int
) -> tuple[list[int], int, bool]:
    """(token ids of an example, how many of them are prompt, whether it was longer than `max_length`)."""
    assert tokenizer.eos_id is not None, "`encode_records` refuses a tokenizer without EOS"
    prompt_ids = [*tokenizer.prefix, *prompt_ids]
    example_ids = [*prompt_ids, *response_ids, tokenizer.eos_id]
    return example_ids[:max_length], len(prompt_ids), len(example_ids) > max_length


def encoding_key(records: Sequence[Record], tokenizer: Tokenizer, max_length: int) -> str:
    """A SHA-256 over everything that `encode_records` computes from: every text, the tokenizer's fingerprint, `max_length`."""
    digest = hashlib.sha256(json.dumps([_ENCODING_FORMAT_VERSION, tokenizer.fingerprint, max_length]).encode())
    for record in records:
        texts = [prompt.render(record.system, record.instruction, record.input), record.response]
        digest.update(json.dumps(texts).encode())
    return digest.hexdigest()


def save_encoded_examples(path: Path, examples: EncodedExamples, report: EncodingReport, encoding_key: str) -> None:
    """Write the arrays, the report and the cache key to one .npz file, whole or not at all."""
    report_json = {
        "records": report.record_count,
        "cut": report.truncated_count,
        "dropped": report.dropped_record_indices,
    }
    with open_binary_replacement(path) as handle:
        np.savez(handle, **vars(examples), about=json.dumps({"key": encoding_key, "report": report_json}))


def load_encoded_examples(path: Path, encoding_key: str) -> tuple[EncodedExamples, EncodingReport] | None:
    """What `encode_records` would compute, read from `path`; None where that file is absent, broken or of another key."""
    try:
        with np.load(path) as npz_file:
            metadata = json.loads(str(npz_file["about"]))
            if metadata["key"] != encoding_key:
                return None
            report_json = metadata["report"]
        report = EncodingReport(report_json["records"], report_json["cut"], report_json["dropped"])
        return EncodedExamples.load(path), report
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
