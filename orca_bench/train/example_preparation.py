"""A recipe's records in, the examples of its run out: read twice at most, encoded at most once, split by `data.held_out`.

The first reading checks every record and computes the key of their tokens; where nobody has encoded them yet, the second one
encodes them. Neither holds the records in memory. Its own module because run_setup.py has the other parts of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orca_bench import hub
from orca_bench.counts import ReportProgress
from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import example_encoding as encoding
from orca_bench.train import held_out, token_cache, token_files
from orca_bench.train.example_encoding import EncodedExamples, RecordsDigest
from orca_bench.train.record_files import RecordReader


@dataclass(frozen=True)
class PreparedExamples:
    """All examples of a recipe's records, and which of them are trained on and held out."""

    stored: token_files.StoredExamples
    split: held_out.HeldOutSplit

    @cached_property
    def training(self) -> EncodedExamples:
        """The examples that the run trains on."""
        return self.stored.examples.subset(self.split.training) if self._is_split else self.stored.examples

    @cached_property
    def held_out(self) -> EncodedExamples:
        """The examples of `data.held_out`, which may be none."""
        return self.stored.examples.subset(self.split.held_out)

    def link_to(self, tokens_folder: Path) -> None:
        """Make `tokens_folder` hold them, as `token_files.load_run_examples` reads them."""
        token_files.link_token_files(
            self.stored, tokens_folder, (self.split.training, self.split.held_out) if self._is_split else None
        )

    @property
    def _is_split(self) -> bool:
        return len(self.split.held_out) > 0


def prepare_examples(
    recipe: Recipe,
    records: RecordReader,
    digest: RecordsDigest,
    tokenizer: Tokenizer,
    report_encoded_records: ReportProgress,
    show_message: hub.ShowMessage,
    run_tokens_folder: Path | None = None,
    substitute_folder: Path | None = None,
) -> PreparedExamples:
    """The examples of records whose digest is known: from the cache or `run_tokens_folder`, else encoded.

    `substitute_folder` takes the place of a cache that cannot be written.

    Raises UserError where no record has a response left, or they change while they are read.
    """
    max_length = recipe.data.max_length
    key = encoding.encoding_key(digest.sha256, tokenizer, max_length)

    def write_files(folder: Path) -> None:
        digest_of_encoded = RecordsDigest()

        def key_of_whole(report: encoding.EncodingReport) -> str:
            if digest_of_encoded.sha256 != digest.sha256:
                raise UserError(
                    "the records have changed while they were read", where="data.records", hint="run the command again"
                )
            if len(report.dropped_record_indices) == report.record_count:
                raise encoding.NoResponseLeft(report.record_count, max_length)
            return key

        token_files.write_token_files(
            folder,
            encoding.encode_in_chunks(digest_of_encoded.over(records), tokenizer, max_length),
            key_of_whole,
            lambda record_count: report_encoded_records(record_count, digest.record_count),
        )

    try:
        stored = token_cache.stored_examples(key, write_files, show_message, run_tokens_folder, substitute_folder)
    except encoding.NoResponseLeft as error:
        raise UserError(error.problem, where="data.max_length", hint="raise it") from None
    split = held_out.split_examples(
        stored.examples, stored.report.record_count, recipe.data.held_out, recipe.train.seed
    )
    return PreparedExamples(stored, split)
