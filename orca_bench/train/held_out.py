"""Which examples a run trains on, and which are held out of training so that a loss on them says what training does not see.

Numbers in, numbers out. Its own module because the choice must not depend on anything but the examples and the seed: not on the
processes, the batches or the order of training. A record with the prompt of a held-out example is trained neither: a loss on a
prompt that was trained would be that of a text that the model knows by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orca_bench.errors import UserError
from orca_bench.train.example_encoding import EncodedExamples

_RANDOM_STREAM = (0, 0)  # after the seed; the order of an epoch is that of (seed, epoch)


@dataclass(frozen=True)
class HeldOutSplit:
    """Numbers of examples, ascending: `training` and `held_out`, each int64 [examples].

    `duplicate_count` examples are in neither: their prompt is that of a held-out example, token for token.
    """

    training: np.ndarray
    held_out: np.ndarray
    duplicate_count: int


def split_examples(examples: EncodedExamples, record_count: int, held_out_count: int, seed: int) -> HeldOutSplit:
    """Hold `held_out_count` examples out, chosen by the seed from all records with a response left.

    `record_count` is the number of records, also of those without an example, so that another `max_length` chooses nearly the
    same. Raises UserError where no example is left to train on.
    """
    if not held_out_count:
        return HeldOutSplit(np.arange(len(examples)), np.zeros(0, np.int64), 0)
    if held_out_count >= len(examples):
        raise UserError(
            f"{held_out_count:,} of {len(examples):,} examples cannot be held out: none is left to train on",
            where="data.held_out",
            hint="lower it",
        )
    record_order = np.random.default_rng([seed, *_RANDOM_STREAM]).permutation(record_count)
    place_of_record: np.ndarray = np.empty(record_count, np.int64)
    place_of_record[record_order] = np.arange(record_count)
    held_out = np.sort(np.argsort(place_of_record[examples.records])[:held_out_count])
    held_out_prompts = {examples.prompt_ids(index).tobytes() for index in held_out.tolist()}
    is_candidate = np.isin(examples.prompt_lengths, examples.prompt_lengths[held_out])
    is_candidate[held_out] = False
    duplicates = [
        index
        for index in np.flatnonzero(is_candidate).tolist()
        if examples.prompt_ids(index).tobytes() in held_out_prompts
    ]
    is_trained: np.ndarray = np.ones(len(examples), bool)
    is_trained[held_out] = False
    is_trained[duplicates] = False
    if not is_trained.any():
        raise UserError(
            f"no example is left to train on: every other one has the prompt of one of the {held_out_count:,} held-out ones",
            where="data.held_out",
            hint="lower it, or use records of different prompts",
        )
    return HeldOutSplit(np.flatnonzero(is_trained), held_out, len(duplicates))
