"""A real OpenAI-compatible chat server over HTTP that misbehaves as it is told, for tests of `data build`.

    python tests/support/teacher_server.py [--delay SECONDS]     # prints its address, answers until it is ended

Its answer depends on the messages alone. It counts and bills as a server does: what it has answered is billed, whether the reply
arrives or not. `fault_of` names what happens to the n-th request, from 1; FAULTS are the names.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Faults that are a status: its code, the error's code and message, and headers.
STATUS_FAULTS = {
    "busy": (429, "rate_limit_exceeded", "Rate limit reached. See https://platform.example/account/rate-limits", {}),
    "busy for 50 ms": (429, "rate_limit_exceeded", "Rate limit reached", {"Retry-After": "0.05"}),
    "error": (500, "server_error", "The server had an error", {}),
    "bad gateway": (502, None, "Bad gateway", {}),
    "overloaded": (503, None, "Overloaded", {}),
    "wrong key": (401, "invalid_api_key", "Incorrect API key provided: {key}", {}),
    "unknown model": (404, "model_not_found", "The model `teacher` does not exist", {}),
    "unknown model 400": (400, None, "invalid model ID", {}),
    "no credit": (429, "insufficient_quota", "You exceeded your current quota", {}),
    "no access": (403, "unsupported_country_region_territory", "Country not supported", {}),
    "rejected": (400, "context_length_exceeded", "This model's maximum context length is 10 tokens", {}),
    "wrong parameter": (400, "unknown_parameter", "Unknown parameter: 'temprature'", {}),
    "flagged account": (403, None, "Your account has been flagged for a policy violation", {}),
    "filter parameter": (400, None, "Unrecognized request argument supplied: moderation", {}),
    "no funds": (400, "billing_not_active", "Your account is not active", {}),
    "too large": (413, None, "Request entity too large", {}),
    "wordy filter": (400, None, "Your request was rejected as a result of our safety system", {}),
    "prompt filtered": (400, "content_filter", "The prompt triggered the content management policy", {}),
}
#: Faults of a reply with status 200, all of which are billed.
REPLY_FAULTS = ("cut", "not json", "html", "no choices", "null", "list", "hang", "trickle", "error in 200")
#: Answers of other kinds, which are none of a server's faults.
ANSWER_FAULTS = ("refusal", "length", "filter", "empty", "thinking", "thinking tags", "no usage", "in parts", "dear")
ANSWER_FAULTS += ("half surrogate", "endless count", "thinking without opening", "finish REASON")
FAULTS = (*STATUS_FAULTS, *REPLY_FAULTS, *ANSWER_FAULTS)

FaultOf = Callable[[int, str], str | None]


def answer_text(messages: list[dict[str, str]]) -> str:
    """What the teacher answers."""
    digest = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
    return " ".join(digest[n : n + 8] for n in range(0, 8 * (2 + int(digest[0], 16) % 6), 8))


def count_tokens(messages: list[dict[str, str]]) -> tuple[int, int]:
    """Tokens of the messages and of the answer, which are words."""
    return sum(len(message["content"].split()) for message in messages), len(answer_text(messages).split())


@dataclass
class TeacherServer:
    """A server in a thread, or in its own process.

    `received` are the user's messages in the order in which they came, `billed` counts answers by user's message; `limit` is how
    many it answers at one time, all others are refused; `window` is (requests, seconds) of a fixed window, told in headers.
    """

    fault_of: FaultOf = lambda number, text: None
    delay_s: float = 0.0
    limit: int | None = None
    window: tuple[int, float] | None = None
    retry_headers: dict[str, str] = field(default_factory=dict)
    base_url: str = ""
    received: list[str] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    billed: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    keeps_bodies: bool = True
    _window_start_s: float = 0.0
    _window_count: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                key = head.partition("Bearer ")[2].split("\r\n")[0]
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                if headers.get("transfer-encoding") == "chunked":
                    content = await _read_chunks(reader)
                self.authorizations.add(key)
                self.in_flight += 1
                try:
                    method, path = head.split(" ")[:2]
                    if path.endswith("/chat/completions"):
                        is_open = await self.answer(json.loads(content), key, writer)
                    else:
                        is_open = await self.answer_other(method, path, headers, content, writer)
                finally:
                    self.in_flight -= 1
                if not is_open:
                    break
        with contextlib.suppress(Exception):
            writer.close()

    async def answer_other(
        self, method: str, path: str, headers: dict[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a request for another address, as llama.cpp's server does."""
        error = {"code": 404, "message": "File Not Found", "type": "not_found_error"}
        return await send(writer, 404, json.dumps({"error": error}).encode(), {})

    async def answer(self, body: dict, key: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; returns whether the connection stays open."""
        messages = body["messages"]
        text = messages[-1]["content"]
        self.received.append(text)
        if self.keeps_bodies:
            self.bodies.append(body)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        fault = self.fault_of(len(self.received), text)
        if self.limit is not None and self.in_flight > self.limit:
            fault = "busy"
        window_headers = self._count_in_window() if self.window else {}
        if window_headers is None:
            fault, window_headers = "busy", {"Retry-After": f"{self._window_left_s():.3f}"}
        if fault in STATUS_FAULTS:
            status, code, message, headers = STATUS_FAULTS[fault]
            self.refused += status == 429
            error = {"message": message.format(key=key), "code": code, "type": "invalid_request_error"}
            extra = {**headers, **(self.retry_headers if status == 429 else {}), **window_headers}
            return await send(writer, status, json.dumps({"error": error}).encode(), extra)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        content = self.complete(body, fault)
        return await _send_reply(writer, fault, content, window_headers)

    def complete(self, body: dict, fault: str | None) -> dict:
        """The billed reply to a request."""
        messages = body["messages"]
        text = messages[-1]["content"]
        prompt_tokens, completion_tokens = count_tokens(messages)
        self.billed[text] += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        usage["total_tokens"] = prompt_tokens + completion_tokens
        message: dict = {"role": "assistant", "content": answer_text(messages)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        content: dict = {"id": "1", "object": "chat.completion", "created": 0, "model": f"{body['model']}-0301"}
        content |= {"choices": [choice], "usage": usage}
        _plant(fault, content, choice, message)
        return content

    def _window_left_s(self) -> float:
        return max(0.0, self._window_start_s + self.window[1] - time.monotonic())

    def _count_in_window(self) -> dict[str, str] | None:
        """Headers with what is left of the window; None where nothing is left."""
        if self._window_left_s() == 0:
            self._window_start_s, self._window_count = time.monotonic(), 0
        if self._window_count == self.window[0]:
            return None
        self._window_count += 1
        remaining = self.window[0] - self._window_count
        names = ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
        return dict(zip(names, (str(remaining), f"{self._window_left_s() * 1000 + 1:.0f}ms"), strict=True))


def _plant(fault: str | None, content: dict, choice: dict, message: dict) -> None:
    """Plant a fault in a reply."""
    if fault == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    elif fault == "length":
        choice["finish_reason"] = "length"
    elif fault == "filter":
        choice["finish_reason"] = "content_filter"
        message["content"] = None
    elif fault == "empty":
        message["content"] = " \n"
    elif fault == "thinking":
        message["reasoning_content"] = "Let me think."
    elif fault == "thinking tags":
        message["content"] = f"<think>\nLet me think.\n</think>\n\n{message['content']}"
    elif fault == "no usage":
        del content["usage"]
    elif fault == "in parts":
        message["content"] = [{"type": "text", "text": message["content"]}]
    elif fault == "dear":
        content["usage"]["completion_tokens"] += 10**6
    elif fault == "endless count":
        content["usage"]["completion_tokens"] = 10**30
    elif fault == "no choices":
        content["choices"] = []
        del content["usage"]
    elif fault == "thinking without opening":
        message["content"] = f"Let me think.\n</think>\n\n{message['content']}"
    elif fault and fault.startswith("finish "):
        choice["finish_reason"] = fault.removeprefix("finish ") if fault != "finish None" else None
    elif fault == "half surrogate":
        message["content"] = "half a pair: \ud83d"


async def _send_reply(writer: asyncio.StreamWriter, fault: str | None, content: dict, headers: dict[str, str]) -> bool:
    data = json.dumps(content).encode()
    replacements = {"not json": data[: len(data) // 2], "html": b"<html>hello", "null": b"null", "list": b"[1]"}
    if fault == "error in 200":
        data = b'{"error": {"message": "upstream failed", "code": 502}}'
    if fault == "hang":
        await asyncio.sleep(3600)
    if fault == "trickle":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)
    if fault == "cut":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[: len(data) // 2])
        await writer.drain()
        return False
    return await send(writer, 200, replacements.get(fault or "", data), headers)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A body that is sent in chunks."""
    content = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        content += await reader.readexactly(size)
        await reader.readuntil(b"\r\n")
    await reader.readuntil(b"\r\n")
    return content


async def send(writer: asyncio.StreamWriter, status: int, data: bytes, headers: dict[str, str]) -> bool:
    lines = [f"HTTP/1.1 {status} Status", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    await writer.drain()
    return True


@contextlib.contextmanager
def running_teacher_server(
    fault_of: FaultOf = lambda number, text: None, server_class: type[TeacherServer] | None = None, **settings
) -> Iterator[TeacherServer]:
    """A server in a thread of this process; `settings` are those of `server_class`, which is `TeacherServer` by default."""
    server = (server_class or TeacherServer)(fault_of, **settings)
    is_ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**22)
        server.base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        is_ready.set()
        await asyncio.Event().wait()

    def run() -> None:
        asyncio.set_event_loop(loop)
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    serving = loop.create_task(serve())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    is_ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()


def main() -> None:
    """Answer until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()

    async def serve() -> None:
        server = TeacherServer(delay_s=options.delay, keeps_bodies=False)
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**22)
        print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", flush=True)
        await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
