"""A run's folder and what was just prepared in; an error out where the run would not go on with the same input.

Compared are the tokenizer, the files of the records and the tokens themselves, before anything in the folder is replaced. Its own
module because run_folder.py knows a recipe, not what was encoded from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orca_bench.errors import UserError, Where
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import token_files
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.example_preparation import PreparedExamples
from orca_bench.train.record_files import RecordSource
from orca_bench.train.run_folder import START_OVER_HINT, Run


def check_same_input(run: Run, tokenizer: Tokenizer, sources: list[RecordSource], prepared: PreparedExamples) -> None:
    """Raise UserError where a run that is continued began with another tokenizer, other records or other tokens."""
    if run.manifest.get("tokenizer_sha256", tokenizer.fingerprint) != tokenizer.fingerprint:  # the manifest may be lost
        raise UserError(
            f"this tokenizer is not the one that the run in {run.folder} began with",
            where=tokenizer.source,
            hint=START_OVER_HINT,
        )
    check_same_records(run, {source.name: source.sha256 for source in sources})
    _check_same_examples(run, prepared)


def check_same_records(run: Run, sha256_by_name: Mapping[str, str | None]) -> None:
    """Raise UserError where the files and hub sets of records are not those of the manifest, in their order.

    `sha256_by_name` has their hashes; None, also in the manifest, where the content is not compared.
    """
    earlier_sha256_by_name = {source["name"]: source["sha256"] for source in run.manifest.get("records", [])}
    if not earlier_sha256_by_name:
        return
    for name, earlier_sha256 in earlier_sha256_by_name.items():
        if name not in sha256_by_name:
            raise _other_input(name, f"is missing: the run in {run.folder} began with it")
        if None not in (earlier_sha256, sha256_by_name[name]) and earlier_sha256 != sha256_by_name[name]:
            raise _other_input(name, f"has changed since the run in {run.folder} read it")
    for name in sha256_by_name:
        if name not in earlier_sha256_by_name:
            raise _other_input(name, f"is new: the run in {run.folder} began without it")
    if list(sha256_by_name) != list(earlier_sha256_by_name):
        raise _other_input("data.records", f"these files come in another order than in the run in {run.folder}")


def _check_same_examples(run: Run, prepared: PreparedExamples) -> None:
    """Raise UserError where the run trains on other tokens; a run whose own tokens cannot be read is not compared."""
    try:
        earlier = token_files.load_run_examples(run.tokens_folder, run.earlier_tokens_file)
    except UserError:
        return
    if earlier.key is not None and earlier.key != prepared.stored.key:
        if not run.manifest.get("records"):  # then nothing has compared the files
            problem = f"these records, or their encoding, are not those that the run in {run.folder} began with"
            raise _other_input("data.records", problem)
        problem = f"these records are encoded in another way than when the run in {run.folder} began"
        raise _other_input("data.records", problem, "use the version of orca-bench that it began with")
    for where, earlier_examples, examples in (
        ("data.held_out", earlier.held_out, prepared.held_out),
        ("data.records", earlier.training, prepared.training),
    ):
        is_same = np.array_equal(earlier_examples.records, examples.records)
        if is_same and earlier.key is None:  # tokens of an earlier version, which have no key
            is_same = _have_same_tokens(earlier_examples, examples)
        if not is_same:
            raise _other_input(where, f"these are not the examples that the run in {run.folder} began with")


def _have_same_tokens(earlier_examples: EncodedExamples, examples: EncodedExamples) -> bool:
    return all(
        np.array_equal(getattr(earlier_examples, name), getattr(examples, name))
        for name in ("lengths", "prompt_lengths")
    ) and all(
        np.array_equal(earlier_examples.example(index), examples.example(index)) for index in range(len(examples))
    )


def _other_input(where: Where, problem: str, further_hint: str | None = None) -> UserError:
    return UserError(problem, where=where, hint=", ".join(filter(None, (further_hint, START_OVER_HINT))))
