"""Answers that are computed and that slow clients have not taken: how much memory they have together."""

import asyncio
import contextlib
import tracemalloc

import pytest
from model_servers import serving
from slow_clients import http_request, slow_client
from waiting import PATIENCE_S, eventually

from orca_bench.serve.answer_batch import AnswerBatch, AnswerRequest
from orca_bench.serve.http import server as http_server
from orca_bench.serve.http.answer_memory import AnswerMemory, max_answer_bytes
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.token_requests import TokenRequest

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
#: Some 400 kB of answer: more than the system takes for a client with this buffer.
LARGE_REQUEST = {"model": "model", "prompt": [5] * 300, "echo": True, "logprobs": 20, "max_tokens": 0, "n": 2}
SEND_BUFFER_BYTES = 4608
#: Memory for the answers of a few such requests.
MAX_ANSWER_BYTES = 10_000_000


@pytest.mark.parametrize("is_stream", [True, False])
def test_requests_are_refused_while_slow_clients_hold_too_many_answers(tiny_model, monkeypatch, is_stream):
    monkeypatch.setattr(http_server, "_CHECK_INTERVAL_S", 1000 * PATIENCE_S)
    with (
        serving(tiny_model, max_answer_bytes=MAX_ANSWER_BYTES, send_buffer_bytes=SEND_BUFFER_BYTES) as server,
        contextlib.ExitStack() as clients,
    ):
        request, count = http_request("POST", COMPLETIONS, **LARGE_REQUEST, stream=is_stream), 0
        while clients.enter_context(slow_client(server.port, request)).recv(12) == b"HTTP/1.1 200":
            count += 1
            assert count < 50, "nothing bounds them"
        server.wait_until_free()  # no place of the model is taken
        assert count >= 2
        for path, body in (
            (COMPLETIONS, LARGE_REQUEST),
            (COMPLETIONS, LARGE_REQUEST | {"stream": True}),
            (CHATS, {"model": "model", "messages": [{"role": "user", "content": "x"}], "n": 20, "max_tokens": 900}),
        ):
            refusal = server.post(path, **body)
            assert refusal.status_code == 429 and int(refusal.headers["Retry-After"]) >= 1
            assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
            assert "not taken" in refusal.json()["error"]["message"]
        assert server.client.get("/health").status_code == 200
        assert server.post("/tokenize", prompt="x").status_code == 200
        clients.close()
        assert eventually(lambda: server.post(COMPLETIONS, **LARGE_REQUEST).status_code == 200)


def test_answers_that_clients_take_as_they_come_refuse_nobody(tiny_model):
    """Whatever is computed meanwhile: a long stream is read, another answer is asked for and taken."""
    with serving(tiny_model, max_answer_bytes=1) as server:
        long_stream = {"model": "model", "prompt": "Why?", "max_tokens": 400, "n": 4, "stream": True}
        with server.client.stream("POST", COMPLETIONS, json=long_stream) as response:
            lines = response.iter_lines()
            next(lines)
            for _ in range(3):
                assert server.post(COMPLETIONS, **LARGE_REQUEST).status_code == 200
                assert server.post("/tokenize", prompt="x").status_code == 200
                server.refusal(COMPLETIONS, model="model", prompt="Why?", echo=1)
            assert list(lines)[-2] == "data: [DONE]"


@pytest.mark.parametrize("top_count", [0, 20])
def test_an_answer_that_nobody_takes_has_no_more_memory_than_is_counted(server, top_count):
    scheduler = server.schedulers["model"]
    tokens = TokenRequest([5] * 10, 400, Sampling(temperature=1.0, top_k=0, seed=1), top_count)
    batch = AnswerBatch(scheduler, [AnswerRequest(tokens)] * 2, 2)

    async def bytes_of_untaken_answers():
        async with contextlib.aclosing(batch.parts()) as parts:
            await anext(parts)
            tracemalloc.start()
            try:
                while server.request_count("model"):
                    await asyncio.sleep(0.02)
                return tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

    bytes_in_memory = asyncio.run(bytes_of_untaken_answers())
    assert 100_000 < bytes_in_memory <= max_answer_bytes(batch.requests, echoes_prompts=False)


def test_what_was_taken_counts_no_more():
    memory = AnswerMemory(100)
    with memory.waiting(60):
        memory.check_room()
        with memory.waiting(50), pytest.raises(ApiError, match="not taken"):
            memory.check_room()
        with pytest.raises(ConnectionError), memory.waiting(50):
            raise ConnectionError
        memory.check_room()
    assert memory.untaken_bytes == 0
