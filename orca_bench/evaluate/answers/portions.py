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
SCORING_PORTION_TOKENS = 32_768
#: The same for generation, where each prompt counts the tokens that its answer may have too. Towards the end of a portion
#: there is nothing left to fill the batch with, so portions are not small.
GENERATION_PORTION_TOKENS = 65_536

SCORES, TEXTS = "log-likelihoods", "texts"


@dataclass(frozen=True)
class Portion:
    """Some requests in lexicographic order of their ids.

    `request_indices` are their indices in the call. `computed_token_count` is how many tokens are to be computed, answers of
    full length included. Of the ids of request i the first `shared_prefix_lengths[i]` are those of the request before it, and
    `new_token_ids[i]` (int32) follow. `request_parameters` are what a request is besides its ids: [start] if it is scored,
    [max_new_tokens, discard, stops] if a text is generated, and the rule of its next token where that is not the likeliest.
    """

    request_indices: list[int]
    computed_token_count: int
    shared_prefix_lengths: list[int]
    new_token_ids: list[npt.NDArray[np.int32]]
    request_parameters: list[list[Any]]

    def requests(self) -> list[list[Any]]:
        """[ids, …] of each request, with its parameters: a JSON value."""
        requests_json: list[list[Any]] = []
        token_ids: list[int] = []
        for shared_prefix_length, new_token_ids, parameters in zip(
            self.shared_prefix_lengths, self.new_token_ids, self.request_parameters, strict=True
        ):
            token_ids = token_ids[:shared_prefix_length] + new_token_ids.tolist()
            requests_json.append([token_ids, *parameters])
        return requests_json

    def key(self) -> str:
        """A SHA-256 over all of its requests."""
        digest = hashlib.sha256()
        for shared_prefix_length, new_token_ids, parameters in zip(
            self.shared_prefix_lengths, self.new_token_ids, self.request_parameters, strict=True
        ):
            lengths = np.asarray([shared_prefix_length, len(new_token_ids)], dtype="<i4")
            digest.update(lengths.tobytes() + new_token_ids.astype("<i4").tobytes())
            digest.update(json.dumps(parameters).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Call:
    """The requests of one call of the harness, all of one kind (SCORES or TEXTS), in portions.

    `request_count` is how many requests, `fed_token_count` how many tokens these have in all, `shortened_context_count` how
    many contexts lost tokens to fit, `server_shortened_context_count` how many lost some to a server's smaller window alone.
    `token_ids_sha256` is a hash of all ids that are fed, in the order of the call, each sequence after its length and the place
    where its scored part begins (or its most new tokens). `requests_hash` is Python's hash of the requests as strings, in
    order, valid in this process only; None where only ids are known. `instance_indices` has the index of each request's instance
    in the harness; None where each instance has one request. (A whole text has one for each of its windows.)
    """

    answer_kind: str
    portions: list[Portion]
    request_count: int
    fed_token_count: int
    shortened_context_count: int
    server_shortened_context_count: int
    token_ids_sha256: str
    requests_hash: int | None = None
    instance_indices: list[int] | None = None

    @property
    def computed_token_count(self) -> int:
        """How many tokens are to be computed; of texts, at most."""
        return sum(portion.computed_token_count for portion in self.portions)

    @property
    def most_scored_tokens(self) -> int:
        """How many tokens the longest continuation that is scored has; 0 where texts are generated."""
        if self.answer_kind == TEXTS:
            return 0
        return max(
            (
                shared_prefix_length + len(new_token_ids) - scored_start
                for portion in self.portions
                for shared_prefix_length, new_token_ids, (scored_start,) in zip(
                    portion.shared_prefix_lengths, portion.new_token_ids, portion.request_parameters, strict=True
                )
            ),
            default=0,
        )

    @property
    def discards_first_text_tokens(self) -> bool:
        """Whether the first tokens of any text are discarded."""
        return self.answer_kind == TEXTS and any(
            discard for portion in self.portions for _, discard, *_ in portion.request_parameters
        )


def scoring_call(
    sequences: Sequence[ScoredSequence], shortened_context_count: int, server_shortened_context_count: int = 0
) -> Call:
    """The portions of pairs whose continuations are scored."""
    portions = _divide_into_portions(
        sequences, [[sequence.scored_start] for sequence in sequences], SCORING_PORTION_TOKENS
    )
    fed_token_count = sum(len(sequence.token_ids) - 1 for sequence in sequences)
    token_ids_sha256 = _token_ids_sha256((sequence.token_ids, sequence.scored_start) for sequence in sequences)
    return Call(
        SCORES,
        portions,
        len(sequences),
        fed_token_count,
        shortened_context_count,
        server_shortened_context_count,
        token_ids_sha256,
    )


def generation_call(
    prompts: Sequence[GenerationPrompt], stops_by_prompt: Sequence[Sequence[str]], shortened_context_count: int
) -> Call:
    """The portions of contexts after which texts are generated."""
    # The tree leaves out the last id, which is not fed.
    sequences = [ScoredSequence([*prompt.token_ids, 0], len(prompt.token_ids)) for prompt in prompts]
    most_new_tokens = max((prompt.max_new_tokens for prompt in prompts), default=0)
    generation_parameters_by_prompt = [
        [
            prompt.max_new_tokens,
            prompt.discarded_token_count,
            list(stop_strings),
            *([] if prompt.token_choice is None else [prompt.token_choice.to_json()]),
        ]
        for prompt, stop_strings in zip(prompts, stops_by_prompt, strict=True)
    ]
    portions = _divide_into_portions(
        sequences,
        generation_parameters_by_prompt,
        GENERATION_PORTION_TOKENS,
        extra_tokens_per_request=most_new_tokens,
        omitted_last_tokens=1,
    )
    fed_token_count = sum(len(prompt.token_ids) for prompt in prompts)
    token_ids_sha256 = _token_ids_sha256((prompt.token_ids, prompt.max_new_tokens) for prompt in prompts)
    return Call(TEXTS, portions, len(prompts), fed_token_count, shortened_context_count, 0, token_ids_sha256)


def _divide_into_portions(
    sequences: Sequence[ScoredSequence],
    parameters_by_request: Sequence[list[Any]],
    tokens_per_portion: int,
    extra_tokens_per_request: int = 0,
    omitted_last_tokens: int = 0,
) -> list[Portion]:
    """The portions of some sequences, of which the last `omitted_last_tokens` ids are no part of the request."""
    portions = []
    for sequence_group in prefix_tree.group_sequences(sequences, tokens_per_portion, extra_tokens_per_request):
        new_token_ids = []
        for index, shared_prefix_length in zip(
            sequence_group.sequence_indices, sequence_group.shared_prefix_lengths, strict=True
        ):
            token_ids = sequences[index].token_ids
            new_token_ids.append(
                np.asarray(token_ids[shared_prefix_length : len(token_ids) - omitted_last_tokens], dtype=np.int32)
            )
        portion_parameters = [parameters_by_request[index] for index in sequence_group.sequence_indices]
        portions.append(
            Portion(
                sequence_group.sequence_indices,
                sequence_group.token_count,
                sequence_group.shared_prefix_lengths,
                new_token_ids,
                portion_parameters,
            )
        )
    return portions


def _token_ids_sha256(sequences: Iterable[tuple[list[int], int]]) -> str:
    """The hash of (ids, where the scored part begins or the most new tokens) of each sequence."""
    digest = hashlib.sha256()
    for token_ids, start_or_limit in sequences:
        digest.update(np.asarray([len(token_ids), start_or_limit, *token_ids], dtype="<i4").tobytes())
    return digest.hexdigest()
