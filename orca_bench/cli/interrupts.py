"""What Ctrl-C and SIGTERM do to a command that does not simply end there.

`interruptible` is for a command that keeps its work as it goes: once they stop it, twice they end it at once.
`DeferredInterrupts` is for one that goes on after Ctrl-C. Its own module because each changes the process's signal handlers.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT or SIGTERM raises KeyboardInterrupt in the block; a second one ends the process at once, with exit code 130.

    Does nothing outside of the main thread, where signals cannot be received.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    has_signal = False

    def interrupt(*_: object) -> None:
        nonlocal has_signal
        if has_signal:
            os.write(2, b"interrupted at once\n")
            os._exit(130)
        has_signal = True
        raise KeyboardInterrupt

    previous_handlers = {
        signal_number: signal.signal(signal_number, interrupt) for signal_number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for signal_number, handler in previous_handlers.items():
            signal.signal(signal_number, handler)


class DeferredInterrupts:
    """SIGINT raises KeyboardInterrupt within an `allowed` block alone, once a block; else where the next block begins.

    A loop that catches KeyboardInterrupt around each block then goes on, whenever Ctrl-C comes: there is no instant between two
    blocks, or in the handling of a first Ctrl-C, at which it is raised.
    """

    def __init__(self) -> None:
        self._is_allowed = self._is_pending = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be the process's handler of SIGINT in the block; without it, `allowed` changes nothing."""
        previous_handler = signal.signal(signal.SIGINT, self._receive)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous_handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A block in which SIGINT raises KeyboardInterrupt; raises it at once for a SIGINT since the last block."""
        self._is_allowed = True
        try:
            if self._is_pending:
                self._is_pending = False
                raise KeyboardInterrupt
            yield
        finally:
            self._is_allowed = False

    def _receive(self, *_: object) -> None:
        if not self._is_allowed:
            self._is_pending = True
            return
        self._is_allowed = False
        raise KeyboardInterrupt
