"""How many tokens a server with a prefix cache computes: requests in tree order, in the order of the task, at random.

    python tests/benchmarks/bench_server_order.py MODEL BENCHMARKS [--tasks TASKS] [--limit N] [--capacity TOKENS]

MODEL is a model folder, BENCHMARKS a folder of rows or `mini:`. The server is that of the tests, which speaks SGLang's API and
computes with real keys and values from a cache of `--capacity` tokens, the least recently used first out. Each order begins with
an empty cache, so that its counts are its own; the answers must be the same in all.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import sglang_server  # noqa: E402

from orca_bench.evaluate.engine import prefix_tree  # noqa: E402
from orca_bench.evaluate.request_encoding import ScoredSequence  # noqa: E402
from orca_bench.evaluate.servers.request_order import RequestPlan, plan_requests, send_all  # noqa: E402
from orca_bench.evaluate.servers.server_engine import ServerEngine  # noqa: E402


def task_sequences(arguments: argparse.Namespace) -> list[ScoredSequence]:
    """The ids of some tasks' scored requests under the leaderboard protocol, in the order of the tasks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        words = ["requests", "--tasks", arguments.tasks, "--protocol", "leaderboard", "--limit", str(arguments.limit)]
        words += ["--benchmarks", arguments.benchmarks, "--token-ids", "--model", arguments.model, "--out", str(path)]
        subprocess.run([sys.executable, "-m", "orca_bench", *words], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        ScoredSequence(line["context_ids"] + line["continuation_ids"], len(line["context_ids"]))
        for line in lines
        if "continuation" in line
    ]


def run(arguments: argparse.Namespace, name: str, sequences: list[ScoredSequence], plan: RequestPlan) -> list[float]:
    """Send sequences in their order to a new server, print what it computed, and return their log-probabilities."""
    server = sglang_server.serve(arguments.model, window=100_000, capacity=arguments.capacity)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.closing(ServerEngine(f"http://127.0.0.1:{server.server_port}/v1")) as engine:
        engine.check()
        model = server.answers
        sent, computed, start = model.sent, model.computed, time.monotonic()

        async def answer(position: int) -> float:
            return (await engine._log_likelihood(position, sequences[position])).log_probability

        values = engine._endpoint.run(send_all(plan, answer, arguments.concurrency))
        sent, computed = model.sent - sent, model.computed - computed
        print(
            f"{name:<28} {sent:>10,} sent {computed:>10,} computed {1 - computed / sent:>6.1%} cached "
            f"{time.monotonic() - start:>7.1f} s",
            flush=True,
        )
    server.shutdown()
    server.server_close()
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("benchmarks")
    parser.add_argument("--tasks", default="arc_challenge,mmlu")
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--capacity", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=16)
    arguments = parser.parse_args()
    sequences = task_sequences(arguments)
    order = sorted(range(len(sequences)), key=lambda n: sequences[n].token_ids)
    in_tree_order = [sequences[n] for n in order]
    print(
        f"{len(sequences)} requests, {prefix_tree.count_distinct_tokens(sequences):,} distinct tokens, a cache of "
        f"{arguments.capacity:,}, {arguments.concurrency} requests at a time"
    )
    shuffled = random.Random(1).sample(range(len(sequences)), len(sequences))
    no_waiting = plan_requests([sequence.token_ids for sequence in sequences], False)
    waiting = plan_requests([sequence.token_ids for sequence in in_tree_order], True)
    values = {
        "tree order, first answered": (order, run(arguments, "tree order, first answered", in_tree_order, waiting)),
        "tree order, all at once": (order, run(arguments, "tree order, all at once", in_tree_order, no_waiting)),
        "order of the tasks": (range(len(sequences)), run(arguments, "order of the tasks", sequences, no_waiting)),
        "random order": (shuffled, run(arguments, "random order", [sequences[n] for n in shuffled], no_waiting)),
    }
    by_request = [dict(zip(positions, numbers, strict=True)) for positions, numbers in values.values()]
    difference = max(abs(one[n] - by_request[0][n]) for one in by_request for n in one)
    print(f"largest difference of a log-probability between orders: {difference:.1e}")


if __name__ == "__main__":
    main()
