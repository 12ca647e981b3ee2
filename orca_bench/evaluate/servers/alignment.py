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
from collections.abc import Iterable, Sequence

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
_MAX_BOS_TOKENS = 2  # that a server may put in front of a text; of ids it must not put any


async def check_tokenizer_by_texts(
    api: ServerApi, where: str, tokenizer: Tokenizer, window_tokens: int | None
) -> list[str]:
    """Show that a server that scores no prompts has the tokenizer here: a text and its ids have the same greedy continuation.

    Where it tells how many tokens the text has, or which, these are compared first. Returns sentences on what was seen and is no
    error. Raises UserError where the tokenizers are not the same.
    """
    reserved_tokens = _MAX_BOS_TOKENS + _CONTINUATION_TOKENS
    text, text_ids = _text_within(tokenizer, None if window_tokens is None else window_tokens - reserved_tokens)
    if len(text_ids) < _MIN_PROBE_TEXT_TOKENS:
        return []
    try:
        of_text = await api.generate(text, _CONTINUATION_TOKENS, is_first_request=True)
    except RequestRefused as error:
        if error.status_code not in _NO_TEXT_STATUS_CODES:
            raise
        return [_NO_TEXT_NOTE]
    bos_counts: Sequence[int] = range(_MAX_BOS_TOKENS + 1) if tokenizer.bos_id is not None else [0]
    if of_text.prompt_token_count:
        if of_text.prompt_token_count - len(text_ids) not in bos_counts:
            raise _count_error(of_text.prompt_token_count, len(text_ids), where)
        bos_counts = [of_text.prompt_token_count - len(text_ids)]
    continuations = []
    for bos_count in bos_counts:
        sent_ids = [*[tokenizer.bos_id] * bos_count, *text_ids] if tokenizer.bos_id is not None else text_ids
        if of_text.prompt_ids is not None:
            if len(of_text.prompt_ids) == len(sent_ids):
                _check_text_ids(of_text.prompt_ids, sent_ids, where)
                return []
            continue
        of_ids = await api.generate(sent_ids, _CONTINUATION_TOKENS, is_first_request=True)
        shared_length = len(os.path.commonprefix([of_text.text.strip(), of_ids.text.strip()]))
        # Half of it: a server that rounds otherwise with each batch may end on another token.
        if 2 * shared_length >= max(len(of_text.text.strip()), len(of_ids.text.strip())):
            return []
        continuations.append(of_ids.text)
    if of_text.prompt_ids is not None:
        raise _count_error(len(of_text.prompt_ids), len(text_ids), where)
    raise UserError(
        f"a sentence is continued with {of_text.text!r} as text and with {' or '.join(map(repr, continuations))} as the ids of "
        "the model folder's tokenizer",
        where=where,
        hint=_OTHER_TOKENIZER_HINT,
    )


