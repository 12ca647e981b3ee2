"""Servers, and connections to them, that end with the test."""

import contextlib
import threading

import completions_server
import pytest
import sglang_server

from orca_bench.evaluate.servers.server_engine import ServerEngine


@pytest.fixture
def connect():
    """A factory of engines that ask a server; each is closed when the test ends."""
    with contextlib.ExitStack() as connections:
        yield lambda *args, **options: connections.enter_context(contextlib.closing(ServerEngine(*args, **options)))


@pytest.fixture
def start_in_thread():
    """Lets a server serve until the test ends; gives (address, server)."""
    servers = []

    def start(server):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1", server

    yield start
    for server in servers:
        server.hung.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def served(tiny_model, monkeypatch, start_in_thread):
    """A factory of servers with a fault and a window; gives (address, server)."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    def start(fault=None, window=None):
        return start_in_thread(completions_server.serve(str(tiny_model), "127.0.0.1", 0, "tiny", fault, window))

    return start


@pytest.fixture
def sglang(tiny_model, start_in_thread):
    """A factory of servers that speak SGLang's API, with a fault; gives (address, server)."""
    return lambda fault=None, **options: start_in_thread(sglang_server.serve(str(tiny_model), fault, **options))
