"""Clients that go away, more requests than places, and a server that is to stop."""

import concurrent.futures
import contextlib
import errno
import json
import re
import socket
import threading

import httpx
import pytest
from model_servers import serving
from slow_clients import http_request, slow_client
from waiting import PATIENCE_S, eventually

from orca_bench.serve import batch_scheduler
from orca_bench.serve.http import server as http_server


@pytest.fixture(scope="module")
def small_server(tiny_model):
    """A server that computes one request at a time, and lets none wait."""
    with serving(tiny_model, max_open=1, max_waiting=0) as running:
        yield running


def long_request(**options):
    """A request that takes a thousand steps: the greedy text of this model does not end."""
    return {"model": "model", "prompt": "Why?", "max_tokens": 1000, "temperature": 0} | options


@pytest.fixture
def steps(monkeypatch):
    """The steps that models may compute, 20 at first: a long request is not done before the test has acted."""
    allowed_steps, compute_step = threading.Semaphore(20), batch_scheduler.compute_step

    def compute_allowed_step(*arguments, **options):
        allowed_steps.acquire(timeout=PATIENCE_S)
        return compute_step(*arguments, **options)

    monkeypatch.setattr(batch_scheduler, "compute_step", compute_allowed_step)
    yield allowed_steps
    allowed_steps.release(100_000)


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(server, steps, is_stream):
    scheduler = server.schedulers["model"]
    server.wait_until_free()
    before = scheduler.statistics().new_tokens
    with server.client.stream("POST", "/v1/completions", json=long_request(stream=True, n=3)) as response:
        lines = response.iter_lines()
        next(lines)
        eventually(lambda: scheduler.statistics().open_requests == 3)
        if not is_stream:
            with slow_client(server.port, http_request("POST", "/v1/completions", **long_request())):
                eventually(lambda: steps.release() or scheduler.statistics().open_requests == 4)
    eventually(lambda: steps.release() or scheduler.statistics().open_requests == 0)
    assert scheduler.statistics().new_tokens - before < 1000  # fewer than one of the answers has


def test_a_server_that_is_full_says_when_to_come_again(small_server, steps):
    with small_server.client.stream("POST", "/v1/completions", json=long_request(stream=True)) as response:
        lines = response.iter_lines()
        next(lines)
        for path, body in (
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/completions", {"prompt": "x", "stream": True}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
        ):
            refusal = small_server.post(path, model="model", **body)
            assert refusal.status_code == 429 and int(refusal.headers["Retry-After"]) >= 1
            assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
    steps.release(2000)
    small_server.wait_until_free()


