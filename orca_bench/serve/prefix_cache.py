"""Computed sequences in, the longest prefix that a new prompt shares with one of them out.

A conversation's second turn begins as its first did, and many prompts begin with the same system message or examples: what was
computed is computed once. Memory is bounded by dropping what was used least recently. Its own module because it decides only
what to keep; `sequence_cache` holds the memory itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orca_bench.evaluate.engine.prefix_tree import shared_prefix_length
from orca_bench.serve.sequence_cache import SequenceCache
from orca_bench.serve.token_requests import TokenRequest, TokenScore

#: A prefix that is shorter than this is computed again, and so many tokens may be lost when a sequence is continued in place.
FEW_TOKENS = 16
#: Scores stay with a sequence that has at most so many likeliest tokens with each: they take up to 1 KB a token, 20 about 3 KB.
MAX_CACHED_TOP_TOKENS = 5


@dataclass
class CachedSequence:
    """A sequence whose first `cache.token_count` ids of `token_ids` have keys and values.

    `scores` has the scores of the first ids, as far as they are known, with the `top_count` likeliest tokens each.
    """

    token_ids: list[int]
    cache: SequenceCache
    scores: list[TokenScore | None]
    top_count: int

    def shared_tokens(self, request: TokenRequest, is_complete: bool = True) -> int:
        """How many of the prompt's first tokens need not be computed where this sequence is there; 0 where few.

        The last token of a prompt is always computed, since it gives the next one; where the prompt is scored, also the last
        one of those whose scores are known. With `is_complete` false the tokens count too that are still to be computed.
        """
        computed_count = self.cache.token_count if is_complete else len(self.token_ids)
        known_count = computed_count
        if request.scores_prompt:
            has_scores = bool(self.scores) and self.top_count >= request.top_count
            known_count = 0 if not has_scores else len(self.scores) if is_complete else len(self.token_ids)
        count = shared_prefix_length(self.token_ids[:known_count], request.prompt_ids)
        count = min(count - request.scores_prompt, computed_count, len(request.prompt_ids) - 1)
        return count if count >= FEW_TOKENS else 0


def longest_prefix(
    sequences: Iterable[CachedSequence], request: TokenRequest, is_complete: bool = True
) -> tuple[int, CachedSequence | None]:
    """(tokens, sequence) of the sequence that shares most with a prompt; see `CachedSequence.shared_tokens`."""
    longest, source = 0, None
    for sequence in sequences:
        count = sequence.shared_tokens(request, is_complete)
        if count > longest:
            longest, source = count, sequence
    return longest, source


class PrefixCache:
    """Sequences of requests that have ended, the one that was used last at the end."""

    def __init__(self) -> None:
        self.sequences: list[CachedSequence] = []

    @property
    def token_count(self) -> int:
        """For how many tokens memory is taken."""
        return sum(sequence.cache.capacity for sequence in self.sequences)

    def add(self, sequence: CachedSequence) -> None:
        """Keep a sequence, in no more memory than its tokens need; a very short one is not worth it."""
        token_count = sequence.cache.token_count
        if token_count < FEW_TOKENS:
            return
        if sequence.cache.capacity > token_count:
            sequence.cache = sequence.cache.copy_prefix(token_count, token_count)
        if sequence.top_count > MAX_CACHED_TOP_TOKENS:
            sequence.scores = []
        self.sequences.append(sequence)

    def use(self, sequence: CachedSequence, token_count: int) -> None:
        """Note that the first tokens of a sequence are copied; it goes where the copy continues nearly all of it."""
        if any(sequence is other for other in self.sequences):
            self.sequences = [other for other in self.sequences if other is not sequence]
            if sequence.cache.token_count - token_count > FEW_TOKENS:
                self.sequences.append(sequence)

    def shrink_to(self, max_tokens: int) -> None:
        """Drop the sequences that were used least recently, until the others take at most `max_tokens`."""
        excess = self.token_count - max_tokens
        while excess > 0 and self.sequences:
            excess -= self.sequences.pop(0).cache.capacity

    def clear(self) -> None:
        """Drop all sequences."""
        self.sequences.clear()


def known_scores(source: CachedSequence, token_count: int, top_count: int) -> list[TokenScore | None]:
    """The scores of a source's first `token_count` tokens and of the one after them, with `top_count` likeliest tokens each."""
    return [
        score if score is None else TokenScore(score.token_id, score.log_probability, score.top[:top_count])
        for score in source.scores[: token_count + 1]
    ]
