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
        parts = []
        for kind, most in ((SCORES, ""), (TEXTS, "at most ")):
            if left := self.total[kind] - self.cached[kind]:
                parts.append(f"{most}{left:,} tokens of {kind}")
        cached = sum(self.cached.values())
        if not parts and (cached or not self.uncounted):
            parts.append("nothing")
        if cached:
            parts.append(f"{cached:,} tokens are kept by an earlier run")
        counted = [", ".join(parts)] if parts else []
        return "to compute: " + "; ".join(counted + [f"{name}, counted task by task" for name in self.uncounted])


class Clock:
    """When the work will end, from the time that its tokens took so far.

    `now` returns seconds, and may be another clock in a test. Only time in which something was computed counts. `left` are the
    tokens that are still to be computed, by kind.
    """

    def __init__(self, workload: Workload, now: Callable[[], float] = time.monotonic):
        self._now, self.uncounted = now, workload.uncounted
        self.left: dict[str, float] = {kind: workload.total[kind] - workload.cached[kind] for kind in workload.total}
        self._cached: dict[str, float] = dict(workload.cached)
        self._done = dict.fromkeys(self.left, 0.0)
        self._seconds = dict.fromkeys(self.left, 0.0)
        self._since = now()

    def begin(self, kind: str, tokens: int, counted: bool = True) -> None:
        """A call begins, and with it the time that counts; a call that was not counted before adds its tokens."""
        self._since = self._now()
        if not counted:
            self.left[kind] += tokens

    def advance(self, kind: str, tokens: float) -> None:
        """So many tokens were computed since the call of a method before this one."""
        now = self._now()
        self._seconds[kind] += now - self._since
        self._since = now
        self._done[kind] += tokens
        self.left[kind] = max(0, self.left[kind] - tokens)

    def skip(self, kind: str, tokens: float) -> None:
        """So many tokens came from the cache; those that were not counted as cached are left no more."""
        self._since = self._now()
        counted = min(self._cached[kind], tokens)
        self._cached[kind] -= counted
        self.left[kind] = max(0, self.left[kind] - (tokens - counted))

    @property
    def seconds_worked(self) -> float:
        """Seconds of computing so far."""
        return sum(self._seconds.values())

    @property
    def done(self) -> float:
        """Tokens computed so far."""
        return sum(self._done.values())

    def seconds_left(self) -> float | None:
        """Seconds until everything is computed; None where nothing was timed yet."""
        pace = {kind: self._seconds[kind] / self._done[kind] for kind in self.left if self._done[kind]}
        if not pace:
            return None
        slowest = max(pace.values())
        # A call that takes long has been at work since the last token was counted.
        waited = self._now() - self._since
        return max(0.0, sum(left * pace.get(kind, slowest) for kind, left in self.left.items()) - waited)

    def sentence(self) -> str | None:
        """When it will end, by the clock and in how long; None where nothing was timed yet."""
        seconds = self.seconds_left()
        if seconds is None:
            return None
        end = time.localtime(time.time() + seconds)
        day = "" if seconds < 12 * 3600 else time.strftime("%Y-%m-%d ", end)
        return f"ends about {day}{time.strftime('%H:%M', end)}, in {duration(seconds)}"


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
