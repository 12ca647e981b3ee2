"""Files of answers that are larger than they may be in memory: they are streamed to the disk and read line by line."""

import asyncio
import contextlib
import json
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from teacher_builds import make_requests, teacher_settings

from orca_bench.data.build.batch_client import BatchClient, BatchStatus
from orca_bench.data.build.batch_collection import collect_batch
from orca_bench.data.build.batch_ledger import begin_batch, custom_id_of
from orca_bench.data.build.data_recipe import BatchSettings
from orca_bench.data.build.ledger import open_ledger
from orca_bench.data.build.teacher_client import TeacherClient
from orca_bench.data.build.teacher_replies import AttemptFailed

COUNT = 1200
ANSWER = "a long answer " * 1500  # 21 KB
KEY = "sk-a-key-of-this-test"


def output_line(custom_id, text=ANSWER):
    body = {
        "model": "teacher",
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20},
    }
    line = {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(line).encode() + b"\n"


@contextlib.contextmanager
def serving_file(line_of, count, missing_bytes=0):
    """The address of a server that sends `line_of(n)`, n from 1, as the content of each file, never more than one at a time.

    It breaks off where `missing_bytes` of what it has announced are missing.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            byte_count = sum(len(line_of(number)) for number in range(1, count + 1)) + missing_bytes
            self.send_response(200)
            self.send_header("Content-Length", str(byte_count))
            self.end_headers()
            for number in range(1, count + 1):
                self.wfile.write(line_of(number))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_a_large_file_of_answers_is_never_in_memory_as_a_whole(tmp_path):
    async def collect():
        with open_ledger(tmp_path / "ledger.sqlite") as ledger:
            worst_cases = [(request, 10**9) for request in make_requests(COUNT)]
            batch = await begin_batch(ledger, "0123456789abcdef", "", "", worst_cases)
            lines = lambda number: output_line(custom_id_of(batch.key, number))  # noqa: E731
            with serving_file(lines, COUNT) as base_url:
                settings = teacher_settings(base_url, batch=BatchSettings())
                client = BatchClient(settings)
                assert await client.download("file-0", tmp_path / "first")  # imports what it needs
                tracemalloc.start()
                status, path = BatchStatus("completed", COUNT, 0, "file-1"), tmp_path / "answers"
                collection = await collect_batch(
                    ledger, batch, status, settings, client.download, lambda request_id: True, path
                )
                peak_bytes = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                await client.close()
            answers = [ledger.answer_of(request.request_id).text for request, _ in worst_cases]
            return collection, answers, peak_bytes, path

    collection, answers, peak_bytes, path = asyncio.run(collect())
    assert answers == [ANSWER] * COUNT and len(collection.outcomes) == COUNT
    assert not path.exists()
    assert peak_bytes < COUNT * len(ANSWER) / 2, f"{peak_bytes:,} bytes"


def test_a_download_that_breaks_off_is_made_again_and_no_traceback(tmp_path):
    async def download(base_url):
        client = BatchClient(teacher_settings(base_url, batch=BatchSettings()))
        try:
            return await client.download("file-1", tmp_path / "answers")
        finally:
            await client.close()

    with serving_file(output_line, 3, missing_bytes=5) as base_url, pytest.raises(AttemptFailed) as caught:
        asyncio.run(download(base_url))
    assert caught.value.consequence == "retry" and "the connection broke off" in caught.value.reason


def test_a_key_that_a_server_sends_back_is_not_written_wherever_the_pieces_end(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    content = f"before {KEY}{KEY} and after".encode()

    async def redacted(client, size):
        async def pieces():
            for start in range(0, len(content), size):
                yield content[start : start + size]

        return b"".join([piece async for piece in client.redact_stream(pieces())])

    async def redact_all():
        client = TeacherClient(teacher_settings("http://127.0.0.1:9/v1"))
        return {await redacted(client, size) for size in range(1, len(content) + 1)}

    assert asyncio.run(redact_all()) == {b"before ****** and after"}
