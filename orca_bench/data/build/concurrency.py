"""How many requests may be at a teacher at one time: a limit that grows with answers and shrinks with refusals for the rate.

The limit doubles with each round of answers until the first refusal, and from then on grows by additive increase and shrinks by
multiplicative decrease, as TCP does (Chiu and Jain 1989, https://doi.org/10.1016/0169-7552(89)90019-6). The limit that was
refused last is tried again only after 200 answers, so that few requests are spent on what is known. A server that names a time
to wait, or what is left of its limits, is obeyed; one that fails again and again is asked ever more rarely. All waits are by the
monotonic clock. Its own module because it knows nothing of what is sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from orca_bench.data.build.rate_headers import remaining_requests, retry_after_s

_INFINITY = float("inf")
LONGEST_WAIT_S = 120.0  # that a server may ask for at once; then it is asked again
_FIRST_WAIT_S = 0.25
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 60.0
_DECREASE = 0.9
_STRONGEST_DECREASE = 0.5  # of one round, whatever number of its requests is refused
_GROWTH_BELOW_REFUSED_LIMIT = 0.2  # for each answer: fewer than were refused were accepted before
_FAILURES_OF_OUTAGE = 3  # one after the other without an answer; single failures are no sign of it
_ANSWERS_BEFORE_REFUSED_LIMIT = 200  # so that at most 1 request in 200 is refused where a server's limit stays the same


@dataclass(frozen=True)
class Turn:
    """One request that may be sent: its number, from 1, and its round, of which the limit shrinks once."""

    number: int
    round_number: int


def backoff_s(failure_count: int) -> float:
    """Seconds before a request is sent again: they double, with chance, so that requests do not come back together."""
    return min(_FIRST_BACKOFF_S * 2 ** min(failure_count - 1, 10), _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)


class ConcurrencyLimit:
    """The requests that are in flight, and how many may be: `limit`, at first 1, at most `most`.

    `acquire` before sending, and then exactly one of `record_answer`, `record_refusal`, `record_failure` and `release`.
    `tokens_per_request` is what one request takes of a server's limit of tokens, by a guess.
    """

    def __init__(self, most: int):
        self._most = most
        self.limit = 1.0
        self.in_flight = 0
        self.tokens_per_request = 1.0
        self._refused_limit: int | None = None
        self._is_refused_limit_fixed = True
        self._limit_before_round = 1.0
        self._round = self._turn_count = 0
        self._newest_number = 0  # of the turns whose replies told what is left
        self._answers_since_refusal = 0
        self._refusals_since_answer = 0
        self._failures_since_answer = 0
        self._held_until_s = 0.0
        self._remaining_requests = self._most_remaining_requests = self._remaining_until_s = _INFINITY
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> Turn:
        """Wait until one more may be sent."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise
        self._turn_count += 1
        return Turn(self._turn_count, self._round)

    def release(self) -> None:
        """One that was acquired is back, which says nothing of the limit."""
        self.in_flight -= 1
        self._wake()

    def record_answer(self, turn: Turn, headers: Mapping[str, str]) -> None:
        """A request was answered: the limit grows, unless the headers say that little is left."""
        self.in_flight -= 1
        self._answers_since_refusal += 1
        self._refusals_since_answer = self._failures_since_answer = 0
        highest_limit: float = self._most
        if self._refused_limit is None:
            self.limit += 1
        else:
            self.limit += max(1 / self.limit, _GROWTH_BELOW_REFUSED_LIMIT if self._is_refused_limit_fixed else 0.0)
            if self._is_refused_limit_fixed:
                steps = self._answers_since_refusal // _ANSWERS_BEFORE_REFUSED_LIMIT
                highest_limit = min(highest_limit, self._refused_limit - 1 + steps * (steps + 1) // 2)
        self.limit = max(1.0, min(self.limit, highest_limit))
        self._read_headers(turn, headers)
        self._wake()

    def record_refusal(self, turn: Turn, headers: Mapping[str, str]) -> None:
        """A request of a round was refused for the rate: the limit shrinks, and nothing is sent for a while where that helps.

        The first refusal of a round takes a tenth of the limit, the very first one half of it. Further ones say how many were
        accepted beside them: the limit becomes that, at least half of what it was.
        """
        self.in_flight -= 1
        if turn.round_number == self._round:
            self._round += 1
            self._refusals_since_answer += 1
            is_first_refusal = self._refused_limit is None  # of a limit that has doubled: half of it was accepted
            # A refusal below the limit that was refused before shows that something else than concurrency is limited.
            self._is_refused_limit_fixed = self._refused_limit is None or int(self.limit) >= self._refused_limit
            self._limit_before_round, self._refused_limit = self.limit, int(self.limit)
            self.limit *= _STRONGEST_DECREASE if is_first_refusal else _DECREASE
        elif self._refused_limit is not None:
            lowest_limit = self._limit_before_round * _STRONGEST_DECREASE
            self.limit = max(lowest_limit, min(self.limit, self.in_flight))
            self._refused_limit = int(min(self._refused_limit, max(lowest_limit, self.in_flight) + 1))
        self.limit = max(1.0, self.limit)
        self._answers_since_refusal = 0
        wait_s = retry_after_s(headers)
        if wait_s is None and self._refusals_since_answer > 1:
            wait_s = _FIRST_WAIT_S * 2 ** min(self._refusals_since_answer, 16)
        self._read_headers(turn, headers)
        self._hold(wait_s or 0.0)

    def record_failure(self, turn: Turn, wait_s: float = 0.0) -> None:
        """A request of a round failed for another reason: after several without an answer the limit is halved, once a round.

        Nothing is sent for `wait_s` seconds.
        """
        self.in_flight -= 1
        self._failures_since_answer += 1
        if self._failures_since_answer >= _FAILURES_OF_OUTAGE and turn.round_number == self._round:
            self._round += 1
            self._refusals_since_answer += 1
            self.limit = max(1.0, self.limit / 2)
            wait_s = max(wait_s, _FIRST_WAIT_S * 2 ** min(self._refusals_since_answer, 16))
        self._hold(wait_s)

    def _hold(self, wait_s: float) -> None:
        """Send nothing for so many seconds, at most LONGEST_WAIT_S."""
        self._held_until_s = max(self._held_until_s, time.monotonic() + min(wait_s, LONGEST_WAIT_S))
        self._wake()

    def _read_headers(self, turn: Turn, headers: Mapping[str, str]) -> None:
        remaining = remaining_requests(headers, self.tokens_per_request)
        if remaining is not None and turn.number > self._newest_number:  # replies overtake one another
            self._newest_number = turn.number
            self._remaining_requests = remaining.request_count
            is_first = self._most_remaining_requests == _INFINITY
            self._most_remaining_requests = max(
                remaining.request_count, 0 if is_first else self._most_remaining_requests
            )
            self._remaining_until_s = time.monotonic() + min(remaining.reset_s, LONGEST_WAIT_S)

    def _room_from_s(self) -> float:
        """When one more may be sent, by the monotonic clock, as far as is known; infinity: after a reply."""
        if time.monotonic() >= self._remaining_until_s:  # the limit is full again, until a reply tells what is left
            self._remaining_requests = max(1.0, self._most_remaining_requests)
            self._remaining_until_s = _INFINITY
        if self.in_flight >= int(self.limit):
            return _INFINITY
        # The server need not have counted what is in flight: only what is left beside it is free.
        if self.in_flight + 1 > self._remaining_requests:
            return max(self._remaining_until_s, self._held_until_s)
        return self._held_until_s

    def _wake(self) -> None:
        while self._waiting:
            room_from_s = self._room_from_s()
            wait_s = room_from_s - time.monotonic()
            if wait_s > 0:
                if wait_s != _INFINITY:
                    self._wake_after(wait_s)
                return
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def _wake_after(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)
