"""Time a teacher's answers into the ledger and write the record: results/bench/data_build.md.

    make bench
    python tests/benchmarks/bench_data_build.py --requests 2000 --memory-requests 137000

A server on the other core answers at once. Three clients have the same requests, 64 in flight, each in a process of its own: the
ledger (every attempt and every answer waits for the disk), the pattern that everyone copies (a semaphore around `openai`'s
client, answers appended to a file, which is not flushed to the disk), and the client alone. Memory is the largest resident set of
a process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bench_records import conditions, load_sentence, write_record

_IN_FLIGHT = 64
_LABELS = {
    "ledger": "here: ledger, every attempt and answer on disk",
    "append": "bounded gather, appended to a file",
    "client": "the client alone, answers thrown away",
}
_GOALS = "Goals on a quiet machine of two cores: 400 requests a second, 250 MiB at 137,000 requests."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-requests", type=int, default=137_000, help="0 leaves memory out")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "data_build.md")
    parser.add_argument("--client", choices=_LABELS, help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(run_client(options.client, options.base_url, options.folder, options.requests)))
        return
    load_before = os.getloadavg()[0]
    lines = [
        "# Answers of a teacher into the ledger",
        "",
        f"{conditions()}. {load_sentence(load_before)}",
        "",
        f"{options.requests:,} requests, {_IN_FLIGHT} in flight, a server on the same machine that answers at once. Each client "
        f"{options.repeats} times in turn, the best run of each. CPU seconds are the client's own. {_GOALS}",
        "",
        "| client | requests a second | CPU, ms a request | largest resident set, MiB |",
        "|---|--:|--:|--:|",
    ]
    with running_server() as base_url:
        runs: dict[str, list[dict[str, float]]] = {client: [] for client in _LABELS}
        for _ in range(options.repeats):
            for client, measurements in runs.items():
                measurements.append(measure(client, base_url, options.requests))
        for client, measurements in runs.items():
            best = min(measurements, key=lambda measurement: measurement["seconds"])
            lines.append(
                f"| {_LABELS[client]} | {options.requests / best['seconds']:.0f} | {1000 * best['cpu_s'] / options.requests:.2f} "
                f"| {best['memory_mib']:.0f} |"
            )
        if options.memory_requests:
            measurement = measure("ledger", base_url, options.memory_requests)
            lines += [
                "",
                f"{options.memory_requests:,} requests into one ledger: {measurement['seconds']:.0f} s, largest resident set "
                f"{measurement['memory_mib']:.0f} MiB.",
            ]
    write_record(options.out, [*lines, ""])


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """The address of a server that answers at once, in a process of its own."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "teacher_server.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def measure(client: str, base_url: str, request_count: int) -> dict[str, float]:
    """Run a client in a process of its own; what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--client", client, "--base-url", base_url, "--folder", folder, "--requests", str(request_count)]
        output = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True).stdout
    measurement = dict(json.loads(output))
    print(client, measurement, flush=True)
    return measurement


def run_client(client: str, base_url: str, folder: Path, request_count: int) -> dict[str, float]:
    """Ask for all requests; imports are not timed."""
    import openai  # noqa: F401
    from teacher_builds import build, make_requests, teacher_settings

    start_s, start_cpu_s = time.monotonic(), time.process_time()
    if client == "ledger":
        is_stopped_by_budget = build(
            make_requests(request_count),
            folder / "ledger.sqlite",
            teacher_settings(base_url, most_in_flight=_IN_FLIGHT),
            budget=1e6,
        )
        assert not is_stopped_by_budget
    else:
        path = folder / "answers.jsonl" if client == "append" else Path(os.devnull)
        asyncio.run(bounded_gather(base_url, path, request_count))
    return {
        "seconds": time.monotonic() - start_s,
        "cpu_s": time.process_time() - start_cpu_s,
        "memory_mib": largest_resident_set_mib(),
    }


def largest_resident_set_mib() -> float:
    """Of this process. `getrusage` has that of the process that started it, where that was larger."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


async def bounded_gather(base_url: str, path: Path, request_count: int) -> None:
    """The pattern of most scripts: all tasks at once, a semaphore, and a line for each answer."""
    import openai
    from teacher_builds import PARAMETERS, make_requests

    client = openai.AsyncOpenAI(base_url=base_url, api_key="none")
    semaphore = asyncio.Semaphore(_IN_FLIGHT)
    with open(path, "a", encoding="utf-8") as handle:

        async def answer(request):
            async with semaphore:
                completion = await client.chat.completions.create(
                    model="teacher", messages=request.messages, **PARAMETERS
                )
            handle.write(json.dumps({"id": request.row_id, "response": completion.choices[0].message.content}) + "\n")

        await asyncio.gather(*map(answer, make_requests(request_count)))


if __name__ == "__main__":
    main()
