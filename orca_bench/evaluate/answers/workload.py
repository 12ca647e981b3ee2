"""How much an evaluation has to compute, counted before it starts, and when it will end, estimated while it runs.

In: the calls that will be made, and the tokens done so far. Out: numbers, and sentences for the user. Log-likelihoods and
texts are counted apart, because a generated token takes many times as long as one that is scored; until one kind has been
timed it is assumed to be as fast as the other. Its own module because it needs neither models nor screens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orca_bench.evaluate.answers.portions import SCORES, TEXTS


@dataclass
class Workload:
    """Tokens by kind, SCORES or TEXTS.

    `total_tokens_by_kind` are all; of texts as many as these may have at most. `cached_tokens_by_kind` are those that an
    earlier run has computed. `uncounted_protocols` names the protocols whose requests are known only when they are sent.
    `request_count` counts the requests of the other protocols.
    """

    total_tokens_by_kind: dict[str, int] = field(default_factory=lambda: {SCORES: 0, TEXTS: 0})
    cached_tokens_by_kind: dict[str, int] = field(default_factory=lambda: {SCORES: 0, TEXTS: 0})
    uncounted_protocols: list[str] = field(default_factory=list)
    request_count: int = 0

    def sentence(self) -> str:
        """What is to be computed, for the user."""
        counted_parts = []
        for answer_kind, quantifier in ((SCORES, ""), (TEXTS, "at most ")):
            if remaining_tokens := self.total_tokens_by_kind[answer_kind] - self.cached_tokens_by_kind[answer_kind]:
                counted_parts.append(f"{quantifier}{remaining_tokens:,} tokens of {answer_kind}")
        cached_token_count = sum(self.cached_tokens_by_kind.values())
        if not counted_parts and (cached_token_count or not self.uncounted_protocols):
            counted_parts.append("nothing")
        if cached_token_count:
            counted_parts.append(f"{cached_token_count:,} tokens were cached by an earlier run")
        counted_phrases = [", ".join(counted_parts)] if counted_parts else []
        return "to compute: " + "; ".join(
            counted_phrases + [f"{protocol_name}, counted task by task" for protocol_name in self.uncounted_protocols]
        )


class CompletionClock:
    """When the work will end, from the time that its tokens took so far.

    `read_clock_s` returns seconds, and may be another clock in a test. Only time in which something was computed counts.
    `remaining_tokens_by_kind` are the tokens that are still to be computed, by kind.
    """

    def __init__(self, workload: Workload, read_clock_s: Callable[[], float] = time.monotonic):
        self._read_clock_s, self.uncounted_protocols = read_clock_s, workload.uncounted_protocols
        self.remaining_tokens_by_kind: dict[str, float] = {
            answer_kind: workload.total_tokens_by_kind[answer_kind] - workload.cached_tokens_by_kind[answer_kind]
            for answer_kind in workload.total_tokens_by_kind
        }
        self._unskipped_cached_tokens_by_kind: dict[str, float] = dict(workload.cached_tokens_by_kind)
        self._computed_tokens_by_kind = dict.fromkeys(self.remaining_tokens_by_kind, 0.0)
        self._seconds_by_kind = dict.fromkeys(self.remaining_tokens_by_kind, 0.0)
        self._last_time_s = read_clock_s()

    def begin(self, answer_kind: str, token_count: int, is_counted: bool = True) -> None:
        """A call begins, and with it the time that counts; a call that was not counted before adds its tokens."""
        self._last_time_s = self._read_clock_s()
        if not is_counted:
            self.remaining_tokens_by_kind[answer_kind] += token_count

    def advance(self, answer_kind: str, token_count: float) -> None:
        """So many tokens were computed since the call of a method before this one."""
        current_time_s = self._read_clock_s()
        self._seconds_by_kind[answer_kind] += current_time_s - self._last_time_s
        self._last_time_s = current_time_s
        self._computed_tokens_by_kind[answer_kind] += token_count
        self.remaining_tokens_by_kind[answer_kind] = max(0, self.remaining_tokens_by_kind[answer_kind] - token_count)

    def skip(self, answer_kind: str, token_count: float) -> None:
        """So many tokens came from the cache; those that were not counted as cached are left no more."""
        self._last_time_s = self._read_clock_s()
        cached_token_count = min(self._unskipped_cached_tokens_by_kind[answer_kind], token_count)
        self._unskipped_cached_tokens_by_kind[answer_kind] -= cached_token_count
        self.remaining_tokens_by_kind[answer_kind] = max(
            0, self.remaining_tokens_by_kind[answer_kind] - (token_count - cached_token_count)
        )

    @property
    def computing_seconds(self) -> float:
        """Seconds of computing so far."""
        return sum(self._seconds_by_kind.values())

    @property
    def computed_tokens(self) -> float:
        """Tokens computed so far."""
        return sum(self._computed_tokens_by_kind.values())

    def remaining_seconds(self) -> float | None:
        """Seconds until everything is computed; None where nothing was timed yet.

        Tokens are counted when a call gives them, so the time since the last one is taken off. A call that takes longer than
        everything was to take is expected to need a quarter more of the time that it has had.
        """
        seconds_per_token_by_kind = {
            answer_kind: self._seconds_by_kind[answer_kind] / self._computed_tokens_by_kind[answer_kind]
            for answer_kind in self.remaining_tokens_by_kind
            if self._computed_tokens_by_kind[answer_kind]
        }
        if not seconds_per_token_by_kind:
            return None
        slowest_seconds_per_token = max(seconds_per_token_by_kind.values())
        seconds_since_last_token = self._read_clock_s() - self._last_time_s
        expected_seconds = sum(
            remaining_tokens * seconds_per_token_by_kind.get(answer_kind, slowest_seconds_per_token)
            for answer_kind, remaining_tokens in self.remaining_tokens_by_kind.items()
        )
        if not expected_seconds:
            return 0.0
        return max(expected_seconds - seconds_since_last_token, seconds_since_last_token / 4)

    def sentence(self) -> str | None:
        """When it will end, by the clock and in how long; None where nothing was timed yet."""
        remaining_seconds = self.remaining_seconds()
        if remaining_seconds is None:
            return None
        end_time = time.localtime(time.time() + remaining_seconds)
        date_text = "" if remaining_seconds < 12 * 3600 else time.strftime("%Y-%m-%d ", end_time)
        return f"ends about {date_text}{time.strftime('%H:%M', end_time)}, in {duration_text(remaining_seconds)}"


def count_text(count: float) -> str:
    """A count in three digits: 950, 12.3k, 4.56M, 13.0B."""
    for unit_size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit_size:
            return f"{count / unit_size:.3g}{unit}"
    return f"{count:.0f}"


def duration_text(duration_s: float) -> str:
    """A length of time in one or two units: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if duration_s < 90:
        return f"{duration_s:.0f} s"
    minutes = round(duration_s / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
