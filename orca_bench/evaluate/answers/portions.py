"""Requests as ids in, portions out: what is computed together, cached together, and sent to a helper together.

A portion is some seconds' work. It holds its ids as a prefix tree does, each sequence by what it adds to the one before, so
that all portions of an evaluation fit in memory before the first is computed: what there is to compute can then be counted. Its
own module because the cache, the helpers and the count of the work all need the same division.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.request_encoding import GenerationPrompt, ScoredSequence

#: Tokens of the prefix tree that are computed, and cached, together. What two portions share is computed in both: with a
#: prefix of 2,000 tokens 6 % of it all at the worst.
PORTION_TOKENS = 32_768
#: The same for generation, where each prompt counts the tokens that its answer may have too. Towards the end of a portion
#: there is nothing left to fill the batch with, so portions are not small.
GENERATION_PORTION_TOKENS = 65_536

SCORES, TEXTS = "log-likelihoods", "texts"


@dataclass(frozen=True)
class Portion:
    """Some requests in lexicographic order of their ids.

    `numbers` are their places in the call. `tokens` is how many tokens are to be computed, answers of full length included.
    Of the ids of request i the first `shared[i]` are those of the request before it, and `added[i]` (int32) follow. `rest` is
    what a request is besides its ids: [start] where it is scored, [room, discard, stops] where a text is generated.
    """

    numbers: list[int]
    tokens: int
    shared: list[int]
    added: list[npt.NDArray[np.int32]]
    rest: list[list[Any]]

    def requests(self) -> list[list[Any]]:
        """[ids, …] of each request, with its rest: a JSON value."""
        requests: list[list[Any]] = []
        ids: list[int] = []
        for shared, added, rest in zip(self.shared, self.added, self.rest, strict=True):
            ids = ids[:shared] + added.tolist()
            requests.append([ids, *rest])
        return requests

    def key(self) -> str:
        """A SHA-256 over all of its requests."""
        digest = hashlib.sha256()
        for shared, added, rest in zip(self.shared, self.added, self.rest, strict=True):
            digest.update(np.asarray([shared, len(added)], dtype="<i4").tobytes() + added.astype("<i4").tobytes())
            digest.update(json.dumps(rest).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Call:
    """The requests of one call of the harness, all of one kind (SCORES or TEXTS), in portions.

    `count` is how many requests, `fed_tokens` how many tokens these have in all, `shortened_contexts` how many contexts lost
    tokens to fit, `narrowed_contexts` how many lost some to a server's smaller window alone. `sha256` is a hash of all ids that
    are fed, in the order of the call, each sequence behind its length and the place where its scored part begins (or its most
    new tokens). `requests_hash` is Python's hash of the requests as strings, in order, valid in this process only; None where
    only ids are known.
    """

    kind: str
    portions: list[Portion]
    count: int
    fed_tokens: int
    shortened_contexts: int
    narrowed_contexts: int
    sha256: str
    requests_hash: int | None = None

    @property
    def tokens(self) -> int:
        """How many tokens are to be computed; of texts, at most."""
        return sum(portion.tokens for portion in self.portions)

    @property
    def discards(self) -> bool:
        """Whether the first tokens of any text are discarded."""
        return self.kind == TEXTS and any(rest[1] for portion in self.portions for rest in portion.rest)


def scores(pairs: Sequence[ScoredSequence], shortened: int, narrowed: int = 0) -> Call:
    """The portions of pairs whose continuations are scored."""
    portions = _portions(pairs, [[pair.start] for pair in pairs], PORTION_TOKENS)
    fed_tokens = sum(len(pair.ids) - 1 for pair in pairs)
    sha256 = _sha256((pair.ids, pair.start) for pair in pairs)
    return Call(SCORES, portions, len(pairs), fed_tokens, shortened, narrowed, sha256)


def texts(starts: Sequence[GenerationPrompt], stops: Sequence[Sequence[str]], shortened: int) -> Call:
    """The portions of contexts behind which texts are generated."""
    prompts = [
        ScoredSequence([*start.ids, 0], len(start.ids)) for start in starts
    ]  # the tree leaves out the last, which is not fed
    room = max((start.max_new_tokens for start in starts), default=0)
    rest = [[start.max_new_tokens, start.discard, list(stop)] for start, stop in zip(starts, stops, strict=True)]
    portions = _portions(prompts, rest, GENERATION_PORTION_TOKENS, extra=room, unfed=1)
    fed_tokens = sum(len(start.ids) for start in starts)
    sha256 = _sha256((start.ids, start.max_new_tokens) for start in starts)
    return Call(TEXTS, portions, len(starts), fed_tokens, shortened, 0, sha256)


def _portions(
    sequences: Sequence[ScoredSequence], rest: Sequence[list[Any]], tokens: int, extra: int = 0, unfed: int = 0
) -> list[Portion]:
    """The portions of some sequences, of which the last `unfed` ids are no part of the request."""
    portions = []
    for group in prefix_tree.groups(sequences, tokens, extra):
        added = []
        for number, shared in zip(group.numbers, group.shared, strict=True):
            ids = sequences[number].ids
            added.append(np.asarray(ids[shared : len(ids) - unfed], dtype=np.int32))
        portions.append(Portion(group.numbers, group.tokens, group.shared, added, [rest[n] for n in group.numbers]))
    return portions


def _sha256(fed: Iterable[tuple[list[int], int]]) -> str:
    digest = hashlib.sha256()
    for ids, place in fed:
        digest.update(np.asarray([len(ids), place, *ids], dtype="<i4").tobytes())
    return digest.hexdigest()
