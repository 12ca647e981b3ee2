"""Records to token ids and a loss mask, as the card's training code did it.

BOS + prompt + response + EOS, where prompt and response are **tokenized separately** and their ids concatenated, cut at
`max_length` from the right; the loss falls on the response and EOS only. Source: yxuansu/OpenAlpaca c7cd58d,
datasets/sft_dataset.py. Evaluation in the Orca prompt concatenates the same way, or it would score token ids that
training never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.files import writing
from orca_bench.train.records import Record

_CHUNK = 1000  # records encoded between two reports of progress


@dataclass(frozen=True)
class Encoded:
    """Examples as flat arrays: example i is `ids[offsets[i]:offsets[i + 1]]`, its first `prompt_lengths[i]` untrained.

    ids: int32 [tokens]; offsets: int64 [examples + 1]; prompt_lengths: int32 [examples], BOS included.
    """

    ids: np.ndarray
    offsets: np.ndarray
    prompt_lengths: np.ndarray

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
    def trained(self) -> np.ndarray:
        """Tokens of each example on which the loss falls, int64 [examples]."""
        return self.lengths - self.prompt_lengths

    def save(self, path: Path) -> None:
        """Write the arrays to one .npz file."""
        with writing(path):
            np.savez(path, ids=self.ids, offsets=self.offsets, prompt_lengths=self.prompt_lengths)

    @classmethod
    def load(cls, path: Path) -> Encoded:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["ids"], arrays["offsets"], arrays["prompt_lengths"])


@dataclass(frozen=True)
class EncodingReport:
    """What the cut at `max_length` did: how many examples lost part of the response, and which lost all of it."""

    records: int
    cut: int
    dropped: list[int]


def encode_record(record: Record, tokenizer, max_length: int) -> tuple[list[int], int]:
    """Token ids of one record, and how many of them are prompt (BOS included); at most `max_length` ids."""
    asked = tokenizer.encode(prompt.render(record.system, record.instruction, record.input))
    answered = tokenizer.encode(record.response)
    return _assemble(asked, answered, tokenizer, max_length)[:2]


def encode(
    records: Sequence[Record], tokenizer, max_length: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[Encoded, EncodingReport]:
    """Encode all records; `progress(n)` is called with the number done so far.

    Records whose response is cut away entirely teach nothing: they are left out and their numbers reported.
    Raises UserError where none is left.
    """
    ids: list[list[int]] = []
    prompt_lengths: list[int] = []
    cut, dropped = 0, []
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        prompts = tokenizer.encode_batch([prompt.render(r.system, r.instruction, r.input) for r in chunk])
        responses = tokenizer.encode_batch([r.response for r in chunk])
        for number, (asked, answered) in enumerate(zip(prompts, responses, strict=True), start):
            example, prompt_length, was_cut = _assemble(asked, answered, tokenizer, max_length)
            cut += was_cut
            if len(example) <= prompt_length:
                dropped.append(number)
            else:
                ids.append(example)
                prompt_lengths.append(prompt_length)
        progress(start + len(chunk))
    if not ids:
        raise UserError(
            f"all {len(records)} records lose their whole response to the cut at max_length {max_length}",
            where="data.max_length",
            hint="raise it",
        )
    encoded = Encoded(
        np.concatenate([np.asarray(example, dtype=np.int32) for example in ids]),
        np.cumsum([0, *map(len, ids)], dtype=np.int64),
        np.asarray(prompt_lengths, dtype=np.int32),
    )
    return encoded, EncodingReport(len(records), cut, dropped)


def _assemble(asked: list[int], answered: list[int], tokenizer, max_length: int) -> tuple[list[int], int, bool]:
    whole = [tokenizer.bos_id, *asked, *answered, tokenizer.eos_id]
    return whole[:max_length], 1 + len(asked), len(whole) > max_length
