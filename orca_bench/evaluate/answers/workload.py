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

    `total` are all; of texts as many as these may have at most. `cached` are those that an earlier run has computed. `uncounted`
    names the protocols whose requests are known only when they are sent.
    """

    total: dict[str, int] = field(default_factory=lambda: {SCORES: 0, TEXTS: 0})
    cached: dict[str, int] = field(default_factory=lambda: {SCORES: 0, TEXTS: 0})
    uncounted: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """What is to be computed, for the user."""
        phrases = []
        for kind, qualifier in ((SCORES, ""), (TEXTS, "at most ")):
            if remaining_tokens := self.total[kind] - self.cached[kind]:
                phrases.append(f"{qualifier}{remaining_tokens:,} tokens of {kind}")
        cached_tokens = sum(self.cached.values())
        if not phrases and (cached_tokens or not self.uncounted):
            phrases.append("nothing")
        if cached_tokens:
            phrases.append(f"{cached_tokens:,} tokens are kept by an earlier run")
        counted_phrases = [", ".join(phrases)] if phrases else []
        return "to compute: " + "; ".join(
            counted_phrases + [f"{name}, counted task by task" for name in self.uncounted]
        )


class Clock:
    """When the work will end, from the time that its tokens took so far.

    `now` returns seconds, and may be another clock in a test. Only time in which something was computed counts. `left` are the
    tokens that are still to be computed, by kind.
    """

    def __init__(self, workload: Workload, now: Callable[[], float] = time.monotonic):
        self._clock, self.uncounted = now, workload.uncounted
        self.left: dict[str, float] = {kind: workload.total[kind] - workload.cached[kind] for kind in workload.total}
        self._cached: dict[str, float] = dict(workload.cached)
        self._done_tokens = dict.fromkeys(self.left, 0.0)
        self._seconds_by_kind = dict.fromkeys(self.left, 0.0)
        self._last_time = now()

    def begin(self, kind: str, tokens: int, counted: bool = True) -> None:
        """A call begins, and with it the time that counts; a call that was not counted before adds its tokens."""
        self._last_time = self._clock()
        if not counted:
            self.left[kind] += tokens

    def advance(self, kind: str, tokens: float) -> None:
        """So many tokens were computed since the call of a method before this one."""
        current_time = self._clock()
        self._seconds_by_kind[kind] += current_time - self._last_time
        self._last_time = current_time
        self._done_tokens[kind] += tokens
        self.left[kind] = max(0, self.left[kind] - tokens)

    def skip(self, kind: str, tokens: float) -> None:
        """So many tokens came from the cache; those that were not counted as cached are left no more."""
        self._last_time = self._clock()
        cached_tokens = min(self._cached[kind], tokens)
        self._cached[kind] -= cached_tokens
        self.left[kind] = max(0, self.left[kind] - (tokens - cached_tokens))

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
            kind: self._seconds_by_kind[kind] / self._done_tokens[kind] for kind in self.left if self._done_tokens[kind]
        }
        if not seconds_per_token:
            return None
        slowest_seconds = max(seconds_per_token.values())
        # A call that takes long has been at work since the last token was counted.
        waiting_seconds = self._clock() - self._last_time
        return max(
            0.0,
            sum(
                remaining_tokens * seconds_per_token.get(kind, slowest_seconds)
                for kind, remaining_tokens in self.left.items()
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
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
