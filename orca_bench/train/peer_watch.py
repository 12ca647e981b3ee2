"""The processes of a launcher in; out, in each of them, the first that was lost or has failed.

Each process has a TCP connection to rank 0, which passes on what happens to one of them. Without it a process waits minutes in a
collective for one that has ended or cannot be reached, and then does not know which. A process that ends closes its connection. A
machine that is off or a link that is cut is noticed by the kernel at the other end, so that a process that computes for long is
not taken for lost. A process that is stopped sends nothing. Silence is counted in waits of the process that listens: one
that was stopped itself does not take the others for silent when it goes on, and no clock of another machine matters. Its own
module because it knows nothing of training: tests run it in plain processes.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from orca_bench import launcher_environment
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

_UNREACHABLE_S = 12.0  # after which the kernel gives up a connection on which nothing is acknowledged
_BEAT_INTERVAL_S = 2.0  # between two lines that each process sends
_SILENCE_S = 120.0  # without a line, after which a process is taken for stopped; longer than what holds Python's lock
_END_TIMEOUT_S = 5.0  # after a failure, in which the training may end by itself; a collective on a cut link does not
_CONNECT_TIMEOUT_S = 60.0  # for all connections, once every process is known to be there
_POLL_INTERVAL_S = 0.2
_ADDRESS_KEY = "peer_watch_address"


@dataclass(frozen=True)
class Failure:
    """Why a training cannot go on: a process was lost or has failed. `exit_code` is 2 where it is an error of the user."""

    message: str
    exit_code: int = 1

    def error(self) -> UserError | RuntimeError:
        """The failure as an error of this process."""
        return UserError(self.message) if self.exit_code == 2 else RuntimeError(self.message)


class _Connection:
    """The connection to one other process, which `name` names in messages."""

    def __init__(self, connected_socket: socket.socket, name: str) -> None:
        self.socket, self.name, self.silent_beats, self._unread_bytes = connected_socket, name, 0, b""
        self.socket.settimeout(_POLL_INTERVAL_S)  # of what is sent: a few bytes, which wait for nothing
        for option_name, option_value in (
            ("TCP_KEEPIDLE", _UNREACHABLE_S / 3),
            ("TCP_KEEPINTVL", _UNREACHABLE_S / 3),
            ("TCP_KEEPCNT", 2),
            ("TCP_USER_TIMEOUT", _UNREACHABLE_S * 1000),
        ):
            if hasattr(socket, option_name):  # Linux has all; elsewhere the system's own limits hold
                self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option_name), int(option_value))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, message: dict[str, Any]) -> None:
        """Send a line; raises OSError where the connection is lost."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """The lines that have come, at least a part of one; raises OSError where the connection is lost."""
        received_bytes = self.socket.recv(65536)
        if not received_bytes:
            raise ConnectionResetError(errno.ECONNRESET, "closed")
        *lines, self._unread_bytes = (self._unread_bytes + received_bytes).split(b"\n")
        return [json.loads(line) for line in lines]

    def failure(self, error: OSError) -> Failure:
        """What is wrong with the process at the other end of a broken connection."""
        if isinstance(error, (ConnectionResetError, BrokenPipeError)):
            return _loss(self.name, "it was killed, or its machine went down")
        return _loss(self.name, f"no answer for {_UNREACHABLE_S:.0f} s ({error.strerror or 'timed out'})")


def _loss(name: str, reason: str) -> Failure:
    return Failure(f"{name} was lost: {reason}; the same command on all machines continues from the newest checkpoint")


class PeerWatch:
    """Watches the connections of this process in a thread, until it is closed.

    `end_process` is called in the thread, and is to end this process, where its training does not end by itself after another
    process was lost or has failed. Without `notices_stopped` a silent process is waited for.
    """

    def __init__(
        self,
        connections: Iterable[_Connection],
        own_name: str,
        end_process: Callable[[Failure], None],
        notices_stopped: bool = True,
    ) -> None:
        self.failure: Failure | None = None
        self._own_name, self._end_process, self._notices_stopped = own_name, end_process, notices_stopped
        self._selector = selectors.DefaultSelector()
        for connection in connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._has_failure, self._is_closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peer watch", daemon=True)
        self._thread.start()

    def wait_for_failure(self, timeout_s: float) -> Failure | None:
        """What happened to another process, where it is known within so many seconds: it may have broken a collective."""
        if not self._is_closed.is_set():
            self._has_failure.wait(timeout_s)
        return self.failure

    def close(self, failure: Failure | None = None) -> None:
        """Stop watching, and tell the other processes that this one has ended its work, or how it failed; may be repeated."""
        self._is_closed.set()
        self._thread.join()
        if failure is not None and self.failure is None:
            failure = Failure(f"{self._own_name}: {failure.message}", failure.exit_code)
        self._send_to_all({"end": None} if failure is None else {"failure": asdict(self.failure or failure)})
        for connection in self._connections():
            self._remove(connection)

    def _connections(self) -> list[_Connection]:
        return [key.data for key in self._selector.get_map().values()]

    def _remove(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        with contextlib.suppress(OSError):  # the other end has closed it
            connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.close()

    def _watch(self) -> None:
        next_beat_s = time.monotonic()
        while self.failure is None and not self._is_closed.is_set():
            for key, _ in self._selector.select(_POLL_INTERVAL_S):
                self._read(key.data)
            if time.monotonic() >= next_beat_s:
                next_beat_s = time.monotonic() + _BEAT_INTERVAL_S
                self._beat()
        if self.failure is not None and not self._is_closed.is_set():
            self._send_to_all({"failure": asdict(self.failure)})
            self._has_failure.set()
            if not self._is_closed.wait(_END_TIMEOUT_S):
                self._end_process(self.failure)

    def _read(self, connection: _Connection) -> None:
        try:
            messages = connection.receive()
        except OSError as error:
            if error.errno is not None or not isinstance(error, TimeoutError):  # else nothing has come yet
                self._end_connection(connection, connection.failure(error))
            return
        except ValueError as error:
            self._end_connection(connection, Failure(f"{connection.name} sent what is no message ({error})"))
            return
        connection.silent_beats = 0
        for message in messages:
            if "failure" in message:
                self._end_connection(connection, Failure(**message["failure"]))
                return
            if "end" in message:
                self._remove(connection)
                return

    def _beat(self) -> None:
        """Send a line to each process, and count one more beat since each has sent its last."""
        for connection in self._connections():
            connection.silent_beats += 1
            try:
                connection.send({})
            except OSError as error:
                self._end_connection(connection, connection.failure(error))
                continue
            if self._notices_stopped and connection.silent_beats * _BEAT_INTERVAL_S > _SILENCE_S:
                self._end_connection(
                    connection, _loss(connection.name, f"silent for {_SILENCE_S:.0f} s: it is stopped")
                )

    def _end_connection(self, connection: _Connection, failure: Failure) -> None:
        self._remove(connection)
        self.failure = self.failure or failure

    def _send_to_all(self, message: dict[str, Any]) -> None:
        for connection in self._connections():
            with contextlib.suppress(OSError):
                connection.send(message)


def watch_peers(
    store: Store,
    rank: int,
    world_size: int,
    own_host: str,
    end_process: Callable[[Failure], None],
    notices_stopped: bool = True,
) -> PeerWatch:
    """Connect this process with rank 0, or rank 0 with all others, and watch them. All processes call it at the same time.

    The store gives the others rank 0's address and a secret, which tells them from programs that connect to any open port. Raises
    UserError where the connections do not come about within a minute.
    """
    own_name = _name(rank, own_host)
    try:
        connections = _accept_all(store, world_size, own_host) if rank == 0 else [_connect(store, rank, own_host)]
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: torch's DistStoreError and DistNetworkError
        raise UserError(
            f"{own_name} cannot connect with {'the other ranks' if rank == 0 else 'rank 0'} ({error})",
            where="MASTER_ADDR",
            hint="the machines must reach one another on all ports, as gloo and NCCL need it too",
        ) from error
    return PeerWatch(connections, own_name, end_process, notices_stopped)


def _name(rank: int, host: str) -> str:
    return f"rank {rank} on {host}"


def _accept_all(store: Store, world_size: int, own_host: str) -> list[_Connection]:
    """Rank 0's connections to all other ranks; raises TimeoutError, in those that have connected too, where one is missing."""
    secret, connection_by_rank = secrets.token_hex(16), dict[int, _Connection]()
    deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with (
        socket.create_server(
            ("", 0), family=family, backlog=world_size, dualstack_ipv6=family == socket.AF_INET6
        ) as listener,
        selectors.DefaultSelector() as selector,
    ):
        address = [_own_address(), listener.getsockname()[1]]
        store.set(_ADDRESS_KEY, json.dumps({"address": address, "secret": secret, "host": own_host}))
        selector.register(listener, selectors.EVENT_READ)
        while len(connection_by_rank) < world_size - 1 and time.monotonic() < deadline_s:
            for key, _ in selector.select(_POLL_INTERVAL_S):
                if key.fileobj is listener:
                    accepted_socket, _ = listener.accept()
                    accepted_socket.setblocking(False)
                    selector.register(accepted_socket, selectors.EVENT_READ, bytearray())
                elif _is_line_complete(key.data, connected_socket := cast(socket.socket, key.fileobj)):
                    selector.unregister(connected_socket)
                    rank, name = _parse_greeting(key.data, secret)
                    if 0 < rank < world_size:
                        connection_by_rank[rank] = _Connection(connected_socket, name)
                    else:
                        connected_socket.close()
        for key in list(selector.get_map().values()):  # strangers who have sent no line
            cast(socket.socket, key.fileobj).close()
    missing_ranks = [rank for rank in range(1, world_size) if rank not in connection_by_rank]
    if missing_ranks:
        reason = f"no connection in {_CONNECT_TIMEOUT_S:.0f} s from rank {', '.join(map(str, missing_ranks))}"
        for connection in connection_by_rank.values():
            with contextlib.suppress(OSError):
                connection.send({"failure": asdict(Failure(f"{_name(0, own_host)}: {reason}", 2))})
            connection.socket.close()
        raise TimeoutError(reason)
    return list(connection_by_rank.values())


