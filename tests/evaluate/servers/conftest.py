"""Connections to servers that end with the test."""

import contextlib

import pytest

from orca_bench.evaluate.servers.server_engine import ServerEngine


@pytest.fixture
def connect():
    """A factory of engines that ask a server; each is closed when the test ends."""
    with contextlib.ExitStack() as connections:
        yield lambda *args, **options: connections.enter_context(contextlib.closing(ServerEngine(*args, **options)))
