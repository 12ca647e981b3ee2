"""A server and a tokenizer in, proof out that a log-probability of the server belongs to the token that it is taken for.

Servers have shifted log-probabilities by a place, cut prompts, taken prefixes of other prompts from their caches, and put tokens
in front of ids: a wrong number is then as plausible as a right one. So some likelihoods are requested in two ways whose answers
must agree: a prompt whole and in two halves, with another token in the middle, the likeliest next token generated and scored, a
text as text and as ids. A server that fails is refused with both numbers. Its own module because it needs nothing of a server but
`ServerApi`.

Price: six or seven requests of at most two dozen tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orca_bench.errors import UserError
from orca_bench.evaluate.servers.completions_client import RequestRefused
from orca_bench.evaluate.servers.server_api import PromptScores, ServerApi
from orca_bench.tokenizers import Tokenizer

#: How far two log-probabilities of one token may be apart, in nats and as a share of the larger. Servers that compute in 16 bits
#: round otherwise with each batch (0.1 nats at -10 has been seen of bfloat16); another token's differs by nats.
_MAX_DIFFERENCE_NATS = 0.4
_MAX_RELATIVE_DIFFERENCE = 0.03
_ROUNDING_NATS = 0.01  # that a log-probability of a certain token may be above 0 in 16 bits
#: English that every tokenizer of a causal language model cuts at the same places with every version of its library.
_PROBE_TEXT = "The ship left the harbour at noon, and the old captain sang to the gulls until the coast was gone."
_MIN_PROBE_TEXT_TOKENS = 3
_CONTINUATION_TOKENS = 8  # of a text that is generated to compare two prompts
_NO_TEXT_STATUS_CODES = (400, 422)
_NO_TEXT_NOTE = (
    "the server takes no texts, so that its tokenizer could not be compared with the one here; it is sent ids"
)
_OTHER_TOKENIZER_HINT = "--model must be the folder or hub id of the served model's own tokenizer"
_MISALIGNED_HINT = "log-probabilities of a prompt stand at other tokens than their own"
_MAX_BOS_TOKENS = 2  # that a server may put in front of a text; in front of ids it must put none

_T = TypeVar("_T")


async def check_tokenizer_by_texts(
    api: ServerApi, where: str, tokenizer: Tokenizer, window_tokens: int | None
) -> list[str]:
    """Show that a server that scores no prompts has the tokenizer here: a text and its ids have the same greedy continuation.

    Where it gives the number of the text's tokens, or their ids, these are compared first. Returns sentences on what is no error.
    Raises UserError where the tokenizers are not the same.
    """
    reserved_tokens = _MAX_BOS_TOKENS + _CONTINUATION_TOKENS
    text, text_ids = _text_within(tokenizer, None if window_tokens is None else window_tokens - reserved_tokens)
    if len(text_ids) < _MIN_PROBE_TEXT_TOKENS:
        return []
    text_completion = await _none_if_texts_are_refused(api.generate(text, _CONTINUATION_TOKENS))
    if text_completion is None:
        return [_NO_TEXT_NOTE]
    bos_counts: Sequence[int] = _possible_bos_counts(tokenizer)
    if text_completion.prompt_token_count:
        if text_completion.prompt_token_count - len(text_ids) not in bos_counts:
            raise _count_error(text_completion.prompt_token_count, len(text_ids), where)
        bos_counts = [text_completion.prompt_token_count - len(text_ids)]
    if text_completion.prompt_ids is not None:
        bos_count = len(text_completion.prompt_ids) - len(text_ids)
        if bos_count not in bos_counts:
            raise _count_error(len(text_completion.prompt_ids), len(text_ids), where)
        _check_text_ids(text_completion.prompt_ids, _after_bos(tokenizer, bos_count, text_ids), where)
        return []
    continuations = []
    for bos_count in bos_counts:
        id_completion = await api.generate(_after_bos(tokenizer, bos_count, text_ids), _CONTINUATION_TOKENS)
        shared_length = len(os.path.commonprefix([text_completion.text.strip(), id_completion.text.strip()]))
        # Half of it: a server that rounds otherwise with each batch may end on another token.
        if 2 * shared_length >= max(len(text_completion.text.strip()), len(id_completion.text.strip())):
            return []
        continuations.append(id_completion.text)
    raise UserError(
        f"a sentence is continued with {text_completion.text!r} as text and with {' or '.join(map(repr, continuations))} as "
        "the ids of the model folder's tokenizer",
        where=where,
        hint=_OTHER_TOKENIZER_HINT,
    )


async def check_alignment(
    api: ServerApi, where: str, prompt_ids: list[int], tokenizer: Tokenizer | None, window_tokens: int | None
) -> list[str]:
    """Prove that a server's log-probabilities are those of the tokens that it was sent.

    `prompt_ids` are 2 or more ids that are sent, `where` is the server's address for errors, `window_tokens` its context window,
    None where it is not known. With a `tokenizer` a text is compared too. Returns sentences on what is no error.
    Raises UserError, with the numbers, where two answers do not agree.
    """
    whole_scores = await api.score(prompt_ids)
    _check_echoed_ids(whole_scores, prompt_ids, where)
    _check_tops(whole_scores, where)
    prompt_check = _PromptCheck(api, where, prompt_ids, whole_scores)
    await prompt_check.check_halves()
    await prompt_check.check_context_is_used()
    if window_tokens is None or len(prompt_ids) + 2 <= window_tokens:
        await prompt_check.check_generated_token(tokenizer)
    notes = _precision_notes(whole_scores)
    if all(value is None for value in whole_scores.top_log_probabilities):
        notes.append(
            "the server does not tell the likeliest tokens: no answer counts as the greedy one, and scores that ask whether it "
            "is one (lambada's) are 0"
        )
    if tokenizer is not None:
        notes += await _check_text(api, where, tokenizer, window_tokens)
    return notes


def _check_echoed_ids(scores: PromptScores, prompt_ids: Sequence[int], where: str) -> None:
    if scores.token_ids is not None and scores.token_ids != list(prompt_ids):
        raise UserError(
            f"{_listed(prompt_ids)} were sent as token ids, and the server echoes {_listed(scores.token_ids)}",
            where=where,
            hint="the server, or what stands before it, makes other ids of a prompt",
        )


@dataclass(frozen=True)
class _PromptCheck:
    """Other requests for the scores of a prompt's tokens, which must agree with `whole_scores`, those of the whole prompt.

    `where` is the server's address for errors.
    """

    api: ServerApi
    where: str
    prompt_ids: list[int]
    whole_scores: PromptScores

    @property
    def middle(self) -> int:
        """The position at which the second half begins."""
        return max(1, len(self.prompt_ids) // 2)

    async def check_halves(self) -> None:
        """The first half has the same scores alone; the second half has them again, where it may come after a cached half."""
        if self.middle > 1:
            scores = await self.api.score(self.prompt_ids[: self.middle])
            self._check_equal(scores, range(1, self.middle), f"where the first {self.middle} are sent alone")
        scores = await self.api.score(self.prompt_ids, self.middle)
        positions = range(self.middle, len(self.prompt_ids))
        self._check_equal(scores, positions, f"in a request for positions from {self.middle} on")

    async def check_context_is_used(self) -> None:
        """With another token in the middle, the tokens after it have other scores, and those before it the same.

        Only those well after it are requested, so that the other token itself may come from a cache.
        """
        middle_id = self.prompt_ids[self.middle]
        positions = range(self.middle + 2, len(self.prompt_ids))
        other_id = next((token_id for token_id in self.prompt_ids if token_id != middle_id), None)
        if other_id is None or not positions:
            return
        changed_ids = [*self.prompt_ids[: self.middle], other_id, *self.prompt_ids[self.middle + 1 :]]
        scores = await self.api.score(changed_ids, positions.start)
        change_text = f"with id {other_id} instead of {middle_id} at position {self.middle}"
        self._check_equal(scores, range(1, self.middle), change_text)
        whole_values = [self.whole_scores.log_probabilities[position] for position in positions]
        if whole_values == [scores.log_probabilities[position] for position in positions]:
            raise UserError(
                f"positions {positions.start} to {positions.stop - 1} have the same log-probabilities "
                f"({', '.join(map(_number, whole_values[:3]))}, …) {change_text}",
                where=self.where,
                hint="the server takes them from a cache of another prompt, or does not look at the context",
            )

    async def check_generated_token(self, tokenizer: Tokenizer | None) -> None:
        """The likeliest next token has the same log-probability generated, as the top one of a prompt, and scored."""
        prompt_length = len(self.prompt_ids)
        completion = await self.api.generate(self.prompt_ids, 1, with_tokens=True)
        if not completion.log_probabilities:
            return  # ends at once, with a token that is not in the answer
        generated_value = completion.log_probabilities[0]
        generated_id = completion.token_ids[0] if completion.token_ids else None
        candidate_id = self.prompt_ids[0] if generated_id is None else generated_id
        if generated_id is None and tokenizer is not None:
            # By its text, which several tokens may have: its score then proves nothing against the server.
            candidate_id = [candidate_id, *tokenizer.encode((completion.token_texts or [completion.text])[0])][-1]
        scores = await self.api.score([*self.prompt_ids, candidate_id], self.middle)
        self._check_equal(scores, range(self.middle, prompt_length), "with one token more")
        scored_value, top_value = scores.log_probabilities[-1], scores.top_log_probabilities[-1]
        if top_value is not None and not _agree(top_value, generated_value):
            raise UserError(
                f"the likeliest token after {prompt_length} ids has log-probability {_number(generated_value)} where it is "
                f"generated, and {_number(top_value)} where a prompt is scored",
                where=self.where,
                hint=f"{_MISALIGNED_HINT}, or those of texts are not the model's own (a temperature, a penalty)",
            )
        if generated_id is not None and not _agree(scored_value, generated_value):
            raise UserError(
                f"token id {generated_id} is generated after {prompt_length} ids with log-probability "
                f"{_number(generated_value)}, and scored there with {_number(scored_value)}",
                where=self.where,
                hint=_MISALIGNED_HINT,
            )

    def _check_equal(self, scores: PromptScores, positions: range, request_text: str) -> None:
        """The scores of some positions are those of the whole prompt, as far as an answer has them."""
        for position in positions:
            whole_value, value = self.whole_scores.log_probabilities[position], scores.log_probabilities[position]
            if value is not None and not _agree(whole_value, value):
                raise UserError(
                    f"the token at position {position} of a prompt of {len(self.prompt_ids)} has log-probability "
                    f"{_number(whole_value)}, and {_number(value)} {request_text}",
                    where=self.where,
                    hint=f"{_MISALIGNED_HINT}, or come from a cache of another prompt",
                )


def _check_tops(scores: PromptScores, where: str) -> None:
    """No log-probability is above 0, and no token is likelier than the likeliest at its place."""
    positive = next((value for value in scores.log_probabilities if value is not None and value > _ROUNDING_NATS), None)
    if positive is not None:
        raise UserError(
            f"the server gives {_number(positive)} as a log-probability, which is above 0",
            where=where,
            hint="it may give logits (vLLM: --logprobs-mode)",
        )
    for position, (value, top_value) in enumerate(
        zip(scores.log_probabilities, scores.top_log_probabilities, strict=True)
    ):
        if value is not None and top_value is not None and value > top_value and not _agree(value, top_value):
            raise UserError(
                f"the token at position {position} has log-probability {_number(value)}, and the likeliest one there "
                f"{_number(top_value)}",
                where=where,
                hint=_MISALIGNED_HINT,
            )


async def _check_text(api: ServerApi, where: str, tokenizer: Tokenizer, window_tokens: int | None) -> list[str]:
    """A text has the same scores as its ids by the tokenizer here, after the BOS that the server may put in front of it."""
    text, text_ids = _text_within(tokenizer, None if window_tokens is None else window_tokens - _MAX_BOS_TOKENS - 1)
    if len(text_ids) < _MIN_PROBE_TEXT_TOKENS:
        return []
    text_scores = await _none_if_texts_are_refused(api.score(text))
    if text_scores is None:
        return [_NO_TEXT_NOTE]
    bos_count = len(text_scores.log_probabilities) - len(text_ids)
    if bos_count not in _possible_bos_counts(tokenizer):
        raise _count_error(len(text_scores.log_probabilities), len(text_ids), where)
    sent_ids = _after_bos(tokenizer, bos_count, text_ids)
    if text_scores.token_ids is not None:
        _check_text_ids(text_scores.token_ids, sent_ids, where)
    id_scores = await api.score(sent_ids)
    for position in range(1, len(sent_ids)):
        text_value, id_value = text_scores.log_probabilities[position], id_scores.log_probabilities[position]
        if not _agree(text_value, id_value):
            raise UserError(
                f"a sentence has the log-probability {_sum_text(text_scores)} as text and {_sum_text(id_scores)} as the ids of "
                f"the model folder's tokenizer; its token {position} has {_number(text_value)} and {_number(id_value)}",
                where=where,
                hint=_OTHER_TOKENIZER_HINT,
            )
    if bos_count == _MAX_BOS_TOKENS:
        return [f"the server puts {bos_count} BOS tokens in front of a text; it is sent ids, which get none"]
    return []


def _possible_bos_counts(tokenizer: Tokenizer) -> range:
    """How many BOS tokens a server may put in front of a text."""
    return range(1 if tokenizer.bos_id is None else _MAX_BOS_TOKENS + 1)


def _after_bos(tokenizer: Tokenizer, bos_count: int, token_ids: list[int]) -> list[int]:
    """Ids after some BOS tokens; a tokenizer without one has 0 of them."""
    return token_ids if tokenizer.bos_id is None else [*[tokenizer.bos_id] * bos_count, *token_ids]


async def _none_if_texts_are_refused(answer: Awaitable[_T]) -> _T | None:
    """The answer to a request that has a text for its prompt; None where the server takes no texts."""
    try:
        return await answer
    except RequestRefused as error:
        if error.status_code not in _NO_TEXT_STATUS_CODES:
            raise
        return None


def _check_text_ids(server_ids: Sequence[int], own_ids: Sequence[int], where: str) -> None:
    """The ids of a text are the same on the server and here; there are as many."""
    for position, (server_id, own_id) in enumerate(zip(server_ids, own_ids, strict=True)):
        if server_id != own_id:
            raise UserError(
                f"at position {position} of a sentence the server has token id {server_id}, and the model folder's tokenizer "
                f"{own_id}",
                where=where,
                hint=_OTHER_TOKENIZER_HINT,
            )


def _count_error(server_count: int, own_count: int, where: str) -> UserError:
    return UserError(
        f"the server makes {server_count} tokens of a sentence, and the model folder's tokenizer {own_count}",
        where=where,
        hint=_OTHER_TOKENIZER_HINT,
    )


def _text_within(tokenizer: Tokenizer, max_tokens: int | None) -> tuple[str, list[int]]:
    """As many words of the probe text as make at most so many tokens, and their ids."""
    words = _PROBE_TEXT.split(" ")
    while words:
        text = " ".join(words)
        token_ids = tokenizer.encode(text)
        if max_tokens is None or len(token_ids) <= max_tokens:
            return text, token_ids
        words.pop()
    return "", []


def _precision_notes(scores: PromptScores) -> list[str]:
    """What the numbers themselves say of their precision."""
    values = [value for value in scores.log_probabilities if value is not None]
    if len(values) < 4:
        return []
    for type_name, significant_bits in (("bfloat16", 8), ("float16", 11)):
        if all(math.isfinite(value) and _has_bits(value, significant_bits) for value in values):
            step = max(2.0 ** (math.frexp(value)[1] - significant_bits) for value in values)
            return [
                f"the server rounds log-probabilities to {type_name}, here in steps of {step:g} nats; in process they are float32"
            ]
    return []


def _has_bits(value: float, significant_bits: int) -> bool:
    """Whether a number needs no more than so many significant bits."""
    mantissa, _ = math.frexp(value)
    scaled_mantissa = mantissa * 2**significant_bits
    return scaled_mantissa == int(scaled_mantissa)


def _agree(first_value: float | None, second_value: float | None) -> bool:
    """Whether two log-probabilities may be of one token, nats; None is where a server has none."""
    if first_value is None or second_value is None:
        return first_value is second_value
    if math.isnan(first_value) or math.isnan(second_value):  # the model's own, and an error of the request that has it
        return math.isnan(first_value) == math.isnan(second_value)
    max_difference = _MAX_DIFFERENCE_NATS + _MAX_RELATIVE_DIFFERENCE * max(abs(first_value), abs(second_value))
    return first_value == second_value or abs(first_value - second_value) <= max_difference


def _sum_text(scores: PromptScores) -> str:
    return _number(math.fsum(value for value in scores.log_probabilities if value is not None))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _listed(token_ids: Iterable[int]) -> str:
    ids = [str(token_id) for token_id in token_ids]
    return ", ".join(ids[:8]) + (", …" if len(ids) > 8 else "")
