"""Load `orca-bench serve` with many clients at a time, some of which go away, and check every answer: serve-load.md.

    python tests/benchmarks/serve_load.py                        # a model of 15M parameters with random weights; ten minutes
    python tests/benchmarks/serve_load.py --minutes 30           # with a soak of half an hour
    python tests/benchmarks/serve_load.py --model FOLDER --requests 12 --clients 4 --leavers 10 --slow-seconds 2 --overload 8

The requests are completions and chats, streamed or not, echoed with log-probabilities, with several answers, greedy or with a
seed. Each is answered alone first; whatever else is computed beside it, the answer must be the same. In a soak of ten minutes or
more the memory of the second half must not be more than 5 % above that of the first; where clients have gone, at most four more
files and connections may be open than after the first phase. The exit code is 1 where something is not as it should be.
`--leavers 0`, `--overload 0` and `--minutes 0` leave their phases out.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import httpx
from bench_evaluation import SHAPES, make_model_of_size
from bench_records import conditions, load_sentence, write_record
from option_types import count_or_zero, duration, positive_integer, positive_integers
from serve_figures import memory_growth, seconds_sentence
from serve_process import ServerProcess, serve_process
from serve_requests import (
    COMPLETIONS,
    Choice,
    MixedRequest,
    Refused,
    SlowReader,
    difference,
    leave,
    mixed_requests,
    random_text,
    send,
)

_MAX_DIFFERENCE = 1e-4  # nats
_WAVE = 25  # clients that go away together
_SOAK_CLIENTS = 24
#: The largest memory of a soak's second half beside that of its first, and how long a soak must be to tell: the memory of a new
#: process grows at first (orca_bench/serve/README.md).
MAX_MEMORY_GROWTH = 0.05
_MIN_SOAK_MINUTES = 10
#: Files that the process may have opened once and keeps open.
_MAX_MORE_FILES = 4
#: Until then a client that takes nothing has no connection any more: two looks of orca_bench/serve/http/server.py, and some
#: time, since the kernel takes its bytes only now and then.
_SLOW_READER_END_S = 130


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="15m", choices=[*SHAPES, "135m"])
    parser.add_argument("--model", type=Path, help="serve this model folder; --size only names it")
    parser.add_argument(
        "--tokenizer", type=Path, default=ROOT.parent / "shared" / "data" / "tokenizer" / "tokenizer.model"
    )
    parser.add_argument(
        "--requests", type=positive_integer, default=120, help="different requests, each also answered alone"
    )
    parser.add_argument(
        "--rounds", type=positive_integer, default=3, help="how often each is sent by how many clients at a time"
    )
    parser.add_argument("--clients", type=positive_integers, default="16,64", help="clients at a time")
    parser.add_argument("--max-tokens", type=positive_integer, default=48, help="the most of an answer")
    parser.add_argument("--leavers", type=count_or_zero, default=500, help="clients that go away")
    parser.add_argument("--overload", type=count_or_zero, default=120, help="requests that come at once")
    parser.add_argument("--slow-seconds", type=duration, default=150, help="how long slow readers read")
    parser.add_argument("--minutes", type=duration, default=0, help="of the soak")
    parser.add_argument("--cache-tokens", type=positive_integer, default=16_384, help="--cache-tokens of the server")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "serve-load.md")
    options = parser.parse_args()
    if options.model is not None and not options.model.is_dir():
        parser.error(f"--model {options.model}: no such folder")
    if options.model is None and options.size != "135m" and not options.tokenizer.is_file():
        parser.error(f"--tokenizer {options.tokenizer}: no such file")
    load_before, start = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make_model_of_size(Path(folder) / options.size, options.size, options.tokenizer)
        words = f"--dtype float32 --max-open 16 --max-waiting 64 --cache-tokens {options.cache_tokens}".split()
        with serve_process(model.resolve(), *words) as server:
            load = Load(options, server)
            try:
                asyncio.run(load.run())
            except KeyboardInterrupt:  # the phases before it are recorded
                load.faults.append("stopped by Ctrl-C")
    write_record(
        options.out,
        [
            f"# `orca-bench serve` under load, {options.size}",
            "",
            f"{conditions()}; {(time.monotonic() - start) / 60:.0f} minutes. {load_sentence(load_before)} The clients run on the "
            f"same machine. The server computes 16 requests at a time, lets 64 wait, and has keys and values of "
            f"{options.cache_tokens:,} tokens.",
            "",
            *load.lines,
        ],
    )
    for fault in load.faults:
        print(f"fault: {fault}")
    sys.exit(bool(load.faults))


class Load:
    """The phases of the run; `lines` are the record, `faults` what was not as it should be."""

    def __init__(self, options: argparse.Namespace, server: ServerProcess):
        self._options, self._server, self._generator = options, server, random.Random(1)
        self.lines: list[str] = []
        self.faults: list[str] = []
        self._requests = mixed_requests(self._generator, options.requests, server.model_name, options.max_tokens)
        self._expected: list[list[Choice]] = []
        self._largest_difference, self._first_file_count = 0.0, 0
        self._is_stopping, self._refused_count, self._retry_count = False, 0, 0

    async def run(self) -> None:
        """All phases, one after another; the last one ends the server."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._server.url, timeout=600, limits=limits) as client:
            self._client = client
            await self._answer_alone()
            for clients in self._options.clients:
                await self._answer_together(clients)
            if self._options.leavers:
                await self._let_clients_leave()
            if self._options.overload:
                await self._overload()
            await self._read_slowly()
            if self._options.minutes:
                await self._soak()
            await self._stop()

    def _note(self, line: str) -> None:
        self.lines += [f"- {line}"]
        print(line, flush=True)

    def _check(self, is_so: bool, fault: str) -> None:
        if not is_so:
            self.faults.append(fault)

    async def _answer_alone(self) -> None:
        start = time.monotonic()
        for request in self._requests:
            self._expected.append(await send(self._client, request))
        self._first_file_count = self._server.open_file_count()
        kinds = collections.Counter(request.path.rpartition("/v1/")[2] for request in self._requests)
        streams = sum(request.is_stream for request in self._requests)
        seconds = time.monotonic() - start
        self._note(
            f"**Alone**: {len(self._requests)} different requests, {', '.join(f'{n} {kind}' for kind, n in kinds.items())}, "
            f"{streams} of them streamed, one after another in {seconds:.0f} s; memory {self._server.memory_mib():.0f} MiB."
        )

    async def _send_checked(self, index: int) -> float:
        """Send a request, again where it gets 429, and compare its answer; returns the seconds it took."""
        start = time.monotonic()
        try:
            choices = await send(self._client, self._requests[index])
        except (Refused, RuntimeError, httpx.HTTPError) as error:
            status = error.response.status_code if isinstance(error, Refused) else None
            if isinstance(error, Refused) and status == 429 and "Retry-After" in error.response.headers:
                self._retry_count += 1
                await asyncio.sleep(int(error.response.headers["Retry-After"]))
                return time.monotonic() - start + await self._send_checked(index)
            # The server refuses who comes after the signal, and is not there any more for who comes after its end.
            if self._is_stopping and (status == 503 or isinstance(error, httpx.ConnectError)):
                self._refused_count += 1
                return time.monotonic() - start
            self.faults.append(f"request {index}: {type(error).__name__} {error}")
            return time.monotonic() - start
        fault, largest = difference(self._expected[index], choices)
        self._largest_difference = max(self._largest_difference, largest)
        self._check(fault is None, f"request {index} ({self._requests[index].body}): {fault}")
        self._check(largest <= _MAX_DIFFERENCE, f"request {index}: log-probabilities differ by {largest:.1e}")
        return time.monotonic() - start

    async def _send_together(self, indices: Sequence[int], clients: int) -> list[float]:
        """Send requests, so many at a time; returns the seconds of each."""
        places = asyncio.Semaphore(clients)

        async def send_one(index: int) -> float:
            async with places:
                return await self._send_checked(index)

        return await asyncio.gather(*(send_one(index) for index in indices))

    async def _answer_together(self, clients: int) -> None:
        indices = [index for index in range(len(self._requests)) for _ in range(self._options.rounds)]
        self._generator.shuffle(indices)
        fault_count, start = len(self.faults), time.monotonic()
        self._largest_difference, self._retry_count = 0.0, 0
        seconds = await self._send_together(indices, clients)
        elapsed_s = time.monotonic() - start
        self._note(
            f"**{clients} clients**: {len(indices)} answers in {elapsed_s:.0f} s, {len(self.faults) - fault_count} of them other "
            f"than alone; the largest difference of a log-probability is {self._largest_difference:.1e} nats. "
            f"{seconds_sentence(seconds)} {self._retry_count} times a request got "
            f"429, since its answers found no place, and was sent again. Memory {self._server.memory_mib():.0f} MiB."
        )

    async def _let_clients_leave(self) -> None:
        window_tokens = self._client_window()
        ways: collections.Counter[str] = collections.Counter()
        steps, seconds, memory, cache = [], [], [self._server.memory_mib()], []
        for first in range(0, self._options.leavers, _WAVE):
            count = min(_WAVE, self._options.leavers - first)
            fields = {"max_tokens": window_tokens // 2, "stop": ["no such text"]}
            requests = [
                MixedRequest(request.path, request.body | fields | {"n": self._generator.randint(1, 3)})
                for request in self._generator.choices(self._requests, k=count)
                if isinstance(request.body.get("prompt", ""), str)
            ]
            requests += [self._long_request() for _ in range(count - len(requests))]
            ways.update(
                await asyncio.gather(
                    *(leave(self._server.port, request, self._generator, longest_s=1.5) for request in requests)
                )
            )
            wave_seconds, wave_steps = await asyncio.to_thread(self._server.wait_until_free)
            steps.append(wave_steps)
            seconds.append(wave_seconds)
            memory.append(self._server.memory_mib())
            cache.append(self._server.metrics()["cache_tokens"])
            self._check(self._server.client.get("/health").status_code == 200, "/health does not answer")
        seconds_alone = await self._send_together(range(len(self._requests)), 16)
        files_text = await self._check_open_files()
        self._check(max(cache) <= self._options.cache_tokens, f"{max(cache)} tokens in the cache")
        self._note(
            f"**Clients that go away**: {sum(ways.values())}, "
            f"{', '.join(f'{n} {way}' for way, n in ways.most_common())}, in waves of {_WAVE} with long "
            f"requests. After each wave no request was open or waited after {max(steps)} steps of the model and "
            f"{max(seconds):.2f} s at most (median {sorted(steps)[len(steps) // 2]} and "
            f"{sorted(seconds)[len(seconds) // 2]:.2f} s). Keys and values of {max(cache):,.0f} tokens at most were kept then; "
            f"memory in MiB after each: {', '.join(f'{size:.0f}' for size in memory)}. {files_text} All "
            f"{len(seconds_alone)} requests were answered as before."
        )

    def _client_window(self) -> int:
        window: int = self._server.client.get("/v1/models").json()["data"][0]["max_model_len"]
        return window

    def _long_request(self, **fields: object) -> MixedRequest:
        body = {
            "model": self._server.model_name,
            "prompt": random_text(self._generator, 20),
            "temperature": 0.5,
            "seed": 1,
        }
        return MixedRequest(COMPLETIONS, body | {"max_tokens": self._client_window() // 2, "stream": True} | fields)

    async def _overload(self) -> None:
        statuses: collections.Counter[int] = collections.Counter()
        retry_seconds: list[int] = []

        async def send_one() -> None:
            try:
                choices = await send(self._client, self._long_request(max_tokens=64))
                self._check(choices[0].finish_reason is not None, "an answer under overload has no end")
                statuses[200] += 1
            except Refused as error:
                statuses[error.response.status_code] += 1
                retry_seconds.append(int(error.response.headers.get("Retry-After", -1)))

        await asyncio.gather(*(send_one() for _ in range(self._options.overload)))
        self._check(set(statuses) <= {200, 429}, f"statuses under overload: {statuses}")
        self._check(all(seconds >= 1 for seconds in retry_seconds), f"Retry-After: {retry_seconds}")
        self._check(
            statuses[200] >= min(80, self._options.overload), f"only {statuses[200]} were answered under overload"
        )
        between = f", Retry-After {min(retry_seconds)} to {max(retry_seconds)} s" if retry_seconds else ""
        self._note(
            f"**Overload**: {self._options.overload} requests at once: {statuses[200]} answered, {statuses[429]} refused with "
            f"429{between}."
        )

    async def _read_slowly(self) -> None:
        window = self._client_window()
        prompt = random_text(self._generator, window // 2)
        token_count = self._server.client.post("/tokenize", json={"prompt": prompt}).json()["count"]
        # As many scores as a request may have (`MAX_REQUEST_TOKENS`): more bytes than the kernel takes for a client.
        echo = {"prompt": prompt, "echo": True, "logprobs": 20, "max_tokens": 0, "stream": False}
        echo |= {"n": min(128, 2**18 // (21 * token_count))}
        readers = [
            SlowReader(self._server.port, self._long_request(**fields))
            for fields in ({}, {"logprobs": 20, "n": 4}, echo, echo | {"stream": True})
        ]
        memory = [self._server.memory_mib()]
        slow = [asyncio.create_task(reader.read(self._options.slow_seconds)) for reader in readers]
        start, answers = time.monotonic(), 0
        while answers == 0 or not all(task.done() for task in slow):
            answers += len(await self._send_together(self._generator.choices(range(len(self._requests)), k=16), 8))
            memory.append(self._server.memory_mib())
        await asyncio.gather(*slow)
        closed = sum(reader.is_closed for reader in readers)
        for reader in readers:
            reader.close()
        seconds, _ = await asyncio.to_thread(self._server.wait_until_free)
        if self._options.slow_seconds > _SLOW_READER_END_S:
            self._check(
                all(reader.is_closed for reader in readers[2:]), "the readers of long answers have their connections"
            )
        self._note(
            f"**{len(readers)} readers of a byte a second**, of two long streams and {echo['n']} echoes each of a prompt of "
            f"{token_count} tokens with 20 likeliest ones, whole and as a stream, for {time.monotonic() - start:.0f} s: "
            f"{answers} answers to others meanwhile; "
            f"the server closed {closed} of their connections; they had "
            f"{', '.join(str(reader.byte_count) for reader in readers)} bytes. Memory in MiB: "
            f"{memory[0]:.0f} before, {max(memory):.0f} at most, {self._server.memory_mib():.0f} after."
        )

    async def _soak(self) -> None:
        """Clients that send one request after another, and now and then go away, for some minutes."""
        end = time.monotonic() + 60 * self._options.minutes
        fault_count, seconds, leaver_count, memory = len(self.faults), [], 0, [self._server.memory_mib()]

        async def be_client(number: int) -> None:
            nonlocal leaver_count
            generator = random.Random(number)
            while time.monotonic() < end:
                if generator.random() < 0.1:
                    await leave(self._server.port, self._long_request(), generator, longest_s=2)
                    leaver_count += 1
                else:
                    seconds.append(await self._send_checked(generator.randrange(len(self._requests))))

        async def watch() -> None:
            while time.monotonic() < end:
                await asyncio.sleep(min(10.0, 6 * self._options.minutes))
                memory.append(self._server.memory_mib())
                self._check((await self._client.get("/health")).status_code == 200, "/health does not answer")

        before = self._server.metrics()
        await asyncio.gather(watch(), *(be_client(number) for number in range(_SOAK_CLIENTS)))
        await asyncio.to_thread(self._server.wait_until_free)
        after = self._server.metrics()
        tenths = [memory[(len(memory) - 1) * tenth // 10] for tenth in range(11)]
        files_text = await self._check_open_files()
        growth = memory_growth(memory)
        if self._options.minutes >= _MIN_SOAK_MINUTES:
            self._check(growth <= MAX_MEMORY_GROWTH, f"the memory of the soak's second half is {growth:.1%} larger")
        self._note(
            f"**Soak**: {self._options.minutes:g} minutes with {_SOAK_CLIENTS} clients: {len(seconds):,} answers, "
            f"{len(self.faults) - fault_count} of them other than alone, {leaver_count:,} clients that went away, "
            f"{after['new_tokens_total'] - before['new_tokens_total']:,.0f} new tokens in "
            f"{after['steps_total'] - before['steps_total']:,.0f} steps. {seconds_sentence(seconds)} Memory in MiB at every "
            f"tenth of the time: {', '.join(f'{size:.0f}' for size in tenths)}; the most of the second half is {growth:+.1%} "
            f"beside that of the first. {files_text}"
        )

    async def _check_open_files(self) -> str:
        """Check that connections which have ended are closed; returns a sentence about the open files."""
        most = self._first_file_count + _MAX_MORE_FILES
        count = await asyncio.to_thread(self._server.settled_file_count, most)
        sentence = f"{count} files and connections are open, and {self._first_file_count} were after the first phase."
        self._check(count <= most, sentence)
        return sentence

    async def _stop(self) -> None:
        """SIGTERM while requests are open and wait: they are answered, as alone."""
        indices = self._generator.choices(range(len(self._requests)), k=32)
        fault_count = len(self.faults)
        # Connections of their own: one that was used before may be closed just when it is used again.
        async with httpx.AsyncClient(base_url=self._server.url, timeout=600) as client:
            self._client = client
            answers = asyncio.create_task(self._send_together(indices, len(indices)))
            while (metrics := await asyncio.to_thread(self._server.metrics))["requests_open"] + metrics[
                "requests_waiting"
            ] == 0:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            self._is_stopping = True
            start = time.monotonic()
            exit_code = await asyncio.to_thread(self._server.stop)
            elapsed_s = time.monotonic() - start
            await answers
        log = self._server.log
        self._check(exit_code == 0, f"exit code {exit_code} after SIGTERM")
        self._check("Traceback" not in log and "failed" not in log, f"the server wrote: {log[-600:]}")
        self._note(
            f"**SIGTERM** with {len(indices)} requests under way: exit code {exit_code} after {elapsed_s:.1f} s, "
            f"{self._refused_count} of them came after it and were refused, {len(self.faults) - fault_count} were answered "
            "otherwise than alone."
        )
        self.lines.append("")


if __name__ == "__main__":
    main()
