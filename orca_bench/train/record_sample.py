"""Files of records in, a random sample of them as training encodes them out, up to a number of tokens.

Its own module because what is computed over some records, and trains nothing, needs neither a recipe nor all of them encoded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from orca_bench.tokenizers import Tokenizer
from orca_bench.train.example_encoding import EncodedExamples, encode_records
from orca_bench.train.record_files import Record, read_records
from orca_bench.train.run_folder import Run

_SEED = 0
_RECORDS_PER_STEP = 256


def sample_examples(
    paths_and_hub_ids: Iterable[str], tokenizer: Tokenizer, max_length: int, token_count: int
) -> EncodedExamples:
    """Records in random order, always the same, each cut at `max_length` tokens, until `token_count` tokens are reached.

    Fewer where the records have fewer: the caller checks `len(examples.ids)`. Raises UserError for what are no records.
    """
    records, _ = read_records(paths_and_hub_ids)
    return _sample_until(records, tokenizer, max_length, lambda examples: examples.offsets[1:], token_count)


def sample_responses(
    records: Sequence[Record], tokenizer: Tokenizer, max_length: int, response_token_count: int
) -> EncodedExamples:
    """As `sample_examples`, of records that are read, until their responses have `response_token_count` tokens together.

    A response's tokens are those on which training's loss falls. The caller checks the sum of `examples.trained_token_counts`.
    """
    return _sample_until(
        records, tokenizer, max_length, lambda examples: examples.trained_token_counts.cumsum(), response_token_count
    )


def _sample_until(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    max_length: int,
    cumulative_counts: Callable[[EncodedExamples], np.ndarray],
    token_count: int,
) -> EncodedExamples:
    """The first of the shuffled records up to the one whose cumulative count, int64 [examples], reaches `token_count`."""
    shuffled_records = list(records)
    random.Random(_SEED).shuffle(shuffled_records)
    encoded_count = _RECORDS_PER_STEP
    while True:
        examples, _ = encode_records(shuffled_records[:encoded_count], tokenizer, max_length)
        counts = cumulative_counts(examples)
        if counts[-1] >= token_count or encoded_count >= len(records):
            return _first_examples(examples, min(int((counts < token_count).sum()) + 1, len(examples)))
        encoded_count *= 4


def _first_examples(examples: EncodedExamples, example_count: int) -> EncodedExamples:
    offsets = examples.offsets[: example_count + 1]
    return EncodedExamples(
        examples.ids[: offsets[-1]],
        offsets,
        examples.prompt_lengths[:example_count],
        examples.records[:example_count],
    )


def count_training_examples(examples: EncodedExamples, run_folder: Path) -> int:
    """How many examples are among those that a run was trained on, by their token ids; 0 where it has no `tokens.npz`."""
    tokens_file = Run(run_folder).tokens_file
    if not tokens_file.is_file():
        return 0
    training_examples = EncodedExamples.load(tokens_file)
    max_length = int(training_examples.lengths.max())
    training_ids = {training_examples.example(index).tobytes() for index in range(len(training_examples))}
    return sum(examples.example(index)[:max_length].tobytes() in training_ids for index in range(len(examples)))
