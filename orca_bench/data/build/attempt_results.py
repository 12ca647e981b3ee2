"""How one attempt ended in; state, tokens, price and the request's answer in the ledger out. Online and in batches alike.

Its own module because a request is billed and given up by the same rules, whichever way it was sent.
"""

from __future__ import annotations

from orca_bench.counts import dollars_text
from orca_bench.data.build.answers import ANSWERED_STATE, FAILED_STATE, UNKNOWN_STATE, Answer
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.prices import PICODOLLARS, Usage, price_picodollars
from orca_bench.data.build.teacher_replies import AttemptFailed, Reply
from orca_bench.errors import UserError


def exceeded_error(ledger: Ledger, attempt: int, usage: Usage, settings: Teacher) -> UserError | None:
    """The error that ends a build where an attempt cost more than was reserved for it, so that no budget can be kept.

    Call it before the attempt is written.
    """
    worst_case_picodollars = ledger.worst_case_of(attempt)
    if not usage.is_known or price_picodollars(usage, settings) <= worst_case_picodollars:
        return None
    return UserError(
        f"the teacher counted {usage.prompt_tokens:,} prompt and {usage.completion_tokens:,} response tokens, where at most "
        f"{dollars_text(worst_case_picodollars / PICODOLLARS)} was reserved: the budget could not be kept",
        where="teacher.parameters",
        hint="it may bill thinking beyond its token limit, or know the limit by another name (max_completion_tokens)",
    )


async def store_reply(ledger: Ledger, attempt: int, request_id: str, reply: Reply, settings: Teacher) -> None:
    """Write an answer with its tokens and its price."""
    usage = reply.usage
    await ledger.end_attempt(
        attempt,
        request_id,
        ANSWERED_STATE,
        price_picodollars(usage, settings) if usage.is_known else None,
        usage.prompt_tokens,
        usage.completion_tokens,
        answer=reply.answer,
    )


async def store_failure(
    ledger: Ledger, attempt: int, request_id: str, failure: AttemptFailed, is_last_attempt: bool, settings: Teacher
) -> Answer | None:
    """Write why an attempt gave no answer; returns what the request counts as, None where it may be sent again in this build."""
    usage = failure.usage
    answer: Answer | None = None
    if failure.consequence == "filter":
        answer = Answer("filtered", error=failure.reason)
    elif failure.consequence == "too long":
        answer = Answer("rejected", error=failure.reason)
    elif is_given_up(failure, is_last_attempt):
        answer = Answer("failed", error=failure.reason)
    is_unknown = failure.is_possibly_paid and not usage.is_known
    await ledger.end_attempt(
        attempt,
        request_id,
        UNKNOWN_STATE if is_unknown else FAILED_STATE,
        None if is_unknown else price_picodollars(usage, settings) if usage.is_known else 0,
        usage.prompt_tokens,
        usage.completion_tokens,
        failure.reason,
        answer,
    )
    return answer


def is_given_up(failure: AttemptFailed, is_last_attempt: bool) -> bool:
    """Whether a request is not sent again in this build."""
    return failure.consequence == "reject" or (failure.consequence == "retry" and is_last_attempt)
