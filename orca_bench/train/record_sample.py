"""Records in, a random sample of them as training encodes them out, up to a number of tokens.

Its own module because what is computed over some records, and trains nothing, needs neither a recipe nor all of them encoded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from orca_bench.errors import UserError, Where
from orca_bench.tokenizers import Tokenizer
from orca_bench.train.example_encoding import EncodedExamples, EncodingReport, NoResponseLeft, encode_records
from orca_bench.train.record_files import Record
from orca_bench.train.run_folder import Run
from orca_bench.train.token_files import load_run_examples

_SEED = 0
_RECORDS_PER_STEP = 256


def sample_examples(
    records: Sequence[Record], tokenizer: Tokenizer, max_length: int, token_count: int, where: Where
) -> EncodedExamples:
    """Records in random order, always the same, each cut at `max_length` tokens, until `token_count` tokens are reached.

    Fewer where the records have fewer: the caller checks `len(examples.ids)`. Raises UserError, which names `where` the records
    are from, where all lose their whole response.
    """
    place = (where, "use shorter ones")
    examples, _ = _sample_until(
        records, tokenizer, max_length, lambda encoded: encoded.lengths.cumsum(), token_count, place
    )
    return examples


def sample_responses(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    max_length: int,
    response_token_count: int,
    where: Where,
    hint: str = "use shorter ones",
) -> tuple[EncodedExamples, EncodingReport]:
    """As `sample_examples`, until their responses have `response_token_count` tokens together.

    A response's tokens are those on which training's loss falls. The caller checks the sum of `trained_token_counts`. The report
    is of the records of the sample, those among them that lose their whole response. Raises UserError where all do; `where` and
    `hint` say what decides the length.
    """
    place = (where, hint)
    return _sample_until(
        records,
        tokenizer,
        max_length,
        lambda encoded: encoded.trained_token_counts.cumsum(),
        response_token_count,
        place,
    )


def _sample_until(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    max_length: int,
    cumulative_counts: Callable[[EncodedExamples], np.ndarray],
    token_count: int,
    place: tuple[Where, str],
) -> tuple[EncodedExamples, EncodingReport]:
    """The first of the shuffled records up to the one whose cumulative count, int64 [examples], reaches `token_count`.

    `place` is where a length that leaves no response is from, and what to do.
    """
    shuffled_records = list(records)
    random.Random(_SEED).shuffle(shuffled_records)
    encoded_count = _RECORDS_PER_STEP
    while True:
        try:
            examples, report = encode_records(shuffled_records[:encoded_count], tokenizer, max_length)
        except NoResponseLeft as error:
            if encoded_count >= len(records):
                where, hint = place
                raise UserError(error.problem, where=where, hint=hint) from None
            encoded_count *= 4
            continue
        counts = cumulative_counts(examples)
        if counts[-1] >= token_count:
            last_record = int(examples.records[int((counts < token_count).sum())])
            # Encoded again, so that the report is of these records only.
            return encode_records(shuffled_records[: last_record + 1], tokenizer, max_length)
        if encoded_count >= len(records):
            return examples, report
        encoded_count *= 4


def count_training_examples(examples: EncodedExamples, run_folder: Path) -> int:
    """How many examples are among those that a run was trained on, by their token ids; 0 where it has no tokens.

    Both may be cut, at different lengths: they are compared up to the length that the longest of each reaches.
    """
    run = Run(run_folder)
    if not (run.tokens_folder.exists() or run.earlier_tokens_file.exists()):
        return 0
    training_examples = load_run_examples(run.tokens_folder, run.earlier_tokens_file).training
    length = int(min(training_examples.lengths.max(), examples.lengths.max()))
    ids_of_examples = [examples.example(index)[:length].tobytes() for index in range(len(examples))]
    # Only those of the sample are held in memory: a training may have millions.
    trained_ids = set(ids_of_examples).intersection(
        training_examples.example(index)[:length].tobytes() for index in range(len(training_examples))
    )
    return sum(ids in trained_ids for ids in ids_of_examples)