def _is_line_complete(line: bytearray, connected_socket: socket.socket) -> bool:
    """Read on to the end of a line of at most 1,000 bytes; what comes after it is left to be read. True at its end."""
    try:
        while not line.endswith(b"\n") and len(line) < 1000 and (next_byte := connected_socket.recv(1)):
            line += next_byte
    except BlockingIOError:
        return False
    except OSError:
        line.clear()
    return True


def _parse_greeting(line: bytearray, secret: str) -> tuple[int, str]:
    """The rank that has sent a line, and its name; rank 0 for somebody else's line."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        greeting = json.loads(line)
        if secrets.compare_digest(greeting["secret"], secret):
            return int(greeting["rank"]), _name(int(greeting["rank"]), greeting["host"])
    return 0, ""


def _connect(store: Store, rank: int, own_host: str) -> _Connection:
    """The connection of another rank to rank 0."""
    entry = json.loads(store.get(_ADDRESS_KEY))
    connection = _Connection(
        socket.create_connection(tuple(entry["address"]), _CONNECT_TIMEOUT_S), _name(0, entry["host"])
    )
    connection.send({"secret": entry["secret"], "rank": rank, "host": own_host})
    return connection


def _own_address() -> str:
    """The address of this machine by which the others reach it: MASTER_ADDR where it is this machine's.

    Else, as with torchrun's rendezvous `c10d`, the address of the network interface that reaches MASTER_ADDR.
    """
    master_address, _ = launcher_environment.master_address()
    family, kind, protocol, _, address = socket.getaddrinfo(master_address, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # of UDP: nothing is sent
        own_address = probe.getsockname()[0]
    is_master_here = own_address == address[0] or ipaddress.ip_address(own_address.partition("%")[0]).is_loopback
    return master_address if is_master_here else own_address
