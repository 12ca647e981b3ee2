"""Clients on plain sockets: the bytes of a request, and a connection whose client takes nothing of the answer until it reads."""

import json
import socket
from typing import Any

from waiting import PATIENCE_S


def http_request(method: str, path: str, **body: Any) -> bytes:
    """The bytes of a request; one with a body is the last of its connection."""
    content = json.dumps(body).encode() if body else b""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}"]
    head += ["Connection: close"] if body else []
    return "\r\n".join([*head, "", ""]).encode() + content


def slow_client(port: int, content: bytes) -> socket.socket:
    """A connection to a port of this machine, on which a content was sent; its system takes a few KiB of what comes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE_S)
    client.connect(("127.0.0.1", port))
    client.sendall(content)
    return client
