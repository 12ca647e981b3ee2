"""Mixed requests to `orca-bench serve`, their answers as one form, and clients that go away in several ways.

Its own module because the phases of serve_load.py send the same requests and compare the same answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

import httpx
from slow_clients import http_request, slow_client

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
_TEXT = (
    "Which of these is the smallest number that a farmer with seven fields may have counted before the rain came and "
    "what did she say to her neighbours when the river rose over the old stone bridge"
)


@dataclass(frozen=True)
class MixedRequest:
    """A path and a body; a chat or a completion, streamed or not, greedy or with a seed."""

    path: str
    body: dict[str, Any]

    @property
    def is_stream(self) -> bool:
        """Whether the answer comes in events."""
        return bool(self.body.get("stream"))

    def content(self) -> bytes:
        """The bytes of the request."""
        return http_request("POST", self.path, **self.body)


@dataclass
class Choice:
    """One answer: its text, why it ended, its tokens and their log-probabilities in nats, None for the first of a text."""

    text: str = ""
    finish_reason: str | None = None
    tokens: list[str] = field(default_factory=list)
    log_probabilities: list[float | None] = field(default_factory=list)


def random_text(generator: random.Random, word_count: int) -> str:
    """Words of a small vocabulary, so that prompts share beginnings at times."""
    return " ".join(generator.choice(_TEXT.split()) for _ in range(word_count))


def mixed_requests(generator: random.Random, count: int, model_name: str, max_tokens: int) -> list[MixedRequest]:
    """As many requests, of all kinds in turn; each has the same answer whenever it is sent."""
    shared = random_text(generator, 60)
    requests = []
    for number in range(count):
        text = (
            f"{shared} {random_text(generator, 20)}"
            if number % 3 == 0
            else random_text(generator, generator.randint(1, 120))
        )
        tokens = generator.randint(1, max_tokens)
        sampling: dict[str, Any] = (
            {"temperature": 0} if generator.random() < 0.5 else {"temperature": 0.8, "seed": number}
        )
        body: dict[str, Any] = {
            "model": model_name,
            "max_tokens": tokens,
            "stream": generator.random() < 0.5,
            **sampling,
        }
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": text},
            *([{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Why?"}] if number % 2 else []),
        ]
        kinds: list[tuple[str, dict[str, Any]]] = [
            (COMPLETIONS, {"prompt": text, "logprobs": 1}),
            (COMPLETIONS, {"prompt": text, "n": 3, "stop": ["river", "\n"]}),
            (
                COMPLETIONS,
                {"prompt": text, "echo": True, "logprobs": generator.choice([0, 1, 5]), "max_tokens": number % 4},
            ),
            (COMPLETIONS, {"prompt": [text, random_text(generator, 5), text], "n": 2}),
            (CHATS, {"messages": messages, "logprobs": True, "top_logprobs": 2}),
            (CHATS, {"messages": messages, "n": 2, "stream_options": {"include_usage": True}}),
        ]
        path, fields = kinds[number % len(kinds)]
        requests.append(MixedRequest(path, body | fields))
    return requests


async def send(client: httpx.AsyncClient, request: MixedRequest) -> list[Choice]:
    """The answer to a request; raises Refused for a status other than 200, RuntimeError for a stream that breaks off."""
    async with client.stream("POST", request.path, json=request.body) as response:
        if response.status_code != httpx.codes.OK:
            await response.aread()
            raise Refused(response)
        if not request.is_stream:
            await response.aread()
            return _choices([response.json()], "message")
        events = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    if events[-1] != "[DONE]":
        raise RuntimeError(f"a stream ended with {events[-1][:300]}")
    return _choices([json.loads(event) for event in events[:-1]], "delta")


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, response: httpx.Response):
        super().__init__(f"{response.status_code}: {response.text[:300]}")
        self.response = response


def _choices(objects: list[dict[str, Any]], key: str) -> list[Choice]:
    choices: dict[int, Choice] = {}
    for part in (choice for json_object in objects for choice in json_object["choices"]):
        choice = choices.setdefault(part["index"], Choice())
        choice.text += part["text"] if "text" in part else part[key].get("content") or ""
        choice.finish_reason = part["finish_reason"] or choice.finish_reason
        logprobs = part.get("logprobs") or {}
        choice.tokens += logprobs.get("tokens", [])
        choice.log_probabilities += logprobs.get("token_logprobs", [])
        choice.tokens += [token["token"] for token in logprobs.get("content") or []]
        choice.log_probabilities += [token["logprob"] for token in logprobs.get("content") or []]
    return [choices[index] for index in sorted(choices)]


def difference(expected: list[Choice], choices: list[Choice]) -> tuple[str | None, float]:
    """(what differs or None, the largest difference of a log-probability in nats)."""
    if len(expected) != len(choices):
        return f"{len(choices)} answers and not {len(expected)}", 0.0
    largest = 0.0
    for one, two in zip(expected, choices, strict=True):
        if (one.text, one.finish_reason, one.tokens) != (two.text, two.finish_reason, two.tokens):
            return (
                f"{two.text[-200:]!r} ({two.finish_reason}) and not {one.text[-200:]!r} ({one.finish_reason})",
                largest,
            )
        pairs = zip(one.log_probabilities, two.log_probabilities, strict=True)
        largest = max([largest, *(abs(a - b) for a, b in pairs if a is not None and b is not None)])
    return None, largest


# --- clients that go away ----------------------------------------------------------------------------------------------


async def leave(port: int, request: MixedRequest, generator: random.Random, longest_s: float) -> str:
    """Send a request and go away at a random moment; returns how."""
    way = generator.choice(["in the body", "after the request", "while it reads", "with a reset", "killed", "killed"])
    content, wait_s = request.content(), generator.uniform(0, longest_s)
    if way == "killed":
        await _leave_by_kill(port, content, wait_s)
        return way
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content[: len(content) // 2] if way == "in the body" else content)
    await writer.drain()
    if way == "while it reads":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await reader.read(generator.randint(1, 4000))
    await asyncio.sleep(wait_s)
    if way == "with a reset":
        writer.transport.abort()
    else:
        writer.close()
    return way


_CLIENT = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(sys.stdin.buffer.read())
print("sent", flush=True)
while connection.recv(1000):
    pass
"""


async def _leave_by_kill(port: int, content: bytes, wait_s: float) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", _CLIENT, str(port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(content)
    process.stdin.close()
    await process.stdout.readline()
    await asyncio.sleep(wait_s)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


class SlowReader:
    """A client that takes a byte a second of its answer."""

    def __init__(self, port: int, request: MixedRequest):
        self._connection = slow_client(port, request.content())
        self._connection.setblocking(False)
        self.byte_count, self.is_closed = 0, False

    async def read(self, seconds: float) -> None:
        """Read for so many seconds, or until the server closes the connection."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and not self.is_closed:
            try:
                # A reset is told here at once, and by `recv` only after what has come before it.
                self.is_closed = bool(self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                content = self._connection.recv(1)
                self.byte_count += len(content)
                self.is_closed |= not content
            except BlockingIOError:
                pass
            except ConnectionError:
                self.is_closed = True
            await asyncio.sleep(1)

    def close(self) -> None:
        """Go away."""
        self._connection.close()
