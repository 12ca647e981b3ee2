"""Requests in lexicographic order in, their answers out: sent as a prefix tree is walked, several at a time.

A server with a prefix cache computes a prefix once if the requests that share it come one after the other, and once only if the
first of them has been answered before the others are sent: what is under way is in nobody's cache. So a request waits for the
first one that has the prefix which it shares with the request before it, while requests of other prefixes are sent. Its own
module because it knows neither servers nor what is asked.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orca_bench.evaluate.engine.prefix_tree import shared_prefix_length

#: Fewer shared tokens are computed sooner than they are waited for; vLLM caches blocks of 16.
_MIN_SHARED_TOKENS = 32

_T = TypeVar("_T")


@dataclass(frozen=True)
class RequestPlan:
    """For each request, in lexicographic order, the earlier one that it waits for; None where it may be sent at once."""

    awaited_positions: list[int | None]


def plan_requests(sorted_token_ids: Sequence[Sequence[int]], waits_for_prefixes: bool) -> RequestPlan:
    """The plan for prompts in lexicographic order of their ids.

    Without `waits_for_prefixes` no request waits for another, and the order alone helps the server's cache.
    """
    if not waits_for_prefixes:
        return RequestPlan([None] * len(sorted_token_ids))
    awaited_positions: list[int | None] = []
    # Of the prefixes of the prompt before: their lengths, rising, and the first request that has each.
    path: list[tuple[int, int]] = []
    previous_ids: Sequence[int] = ()
    for position, token_ids in enumerate(sorted_token_ids):
        shared_length = shared_prefix_length(previous_ids, token_ids)
        first_position = position
        while path and path[-1][0] >= shared_length:
            first_position = path.pop()[1]
        # The longer prefixes of the prompt before end here; the first request that has one of them has the shorter one too.
        if shared_length and first_position != position:
            path.append((shared_length, first_position))
        awaited_positions.append(first_position if shared_length >= _MIN_SHARED_TOKENS else None)
        path.append((len(token_ids), position))
        previous_ids = token_ids
    return RequestPlan(awaited_positions)


async def send_all(plan: RequestPlan, answer: Callable[[int], Awaitable[_T]], max_concurrent_requests: int) -> list[_T]:
    """The answers of all requests in order; the first that fails cancels the others.

    `answer` sends the request at a position. Of the requests that need not wait the first is sent first, so that the tree is
    walked depth first and what is under way shares what was just computed.
    """
    answers: dict[int, _T] = {}
    waiting_positions: dict[int, list[int]] = {}
    ready_positions: list[int] = []
    for position, awaited_position in enumerate(plan.awaited_positions):
        if awaited_position is None:
            ready_positions.append(position)  # rising, which is a heap
        else:
            waiting_positions.setdefault(awaited_position, []).append(position)
    position_by_task: dict[asyncio.Future[_T], int] = {}
    try:
        while ready_positions or position_by_task:
            while ready_positions and len(position_by_task) < max_concurrent_requests:
                position = heapq.heappop(ready_positions)
                position_by_task[asyncio.ensure_future(answer(position))] = position
            done_tasks, _ = await asyncio.wait(position_by_task, return_when=asyncio.FIRST_COMPLETED)
            for task in done_tasks:
                position = position_by_task.pop(task)
                answers[position] = task.result()
                for waiting_position in waiting_positions.pop(position, ()):
                    heapq.heappush(ready_positions, waiting_position)
    finally:
        for task in position_by_task:
            task.cancel()
        await asyncio.gather(*position_by_task, return_exceptions=True)
    return [answers[position] for position in range(len(plan.awaited_positions))]
