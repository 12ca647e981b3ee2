"""Records to token ids and a loss mask, as the card's training code did it.

BOS + prompt + response + EOS, where prompt and response are **tokenized separately** and their ids concatenated, cut at
`max_length` from the right; the loss falls on the response and EOS only. Source: yxuansu/OpenAlpaca c7cd58d,
datasets/sft_dataset.py. Evaluation in the Orca prompt concatenates the same way, or it would score token ids that
training never saw. A model without BOS gets none.

Records come in one by one and go out in chunks, so that no more than a chunk of them is in memory. Encoding 137,000 records
takes a minute: token_files.py keeps the arrays on the disk, under the key that is computed here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.tokenizers import Tokenizer
from orca_bench.train.record_files import Record

ReportEncodedCount = Callable[[int], None]

_RECORDS_PER_CHUNK = 1000  # records in one call of the tokenizer, and between two reports of progress
_ENCODING_VERSION = (
    2  # of how a record is encoded: raised where it changes, so that tokens on the disk are encoded again
)


class NoResponseLeft(UserError):
    """All of `record_count` records lose their whole response to the cut at `max_length` tokens.

    What decides the length is the caller's to say: a key of a recipe, an option, a model's window.
    """

    def __init__(self, record_count: int, max_length: int):
        super().__init__(f"all {record_count} records lose their whole response to the cut at {max_length} tokens")


@dataclass(frozen=True)
class EncodedExamples:
    """Examples in flat arrays: example i is `ids[starts[i] : starts[i] + lengths[i]]`, its first `prompt_lengths[i]` untrained.

    ids: int32 [tokens]; starts and lengths: int64 [examples]; prompt_lengths: int32 [examples], BOS included; records: int32
    [examples], the number of the record (from 0) that each example is. The arrays may be read-only, and lie on the disk. Of a
    `subset`, `ids` has the tokens of the other examples too.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    prompt_lengths: np.ndarray
    records: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def example(self, index: int) -> np.ndarray:
        """The token ids of one example, int32 [length]."""
        return self.ids[self.starts[index] : self.starts[index] + self.lengths[index]]

    def prompt_ids(self, index: int) -> np.ndarray:
        """The token ids of one example's prompt, int32 [prompt length]."""
        return self.ids[self.starts[index] : self.starts[index] + self.prompt_lengths[index]]

    @cached_property
    def trained_token_counts(self) -> np.ndarray:
        """Tokens of each example on which the loss falls, int64 [examples]."""
        return self.lengths - self.prompt_lengths

    def subset(self, indices: np.ndarray) -> EncodedExamples:
        """The examples of these numbers, in this order; the token ids are shared, not copied."""
        return EncodedExamples(
            self.ids, self.starts[indices], self.lengths[indices], self.prompt_lengths[indices], self.records[indices]
        )


@dataclass(frozen=True)
class EncodingReport:
    """What the cut at `max_length` did.

    Attributes:
        record_count: How many records there were.
        truncated_count: How many of them are longer than `max_length`.
        dropped_record_indices: The numbers, from 0, of the records whose response was cut away entirely.
    """

    record_count: int
    truncated_count: int
    dropped_record_indices: list[int]


def encode_records(
    records: Iterable[Record], tokenizer: Tokenizer, max_length: int
) -> tuple[EncodedExamples, EncodingReport]:
    """Encode all records into arrays in memory.

    Records whose response is cut away entirely are left out, and the report has their numbers.
    Raises NoResponseLeft where none is left, and UserError where the tokenizer has no EOS to train.
    """
    chunks = list(encode_in_chunks(records, tokenizer, max_length))
    report = combine_reports(report for _, report in chunks)
    lengths = np.concatenate([np.zeros(0, np.int64), *(chunk.lengths for chunk, _ in chunks)])
    if not len(lengths):
        raise NoResponseLeft(report.record_count, max_length)
    return (
        EncodedExamples(
            np.concatenate([chunk.ids for chunk, _ in chunks]),
            np.cumsum(lengths) - lengths,
            lengths,
            np.concatenate([chunk.prompt_lengths for chunk, _ in chunks]),
            np.concatenate([chunk.records for chunk, _ in chunks]),
        ),
        report,
    )


