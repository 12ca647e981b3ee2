"""What the server refuses, and that it says what is wrong; a wrong request never ends it."""

import json
import socket

import pytest
from pydantic import ValidationError

from orca_bench.serve.http.requests import MAX_BODY_BYTES, ChatBody, CompletionBody

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt", [True], "prompt: must be a text, a list of texts, a list of token ids"),
        ("prompt", [], "none of them empty"),
        ("prompt", [[1], []], "none of them empty"),
        ("prompt", {"a": 1}, "prompt: must be a text"),
        ("prompt", [5, 10**30], "is no token id of this model: they run from 0 to"),
        ("prompt", [-1], "-1 is no token id"),
        ("prompt", [1] * 1025, "the prompt has 1025 tokens and the model's context window 1024"),
        ("max_tokens", 1024, "new ones were requested"),
        ("max_tokens", "12", "max_tokens: should be a valid integer"),
        ("temperature", -1, "temperature: should be greater than or equal to 0"),
        ("top_p", 0, "top_p: should be greater than 0"),
        ("n", 0, "n: should be greater than or equal to 1"),
        ("n", 129, "n: should be less than or equal to 128"),
        ("logprobs", 21, "logprobs: should be less than or equal to 20"),
        ("stop", "", "stop.0: string should have at least 1 character"),
        ("seed", 2**63, "seed: should be less than"),
        ("frequency_penalty", 1, "frequency_penalty: is not supported: leave it out, or 0"),
        ("logit_bias", {"5": 1}, "logit_bias: is not supported"),
        ("topp", 1, "topp: unknown field; did you mean 'top_p'?"),
        ("stream_options", {"usage": True}, "stream_options.usage: unknown field"),
    ],
)
def test_a_wrong_field_is_named(server, field, value, message):
    body = {"model": "model", "prompt": "Why?"} | {field: value}
    assert message in server.refusal(COMPLETIONS, **body)


def test_values_that_change_nothing_are_taken(server):
    neutral = {"min_p": 0, "repetition_penalty": 1, "repeat_penalty": 1.0, "presence_penalty": 0, "logit_bias": {}}
    body = {
        "model": "model",
        "prompt": "Why?",
        "max_tokens": 1,
        "top_k": -1,
        "user": "me",
        "best_of": 1,
        "suffix": None,
    }
    assert server.post(COMPLETIONS, **body, **neutral).status_code == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the body is no JSON"),
        (b"[1]", "the body must be a JSON object"),
        (b'{"model": "model", "prompt": "\xff"}', "the body is no JSON: invalid unicode code point"),
        (b'{"model": "model", "prompt": "\\ud800"}', "the body is no JSON"),
        (b'{"model": "model", "prompt": "x", "temperature": NaN}', "temperature: should be a finite number"),
        (b"[" * 100_000, "the body is no JSON: recursion limit exceeded"),
        (b'{"prompt": "x"}', "model: is missing"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(server, content, message):
    response = server.client.post(COMPLETIONS, content=content)
    assert response.status_code == 400 and message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("messages", [], "messages: list should have at least 1 item"),
        (
            "messages",
            [{"role": "tool", "content": "x"}],
            "messages.0.role: should be 'system', 'developer', 'user', 'input' or 'assistant'",
        ),
        (
            "messages",
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "messages.0.content: should be a valid string",
        ),
        ("top_logprobs", 2, "top_logprobs is for logprobs: true"),
        ("tools", "search", "tools: should be a valid array"),
        ("tool_choice", "required", "tool_choice: no tool can be used here"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}, "tool_choice: no tool can be used here"),
        ("response_format", {"type": "json_object"}, "response_format.type: should be 'text'"),
    ],
)
def test_a_wrong_field_of_a_chat_is_named(server, field, value, message):
    body = {"model": "model", "messages": [{"role": "user", "content": "Why?"}]} | {field: value}
    assert message in server.refusal(CHATS, **body)