#: Some 8 MB of answer, more than the kernel takes for a client.
LARGE_REQUEST = {"model": "model", "prompt": [5] * 300, "echo": True, "logprobs": 20, "max_tokens": 0, "n": 40}


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_takes_nothing_loses_its_connection_and_the_memory_of_its_answer(
    tiny_model, monkeypatch, is_stream
):
    monkeypatch.setattr(http_server, "_CHECK_INTERVAL_S", 0.3)

    def take_one_byte_and_no_more(server):
        with slow_client(
            server.port, http_request("POST", "/v1/completions", **LARGE_REQUEST, stream=is_stream)
        ) as client:
            client.recv(1)
            return eventually(lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    with serving(tiny_model) as server:
        for _ in range(20):
            # On a slow machine the request itself may come too late.
            with contextlib.suppress(ConnectionError):
                assert take_one_byte_and_no_more(server) == errno.ECONNRESET
                break
        else:
            pytest.fail("no answer has begun")
        server.wait_until_free()


def test_a_client_that_sends_no_whole_request_loses_its_connection(tiny_model, monkeypatch):
    monkeypatch.setattr(http_server, "_CHECK_INTERVAL_S", 0.3)
    half_a_request = b"POST /v1/completions HTTP/1.1\r\nHost: 127"
    with (
        serving(tiny_model) as server,
        slow_client(server.port, half_a_request) as client,
        contextlib.suppress(ConnectionResetError),
    ):
        assert client.recv(1) == b""


@pytest.fixture
def connections(monkeypatch):
    """The server's connections in their order, none of which is closed by the clock."""
    connections, connection_made = [], http_server.ClientConnection.connection_made

    def note_connection(connection, transport):
        connections.append(connection)
        connection_made(connection, transport)

    monkeypatch.setattr(http_server, "_CHECK_INTERVAL_S", 1000 * PATIENCE_S)
    monkeypatch.setattr(http_server.ClientConnection, "connection_made", note_connection)
    return connections


def in_its_loop(connection, method_name, *arguments):
    """What a method of a connection returns in the server's thread, where alone its state may be read."""
    value = concurrent.futures.Future()
    connection.loop.call_soon_threadsafe(lambda: value.set_result(getattr(connection, method_name)(*arguments)))
    return value.result(PATIENCE_S)


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_may_be_slow_as_long_as_it_takes_something(tiny_model, connections, steps, is_stream):
    request = http_request("POST", "/v1/completions", **LARGE_REQUEST, stream=is_stream)
    with serving(tiny_model) as server, slow_client(server.port, request) as client:
        eventually(lambda: server.request_count("model"))
        connection = connections[-1]
        # A client's system may confirm the head of a stream some milliseconds later.
        eventually(lambda: not in_its_loop(connection, "client_state").untaken_bytes)
        while_computing = in_its_loop(connection, "client_state")
        assert not in_its_loop(connection, "has_idle_client_since", while_computing)
        steps.release(100_000)
        eventually(lambda: in_its_loop(connection, "client_state").untaken_bytes)
        server.wait_until_free()
        assert not in_its_loop(connection, "has_idle_client_since", while_computing)
        content = bytearray()
        while (before := in_its_loop(connection, "client_state")).untaken_bytes:
            size_before = len(content)
            while in_its_loop(connection, "client_state") == before:
                content += client.recv(2**16)
            assert len(content) - size_before < 2**17, "what the client takes is seen soon"
            assert not in_its_loop(connection, "has_idle_client_since", before)
        while part := client.recv(2**16):
            content += part
        assert content.startswith(b"HTTP/1.1 200 OK") and len(content) > 5_000_000


def settled_state(connection):
    """The state of a connection whose client takes nothing more of what was written."""
    states = [None]

    def takes_nothing_more():
        states.append(in_its_loop(connection, "client_state"))
        return states[-1].untaken_bytes and states[-1] == states[-2]

    eventually(takes_nothing_more, poll_s=0.5)
    return states[-1]


def test_a_client_that_takes_as_many_bytes_as_are_written_meanwhile_is_not_idle(tiny_model, connections):
    with serving(tiny_model) as server, slow_client(server.port, b"GET / HTTP/1.1\r\n") as client:
        connection = eventually(lambda: connections)[-1]

        def write(byte_count):
            connection.loop.call_soon_threadsafe(connection.transport.write, bytes(byte_count))

        write(10_000_000)
        before = settled_state(connection)
        while in_its_loop(connection, "client_state").taken_bytes == before.taken_bytes:
            client.recv(2**16)
        while (state := settled_state(connection)).untaken_bytes < before.untaken_bytes:
            write(before.untaken_bytes - state.untaken_bytes)
        assert (state.cycle, state.untaken_bytes) == (before.cycle, before.untaken_bytes)
        assert not in_its_loop(connection, "has_idle_client_since", before)


def test_a_client_that_sends_many_requests_and_takes_no_answer_is_idle(tiny_model, connections):
    with serving(tiny_model) as server, slow_client(server.port, http_request("GET", "/") * 500):
        connection = eventually(lambda: connections)[-1]
        state = settled_state(connection)
        assert not state.awaits_request
        assert in_its_loop(connection, "has_idle_client_since", state)


def test_a_server_that_stops_does_not_wait_for_a_client_that_takes_nothing(tiny_model, connections, monkeypatch):
    monkeypatch.setattr(http_server, "_CONNECTION_TIMEOUT_S", 1)
    has_begun, stops = threading.Event(), threading.Event()

    def serve():
        with serving(tiny_model) as server:
            servers.append(server)
            has_begun.set()
            stops.wait(PATIENCE_S)

    servers, thread = [], threading.Thread(target=serve)
    thread.start()
    assert has_begun.wait(PATIENCE_S)
    with slow_client(servers[0].port, http_request("POST", "/v1/completions", **LARGE_REQUEST)) as client:
        client.recv(1)
        stops.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_one_request_may_have_more_prompts_than_places(small_server):
    small_server.wait_until_free()
    answer = small_server.post("/v1/completions", model="model", prompt=["a", "b", "c", "d"], max_tokens=2)
    assert answer.status_code == 200 and len(answer.json()["choices"]) == 4


def test_a_server_whose_model_has_ended_by_a_fault_says_so_and_stops(tiny_model, monkeypatch):
    with serving(tiny_model) as broken_server:
        assert broken_server.client.get("/health").json() == {"status": "ok"}
        monkeypatch.setattr(batch_scheduler, "longest_prefix", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in broken_server.refusal("/v1/completions", 500, model="model", prompt="Why?")
        health = broken_server.client.get("/health")
        assert health.status_code == 503 and "start the server again" in health.json()["error"]["message"]
        broken_server.refusal("/v1/completions", 503, model="model", prompt="Why?")


def test_a_server_that_stops_finishes_what_is_open_and_takes_nothing_new(command, tiny_model):
    process = command.start("serve", tiny_model, "--port", 0)
    try:
        line = next(line for line in process.stderr if " at http://" in line)
        client = httpx.Client(base_url=line.split(" at ")[1].split()[0], timeout=None)
        events, name = [], client.get("/v1/models").json()["data"][0]["id"]

        def read_stream():
            with client.stream("POST", "/v1/completions", json=long_request(stream=True, model=name, n=8)) as response:
                events.extend(line for line in response.iter_lines() if line)

        reader = threading.Thread(target=read_stream)
        reader.start()
        eventually(lambda: re.search(r"^orca_bench_requests_open{.*} 8$", client.get("/metrics").text, re.MULTILINE))
        process.terminate()
        next(line for line in process.stderr if "the open requests are answered" in line)
        refusal = client.get("/v1/models")
        assert refusal.status_code == 503 and "is stopping" in refusal.json()["error"]["message"]
        reader.join()
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()
    assert events[-1] == "data: [DONE]"
    last_choice = json.loads(events[-2].removeprefix("data: "))["choices"][0]
    assert last_choice["finish_reason"] == "length"
