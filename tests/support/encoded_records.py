"""One record as training encodes it."""

from orca_bench.tokenizers import Tokenizer
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import Record


def encode_record(record: Record, tokenizer: Tokenizer, max_length: int) -> tuple[list[int], int]:
    """The token ids of a record, and how many of them are prompt (BOS included)."""
    encoded, _ = encode_records([record], tokenizer, max_length)
    return encoded.example(0).tolist(), int(encoded.prompt_lengths[0])
