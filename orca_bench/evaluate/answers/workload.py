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

    `total_tokens` are all; of texts as many as these may have at most. `cached_tokens` are those that an earlier run has
    computed. `uncounted` names the protocols whose requests are known only when they are sent.
    """

    total_tokens: dict[str, int] = field(default_factory=lambda: {SCORES: 0, TEXTS: 0})
    cached_tokens: dict[str, int] = field(default_factory=lambda: {SCORES: 0, TEXTS: 0})
    uncounted: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """What is to be computed, for the user."""
        phrases = []
        for answer_kind, qualifier in ((SCORES, ""), (TEXTS, "at most ")):
            if remaining_tokens := self.total_tokens[answer_kind] - self.cached_tokens[answer_kind]:
                phrases.append(f"{qualifier}{remaining_tokens:,} tokens of {answer_kind}")
        cached_count = sum(self.cached_tokens.values())
        if not phrases and (cached_count or not self.uncounted):
            phrases.append("nothing")
        if cached_count:
            phrases.append(f"{cached_count:,} tokens are kept by an earlier run")
        counted_phrases = [", ".join(phrases)] if phrases else []
        return "to compute: " + "; ".join(
            counted_phrases + [f"{protocol_name}, counted task by task" for protocol_name in self.uncounted]
        )


class Clock:
    """When the work will end, from the time that its tokens took so far.

    `clock` returns seconds, and may be another clock in a test. Only time in which something was computed counts.
    `tokens_left` are the tokens that are still to be computed, by kind.
    """

    def __init__(self, workload: Workload, clock: Callable[[], float] = time.monotonic):
        self._clock, self.uncounted = clock, workload.uncounted
        self.tokens_left: dict[str, float] = {
            answer_kind: workload.total_tokens[answer_kind] - workload.cached_tokens[answer_kind]
            for answer_kind in workload.total_tokens
        }
        self._cached_tokens: dict[str, float] = dict(workload.cached_tokens)
        self._done_tokens = dict.fromkeys(self.tokens_left, 0.0)
        self._seconds_by_kind = dict.fromkeys(self.tokens_left, 0.0)
        self._last_time = clock()

    def begin(self, answer_kind: str, tokens: int, is_counted: bool = True) -> None:
        """A call begins, and with it the time that counts; a call that was not counted before adds its tokens."""
        self._last_time = self._clock()
        if not is_counted:
            self.tokens_left[answer_kind] += tokens

    def advance(self, answer_kind: str, tokens: float) -> None:
        """So many tokens were computed since the call of a method before this one."""
        current_time = self._clock()
        self._seconds_by_kind[answer_kind] += current_time - self._last_time
        self._last_time = current_time
        self._done_tokens[answer_kind] += tokens
        self.tokens_left[answer_kind] = max(0, self.tokens_left[answer_kind] - tokens)

    def skip(self, answer_kind: str, tokens: float) -> None:
        """So many tokens came from the cache; those that were not counted as cached are left no more."""
        self._last_time = self._clock()
        cached_tokens = min(self._cached_tokens[answer_kind], tokens)
        self._cached_tokens[answer_kind] -= cached_tokens
        self.tokens_left[answer_kind] = max(0, self.tokens_left[answer_kind] - (tokens - cached_tokens))

    @property
    def seconds_worked(self) -> float:
        """Seconds of computing so far."""
        return sum(self._seconds_by_kind.values())

    @property
    def done(self) -> float:
        """Tokens computed so far."""
        return sum(self._done_tokens.values())

    def seconds_left(self) -> float | None:
        """Seconds until everything is computed; None where nothing was timed yet."""
        seconds_per_token = {
            answer_kind: self._seconds_by_kind[answer_kind] / self._done_tokens[answer_kind]
            for answer_kind in self.tokens_left
            if self._done_tokens[answer_kind]
        }
        if not seconds_per_token:
            return None
        slowest_seconds = max(seconds_per_token.values())
        # A call that takes long has been at work since the last token was counted.
        waiting_seconds = self._clock() - self._last_time
        return max(
            0.0,
            sum(
                remaining_tokens * seconds_per_token.get(answer_kind, slowest_seconds)
                for answer_kind, remaining_tokens in self.tokens_left.items()
            )
            - waiting_seconds,
        )

    def sentence(self) -> str | None:
        """When it will end, by the clock and in how long; None where nothing was timed yet."""
        seconds = self.seconds_left()
        if seconds is None:
            return None
        end_time = time.localtime(time.time() + seconds)
        date_text = "" if seconds < 12 * 3600 else time.strftime("%Y-%m-%d ", end_time)
        return f"ends about {date_text}{time.strftime('%H:%M', end_time)}, in {duration(seconds)}"


def duration(seconds: float) -> str:
    """A length of time in one or two units: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole_minutes = round(seconds / 60)
    if whole_minutes < 60:
        return f"{whole_minutes} min"
    whole_hours, whole_minutes = divmod(whole_minutes, 60)
    if whole_hours < 48:
        return f"{whole_hours} h {whole_minutes} min"
    return f"{whole_hours // 24} d {whole_hours % 24} h"
