"""An application and an address in, a server that runs until a signal ends it out: uvicorn, with our rule for its end.

SIGINT or SIGTERM: no new requests, those that are being answered are answered, then the server ends. A second signal ends the
process at once. Its own module because uvicorn's own rule is another one, and ends with the signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from orca_bench.errors import UserError
from orca_bench.serve.http.app import ModelServer
from orca_bench.serve.http.guard import Guard

_POLL_S = 0.05
# Seconds until a connection is closed that has no further request after an answer; at the end, that clients have for the rest.
_CONNECTION_TIMEOUT_S = 5
# Seconds between two looks at a connection: where its client has done nothing that it has to do, it is closed.
_CHECK_INTERVAL_S = 60.0
_BACKLOG = 1024


@dataclass(frozen=True)
class ClientState:
    """What a connection waits for.

    `cycle` is its last request, `awaits_request` whether that one is answered, so that the client may send another.
    `untaken_bytes` are those of answers that the client has not taken, as far as the system says so, and `taken_bytes` all
    others that were written.
    """

    cycle: object
    awaits_request: bool
    untaken_bytes: int
    taken_bytes: int


class CountingTransport:
    """The transport of a connection, with the number of bytes that were written to it."""

    def __init__(self, transport: asyncio.Transport):
        self._transport, self.written_bytes = transport, 0

    def write(self, content: bytes) -> None:
        """Write and count bytes."""
        self.written_bytes += len(content)
        self._transport.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ClientConnection(H11Protocol):
    """A connection that is closed where its client sends no whole request, or takes nothing of an answer.

    uvicorn (0.54) waits for a first request for ever, and so does `transport.close()` for a client that takes nothing.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look at the connection."""
        self._counting_transport = CountingTransport(cast(asyncio.Transport, transport))
        super().connection_made(cast(asyncio.Transport, self._counting_transport))
        self._plan_check()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look at it no more."""
        self._next_check.cancel()
        super().connection_lost(exc)

    def client_state(self) -> ClientState:
        """What the connection waits for now."""
        awaits_request = self.cycle is None or self.cycle.response_complete
        untaken_bytes = self.transport.get_write_buffer_size()
        # The kernel takes megabytes for a client before it takes more of the transport's.
        with contextlib.suppress(OSError, ValueError):  # the connection is closed, or the system does not say it
            descriptor = self.transport.get_extra_info("socket").fileno()
            untaken_bytes += struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
        taken_bytes = self._counting_transport.written_bytes - untaken_bytes
        return ClientState(self.cycle, awaits_request, untaken_bytes, taken_bytes)

    def has_idle_client_since(self, earlier: ClientState) -> bool:
        """Whether the client had something to take or to send at an earlier look, and has done neither since."""
        state = self.client_state()
        has_sent_nothing = earlier.awaits_request and state.cycle is earlier.cycle
        has_taken_nothing = state.taken_bytes == earlier.taken_bytes
        return has_taken_nothing and (earlier.untaken_bytes > 0 or has_sent_nothing)

    def _plan_check(self) -> None:
        self._next_check = self.loop.call_later(_CHECK_INTERVAL_S, self._check, self.client_state())

    def _check(self, earlier: ClientState) -> None:
        if self.has_idle_client_since(earlier):
            # With a reset: otherwise the system keeps what it has taken for the client.
            no_lingering = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
            self.transport.abort()
        else:
            self._plan_check()


class _Server(uvicorn.Server):
    """uvicorn's server without its handlers of signals (0.54): those would end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at an address, port 0 for any free one; raises UserError where it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be a name of a host
        message = f"cannot listen there ({getattr(error, 'strerror', None) or error})"
        raise UserError(message, where=f"{host}:{port}", hint="--host and --port name another address") from error
    return listener


def run_server(
    model_server: ModelServer, application: Guard, listener: socket.socket, show_message: Callable[[str], None]
) -> None:
    """Answer requests until a signal comes, and those that are open then. To be called in the main thread."""

    async def run() -> None:
        is_stopping = asyncio.Event()

        def stop() -> None:
            if is_stopping.is_set():
                os.write(2, b"ended at once\n")
                os._exit(130)
            is_stopping.set()

        for signal_number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signal_number, stop)
        await serve_until(is_stopping, model_server, application, listener, show_message)

    asyncio.run(run())


async def serve_until(
    is_stopping: asyncio.Event,
    model_server: ModelServer,
    application: Guard,
    listener: socket.socket,
    show_message: Callable[[str], None],
) -> None:
    """Answer requests until the event, and those that are open then; `show_message` gets a line where there are some."""
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=ClientConnection,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_CONNECTION_TIMEOUT_S,
        timeout_graceful_shutdown=_CONNECTION_TIMEOUT_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.wait({serving, asyncio.create_task(is_stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    application.is_stopping = True
    if application.open_count:
        show_message("stopping: the open requests are answered, new ones are not; a second signal ends at once")
    computed_time = time.monotonic()
    while application.open_count and time.monotonic() < computed_time + _CONNECTION_TIMEOUT_S:
        if model_server.is_computing:
            computed_time = time.monotonic()
        await asyncio.sleep(_POLL_S)
    server.should_exit = True
    await serving
    await model_server.close()