def combine_reports(reports: Iterable[EncodingReport]) -> EncodingReport:
    """The report of several chunks of records, which may be none."""
    record_count, truncated_count = 0, 0
    dropped_record_indices: list[int] = []
    for report in reports:
        record_count += report.record_count
        truncated_count += report.truncated_count
        dropped_record_indices += report.dropped_record_indices
    return EncodingReport(record_count, truncated_count, dropped_record_indices)


def encode_in_chunks(
    records: Iterable[Record], tokenizer: Tokenizer, max_length: int
) -> Iterator[tuple[EncodedExamples, EncodingReport]]:
    """Yield the examples and the report of a thousand records at a time; a chunk may have no example.

    The numbers of the records count through all chunks. Raises UserError where the tokenizer has no EOS to train.
    """
    if tokenizer.eos_id is None:
        raise UserError("this tokenizer has no EOS, so that a student would not learn to end", where=tokenizer.source)
    record_iterator, first_record_index = iter(records), 0
    while record_chunk := list(itertools.islice(record_iterator, _RECORDS_PER_CHUNK)):
        yield _encode_chunk(record_chunk, first_record_index, tokenizer, max_length)
        first_record_index += len(record_chunk)


def _encode_chunk(
    record_chunk: list[Record], first_record_index: int, tokenizer: Tokenizer, max_length: int
) -> tuple[EncodedExamples, EncodingReport]:
    prompt_ids_of_chunk = tokenizer.encode_batch(
        [prompt.render(record.system, record.instruction, record.input) for record in record_chunk]
    )
    response_ids_of_chunk = tokenizer.encode_batch([record.response for record in record_chunk])
    token_ids: list[int] = []
    example_lengths: list[int] = []
    prompt_lengths: list[int] = []
    record_indices: list[int] = []
    truncated_count, dropped_record_indices = 0, []
    for record_index, (prompt_ids, response_ids) in enumerate(
        zip(prompt_ids_of_chunk, response_ids_of_chunk, strict=True), first_record_index
    ):
        example_ids, prompt_length, is_truncated = _assemble_example(prompt_ids, response_ids, tokenizer, max_length)
        truncated_count += is_truncated
        if len(example_ids) <= prompt_length:
            dropped_record_indices.append(record_index)
            continue
        token_ids += example_ids
        example_lengths.append(len(example_ids))
        prompt_lengths.append(prompt_length)
        record_indices.append(record_index)
    lengths = np.asarray(example_lengths, dtype=np.int64)
    examples = EncodedExamples(
        np.asarray(token_ids, dtype=np.int32),
        np.cumsum(lengths) - lengths,
        lengths,
        np.asarray(prompt_lengths, dtype=np.int32),
        np.asarray(record_indices, dtype=np.int32),
    )
    return examples, EncodingReport(len(record_chunk), truncated_count, dropped_record_indices)


def _assemble_example(
    prompt_ids: list[int], response_ids: list[int], tokenizer: Tokenizer, max_length: int
) -> tuple[list[int], int, bool]:
    """(token ids of an example, how many of them are prompt, whether it was longer than `max_length`)."""
    assert tokenizer.eos_id is not None, "`encode_in_chunks` refuses a tokenizer without EOS"
    prompt_ids = [*tokenizer.prefix, *prompt_ids]
    example_ids = [*prompt_ids, *response_ids, tokenizer.eos_id]
    return example_ids[:max_length], len(prompt_ids), len(example_ids) > max_length


class RecordsDigest:
    """A SHA-256 over records, and their number: over every prompt as it is rendered, and every response."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.record_count = 0

    def over(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records, each after it has entered the digest."""
        for record in records:
            texts = [prompt.render(record.system, record.instruction, record.input), record.response]
            self._sha256.update(json.dumps(texts).encode())
            self.record_count += 1
            yield record

    @property
    def sha256(self) -> str:
        """The digest of the records so far, as hexadecimal."""
        return self._sha256.hexdigest()


def records_digest(records: Iterable[Record]) -> RecordsDigest:
    """The digest of all records, of which one is in memory at a time."""
    digest = RecordsDigest()
    for _ in digest.over(records):
        pass
    return digest


def encoding_key(records_sha256: str, tokenizer: Tokenizer, max_length: int) -> str:
    """A SHA-256 over everything that tokens are computed from: the records' digest, the tokenizer, `max_length`."""
    facts = [_ENCODING_VERSION, records_sha256, tokenizer.fingerprint, max_length]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
