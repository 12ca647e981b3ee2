"""What Ctrl-C and SIGTERM do to a command that keeps its work as it goes: once they stop it, twice they end it at once."""

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