async def check_alignment(
    api: ServerApi, where: str, prompt_ids: list[int], tokenizer: Tokenizer | None, window_tokens: int | None
) -> list[str]:
    """Prove that a server's log-probabilities are those of the tokens that it was sent.

    `prompt_ids` are 2 or more ids that are sent, `where` is the server's address for errors, `window_tokens` its context window,
    None where it is not known. With a `tokenizer` a text is compared too. Returns sentences on what was seen and is no error.
    Raises UserError, with the numbers, where two answers do not agree.
    """
    whole = await api.score(prompt_ids, is_first_request=True)
    _check_echoed_ids(whole, prompt_ids, where)
    _check_tops(whole, where)
    middle = max(1, len(prompt_ids) // 2)
    await _check_halves(api, where, prompt_ids, middle, whole)
    await _check_context_is_used(api, where, prompt_ids, middle, whole)
    if window_tokens is None or len(prompt_ids) + 2 <= window_tokens:
        await _check_generated_token(api, where, prompt_ids, middle, whole, tokenizer)
    notes = _precision_notes(whole)
    if all(value is None for value in whole.top_log_probabilities):
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


async def _check_halves(api: ServerApi, where: str, prompt_ids: list[int], middle: int, whole: PromptScores) -> None:
    """A prompt's first half has the same scores alone; its second half has them again, where it may come after a cached half."""
    prompt_text = f"of a prompt of {len(prompt_ids)}"
    if middle > 1:
        first_half = await api.score(prompt_ids[:middle], is_first_request=True)
        _check_equal(
            whole, first_half, range(1, middle), prompt_text, f"where the first {middle} are sent alone", where
        )
    second_half = await api.score(prompt_ids, middle, is_first_request=True)
    positions = range(middle, len(prompt_ids))
    _check_equal(whole, second_half, positions, prompt_text, f"in a request for positions from {middle} on", where)


def _check_equal(
    one: PromptScores, other: PromptScores, positions: range, prompt_text: str, other_text: str, where: str
) -> None:
    """The scores of some positions are the same in two answers, as far as both have them."""
    for position in positions:
        one_value, other_value = one.log_probabilities[position], other.log_probabilities[position]
        if other_value is not None and not _agree(one_value, other_value):
            raise UserError(
                f"the token at position {position} {prompt_text} has log-probability {_number(one_value)}, and "
                f"{_number(other_value)} {other_text}",
                where=where,
                hint=f"{_MISALIGNED_HINT}, or come from a cache of another prompt",
            )


async def _check_context_is_used(
    api: ServerApi, where: str, prompt_ids: list[int], middle: int, whole: PromptScores
) -> None:
    """With another token in the middle, the tokens after it have other scores, and those before it the same.

    Only those well after it are requested, so that the other token itself may come from a cache.
    """
    positions = range(middle + 2, len(prompt_ids))
    other_id = next((token_id for token_id in prompt_ids if token_id != prompt_ids[middle]), None)
    if other_id is None or not positions:
        return
    changed_ids = [*prompt_ids[:middle], other_id, *prompt_ids[middle + 1 :]]
    changed = await api.score(changed_ids, positions.start, is_first_request=True)
    changed_text = f"with id {other_id} instead of {prompt_ids[middle]} at position {middle}"
    _check_equal(whole, changed, range(1, middle), f"of a prompt of {len(prompt_ids)}", changed_text, where)
    if all(whole.log_probabilities[n] == changed.log_probabilities[n] for n in positions):
        raise UserError(
            f"positions {positions.start} to {positions.stop - 1} have the same log-probabilities "
            f"({', '.join(_number(whole.log_probabilities[n]) for n in positions[:3])}, …) {changed_text}",
            where=where,
            hint="the server takes them from a cache of another prompt, or does not look at the context",
        )


async def _check_generated_token(
    api: ServerApi, where: str, prompt_ids: list[int], middle: int, whole: PromptScores, tokenizer: Tokenizer | None
) -> None:
    """The likeliest next token has the same log-probability generated, as the top one of a prompt, and scored."""
    completion = await api.generate(prompt_ids, 1, tells_tokens=True, is_first_request=True)
    if not completion.log_probabilities:
        return  # ends at once, and is not told
    generated_value = completion.log_probabilities[0]
    generated_id = completion.token_ids[0] if completion.token_ids else None
    candidate_id = prompt_ids[0] if generated_id is None else generated_id
    if generated_id is None and tokenizer is not None:
        # By its text, which several tokens may have: its score then proves nothing against the server.
        candidate_id = [candidate_id, *tokenizer.encode((completion.token_texts or [completion.text])[0])][-1]
    scores = await api.score([*prompt_ids, candidate_id], middle, is_first_request=True)
    _check_equal(
        whole, scores, range(middle, len(prompt_ids)), f"of a prompt of {len(prompt_ids)}", "with one token more", where
    )
    scored_value, top_value = scores.log_probabilities[-1], scores.top_log_probabilities[-1]
    if top_value is not None and not _agree(top_value, generated_value):
        raise UserError(
            f"the likeliest token after {len(prompt_ids)} ids has log-probability {_number(generated_value)} where it is "
            f"generated, and {_number(top_value)} where a prompt is scored",
            where=where,
            hint=f"{_MISALIGNED_HINT}, or those of texts are not the model's own (a temperature, a penalty)",
        )
    if generated_id is not None and not _agree(scored_value, generated_value):
        raise UserError(
            f"token id {generated_id} is generated after {len(prompt_ids)} ids with log-probability "
            f"{_number(generated_value)}, and scored there with {_number(scored_value)}",
            where=where,
            hint=_MISALIGNED_HINT,
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
    try:
        of_text = await api.score(text, is_first_request=True)
    except RequestRefused as error:
        if error.status_code not in _NO_TEXT_STATUS_CODES:
            raise
        return [_NO_TEXT_NOTE]
    bos_count = len(of_text.log_probabilities) - len(text_ids)
    bos_ids = [tokenizer.bos_id] * max(0, bos_count) if tokenizer.bos_id is not None else []
    if len(bos_ids) != bos_count or bos_count > _MAX_BOS_TOKENS:
        raise _count_error(len(of_text.log_probabilities), len(text_ids), where)
    sent_ids = [*bos_ids, *text_ids]
    if of_text.token_ids is not None:
        _check_text_ids(of_text.token_ids, sent_ids, where)
    of_ids = await api.score(sent_ids, is_first_request=True)
    for position in range(1, len(sent_ids)):
        one, other = of_text.log_probabilities[position], of_ids.log_probabilities[position]
        if not _agree(one, other):
            raise UserError(
                f"a sentence has the log-probability {_sum_text(of_text)} as text and {_sum_text(of_ids)} as the ids of the "
                f"model folder's tokenizer; its token {position} has {_number(one)} and {_number(other)}",
                where=where,
                hint=_OTHER_TOKENIZER_HINT,
            )
    if bos_count == _MAX_BOS_TOKENS:
        return [f"the server puts {bos_count} BOS tokens in front of a text; it is sent ids, which get none"]
    return []


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


def _agree(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    if math.isnan(one) or math.isnan(other):  # the model's own, perhaps, and an error of the request that has it
        return math.isnan(one) == math.isnan(other)
    limit = _MAX_DIFFERENCE_NATS + _MAX_RELATIVE_DIFFERENCE * max(abs(one), abs(other))
    return one == other or abs(one - other) <= limit


def _sum_text(scores: PromptScores) -> str:
    return _number(math.fsum(value for value in scores.log_probabilities if value is not None))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _listed(token_ids: Iterable[int]) -> str:
    ids = [str(token_id) for token_id in token_ids]
    return ", ".join(ids[:8]) + (", …" if len(ids) > 8 else "")
