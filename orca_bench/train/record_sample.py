"""Files of records in, a random sample of them as training encodes them out, up to a number of tokens.

Its own module because what is computed over some records, and trains nothing, needs neither a recipe nor all of them encoded.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from orca_bench.tokenizers import Tokenizer
from orca_bench.train.example_encoding import EncodedExamples, encode_records
from orca_bench.train.record_files import read_records

_SEED = 0
_RECORDS_PER_STEP = 256


def sample_examples(
    paths_and_hub_ids: Iterable[str], tokenizer: Tokenizer, max_length: int, token_count: int
) -> EncodedExamples:
    """Records in random order, always the same, each cut at `max_length` tokens, until `token_count` tokens are reached.

    Fewer where the records have fewer: the caller checks `len(examples.ids)`. Raises UserError for what are no records.
    """
    records, _ = read_records(paths_and_hub_ids)
    random.Random(_SEED).shuffle(records)
    encoded_count = _RECORDS_PER_STEP
    while True:
        examples, _ = encode_records(records[:encoded_count], tokenizer, max_length)
        if len(examples.ids) >= token_count or encoded_count >= len(records):
            return _first_examples(examples, token_count)
        encoded_count *= 4


def _first_examples(examples: EncodedExamples, token_count: int) -> EncodedExamples:
    """The first examples, as many as reach `token_count` tokens together."""
    example_count = min(int((examples.offsets < token_count).sum()), len(examples))
    offsets = examples.offsets[: example_count + 1]
    return EncodedExamples(
        examples.ids[: offsets[-1]],
        offsets,
        examples.prompt_lengths[:example_count],
        examples.records[:example_count],
    )
