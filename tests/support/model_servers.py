"""`orca-bench serve`'s application on a real port, in a thread of the test's process."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
from waiting import PATIENCE_S, eventually

from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.batch_scheduler import BatchScheduler
from orca_bench.serve.http.answer_memory import MAX_ANSWER_BYTES
from orca_bench.serve.http.app import ModelServer
from orca_bench.serve.http.served_model import ServedModel
from orca_bench.serve.http.server import open_socket, serve_until
from orca_bench.serve.sampling import Sampling
from orca_bench.system_messages import SYSTEM_MESSAGES


class RunningServer:
    """A server that answers at `url`; `schedulers` are those of its models, `messages` what it has said."""

    def __init__(self, url: str, schedulers: dict[str, BatchScheduler]):
        self.url, self.schedulers = url, schedulers
        self.messages: list[str] = []
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_S)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, **body) -> httpx.Response:
        return self.client.post(path, json=body)

    def refusal(self, path: str, status: int = 400, **body) -> str:
        """The message of a request that must be refused with this status."""
        response = self.post(path, **body)
        assert response.status_code == status, response.text
        return response.json()["error"]["message"]

    def request_count(self, model_name: str) -> int:
        """How many requests of a model are computed or wait."""
        statistics = self.schedulers[model_name].statistics()
        return statistics.open_requests + statistics.waiting_requests

    def wait_until_free(self) -> None:
        """Wait until no request of any model is computed or waits."""
        eventually(lambda: not any(self.request_count(name) for name in self.schedulers))


@contextlib.contextmanager
def serving(
    *folders: Path,
    max_open: int = 4,
    max_waiting: int = 64,
    api_key: str | None = None,
    host_names: tuple[str, ...] = (),
    records_folder: Path | None = None,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    send_buffer_bytes: int | None = None,
) -> Iterator[RunningServer]:
    """Serve model folders by their names, greedily where a chat says nothing of its sampling.

    `send_buffer_bytes` is how much the system takes of the answers on each connection.
    """
    schedulers = {
        folder.name: BatchScheduler(ModelFolder(str(folder)), max_open, max_waiting, dtype="float32")
        for folder in folders
    }
    for name, scheduler in schedulers.items():
        scheduler.name = name  # a folder "model" has the name of the folder that it is in
    sampling = Sampling(greedy=True, max_new_tokens=24)
    models = [ServedModel(scheduler, SYSTEM_MESSAGES[5], sampling) for scheduler in schedulers.values()]
    listener = open_socket("127.0.0.1", 0)
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    running = RunningServer(f"http://127.0.0.1:{listener.getsockname()[1]}", schedulers)
    model_server = ModelServer(models, records_folder, max_answer_bytes)
    application = model_server.application(api_key, host_names)
    loop, is_stopping = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        loop.run_until_complete(serve_until(is_stopping, model_server, application, listener, running.messages.append))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield running
    finally:
        running.client.close()
        loop.call_soon_threadsafe(is_stopping.set)
        thread.join()
        loop.close()
