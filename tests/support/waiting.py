"""Wait for a state instead of a time, so that a test passes on a machine that is many times slower."""

import time
from collections.abc import Callable
from typing import TypeVar

#: Seconds until a test gives up. Only a test that fails waits so long: a training or an evaluation of a test ends within a minute
#: on two slow cores.
PATIENCE_S = 400.0

_T = TypeVar("_T")


def eventually(condition: Callable[[], _T], seconds: float = PATIENCE_S, poll_s: float = 0.02) -> _T:
    """The first true value of the condition; fails where it has none within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {condition}"
        time.sleep(poll_s)
    return value
