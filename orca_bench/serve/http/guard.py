"""Requests in, those that may be answered out: the right host, no other site's page, the key, and a server that is not stopping.

A page of another site must not use a server on its reader's machine: browsers say in `Origin` whose page sends a request, and a
name that was made to point here (DNS rebinding) stands in `Host`. Its own module because it must stand before every route.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orca_bench.serve.http.api_error import ApiError, stopping

#: Paths that tell nothing and compute nothing: they need no key.
_PUBLIC_PATHS = ("/", "/health")
_SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Guard:
    """An application of ASGI before another. `api_key` is None where none is needed; `host_names` are further names of this host.

    `open_count` is how many requests are being answered. With `is_stopping` no new ones are.
    """

    def __init__(self, application: ASGIApp, api_key: str | None, host_names: Sequence[str]):
        self._application = application
        self._api_key = None if api_key is None else api_key.encode()
        self._host_names = {"localhost", *(name.lower() for name in host_names)}
        self.open_count, self.is_stopping = 0, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request, by the interface of ASGI."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_securely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_SECURITY_HEADERS]}
            await send(message)

        if (error := self._refusal(scope)) is not None:
            headers = {**error.headers, "Connection": "close"}  # its body, if any, is not read
            await JSONResponse(error.to_json(), error.status, headers)(scope, receive, send_securely)
            return
        self.open_count += 1
        try:
            await self._application(scope, receive, send_securely)
        finally:
            self.open_count -= 1

    def _refusal(self, scope: Scope) -> ApiError | None:
        """Why a request is not answered; None where it is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_host(host):
            message = f"this server is not called {host[:100]!r}: use its address, or name it with --allow-host"
            return ApiError(421, message, code="wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return ApiError(403, "pages of other sites may not use this server", code="wrong_origin")
        if self.is_stopping:
            return stopping()
        if self._api_key is not None and scope["path"] not in _PUBLIC_PATHS:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            is_key = hmac.compare_digest(key.strip().encode("latin-1"), self._api_key)
            if scheme.lower() != "bearer" or not is_key:
                message = "a key is needed: Authorization: Bearer KEY"
                return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return None

    def _is_own_host(self, host: str) -> bool:
        """Whether a `Host` is an IP address, which no name server can have made up, or a name of this host."""
        name, _, port = host.rpartition(":")
        name = name if port.isdecimal() else host
        if name.lower() in self._host_names:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True