def test_more_answers_than_memory_should_hold_are_refused_before_they_are_computed(server):
    steps = server.schedulers["model"].statistics().steps
    assert "too many for one request" in server.refusal(
        COMPLETIONS, model="model", prompt=["x"] * 40, n=128, max_tokens=60
    )
    assert "too many for one request" in server.refusal(
        COMPLETIONS, model="model", prompt=["x"] * 3, n=128, max_tokens=999
    )
    likeliest = {"max_tokens": 200, "logprobs": 20}
    assert "too many for one request" in server.refusal(COMPLETIONS, model="model", prompt="x", n=128, **likeliest)
    assert server.schedulers["model"].statistics().steps == steps


def test_a_model_and_a_path_that_are_not_there(server):
    assert "no model 'other' is served here; there is 'model'" in server.refusal(
        COMPLETIONS, 404, model="other", prompt="x"
    )
    for path in (
        "/v1/nothing",
        "/../etc/passwd",
        "/page/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/page/records.jsonl",
    ):
        response = server.client.get(path)
        assert response.status_code == 404 and "root:" not in response.text, path
    assert server.client.get("/v1/models/..%2f..%2fetc%2fpasswd").status_code == 404
    assert server.client.get(COMPLETIONS).status_code == 405


def test_a_long_body_is_refused_before_it_is_read(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 104857600\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_long_body_of_unknown_length_is_refused_while_it_is_read(server):
    sent_bytes = 0

    def chunks():
        nonlocal sent_bytes
        for _ in range(100 * 16):
            sent_bytes += 2**16
            yield b" " * 2**16

    with server.client.stream("POST", COMPLETIONS, content=chunks()) as response:
        assert response.status_code == 413
    assert sent_bytes < 16 * MAX_BODY_BYTES  # the rest is in the buffers of both sides


MANY_FIELDS = {f"field{number}": "x" for number in range(20_000)}


@pytest.mark.parametrize(
    ("body_type", "fields", "message"),
    [
        (CompletionBody, MANY_FIELDS, "field0: unknown field"),
        (CompletionBody, {"stream_options": MANY_FIELDS}, "stream_options.field0: unknown field"),
        (CompletionBody, {"logit_bias": MANY_FIELDS}, "logit_bias: is not supported"),
        (CompletionBody, {"stop": [0] * 20_000}, "stop: list should have at most 64 items"),
        (CompletionBody, {"stop_token_ids": ["x"] * 20_000}, "stop_token_ids: list should have at most 1024 items"),
        (CompletionBody, {"x" * 2**20: 0}, f"{'x' * 100}: unknown field"),
        (ChatBody, {"messages": ["x"] * 20_000}, "messages.0: must be a JSON object"),
        (ChatBody, {"response_format": {"type": "text"} | MANY_FIELDS}, "response_format.field0: unknown field"),
    ],
)
def test_of_a_body_with_thousands_of_faults_few_are_collected_and_the_first_is_named(
    server, body_type, fields, message
):
    """Each error that pydantic collects costs time and memory."""
    question = {"messages": [{"role": "user", "content": "x"}]} if body_type is ChatBody else {"prompt": "x"}
    body = json.dumps({"model": "model"} | question | fields)
    with pytest.raises(ValidationError) as error:
        body_type.model_validate_json(body)
    assert error.value.error_count() <= 2
    response = server.client.post(CHATS if body_type is ChatBody else COMPLETIONS, content=body)
    assert response.status_code == 400 and len(response.content) < 1000
    assert response.json()["error"]["message"].startswith(message)


def test_the_server_answers_after_all_of_this(server):
    assert server.client.get("/health").json() == {"status": "ok"}
    answer = server.post(COMPLETIONS, model="model", prompt="Why?", max_tokens=2)
    assert answer.status_code == 200 and json.loads(answer.content)["usage"]["completion_tokens"] <= 2
