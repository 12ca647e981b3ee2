"""A call of the Batch API in, its reply out: the call is made again until it succeeds, or another one would not help.

Its own module because how long a server is waited for is the same for every call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orca_bench.data.build.concurrency import backoff_s
from orca_bench.data.build.teacher import AskProgress
from orca_bench.data.build.teacher_replies import AttemptFailed

_UNREACHED_CALLS = 4  # after which a server that has not replied to anything is taken to be absent

_T = TypeVar("_T")


class RetriedCalls:
    """The calls of one build. `show_progress` is called where a call has failed and is made again."""

    def __init__(self, progress: AskProgress, patience_s: float, show_progress: Callable[[], None]):
        self._progress, self._patience_s, self._show_progress = progress, patience_s, show_progress
        self._has_replied = False

    async def until_success(self, call_once: Callable[[], Awaitable[_T]]) -> _T:
        """The reply to a call.

        Raises AttemptFailed where another call would not help, or the server has given none for `patience_s` seconds.
        """
        first_failure_s, failure_count = time.monotonic(), 0
        while True:
            try:
                reply = await call_once()
                self._has_replied = True
                return reply
            except AttemptFailed as failure:
                self._has_replied = self._has_replied or not failure.is_unreached
                failure_count += 1
                seconds = time.monotonic() - first_failure_s
                is_absent = not self._has_replied and failure_count >= _UNREACHED_CALLS
                if failure.consequence not in ("busy", "retry") or is_absent:
                    raise
                if seconds > self._patience_s:
                    failure.reason = f"no answer for {seconds:.0f} s: {failure.reason}"
                    raise
                self._progress.rate_refusals += failure.consequence == "busy" and not failure.is_unreached
                self._show_progress()
                await asyncio.sleep(backoff_s(failure_count))
