"""Time `orca-bench serve` beside `transformers serve` and llama.cpp's server, in one run: results/bench/serve-SIZE.md.

    python tests/benchmarks/bench_serve.py --size 15m
    python tests/benchmarks/bench_serve.py --size 135m
    python tests/benchmarks/bench_serve.py --model FOLDER --concurrent 2 --new-tokens 8 --turn-tokens 100 --out serve.md

Model, prompts and machine are the same, all compute in float32, and each answers /v1/completions over HTTP: `transformers serve`
with and without continuous batching, llama.cpp by the package xllamacpp with a GGUF file of type F32. All servers are up for the
whole run and take turns; the least of the times of each counts, since the machine may have other work. A server that cannot do
something is named in the record with what it says. Models of 15M parameters are LLaMAs of random weights, 135m is
SmolLM2-135M-Instruct (`make real-model`).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bench_evaluation import make_model_of_size
from bench_records import conditions, load_sentence, write_record
from option_types import positive_integer
from serve_process import running_python, serve_process

from orca_bench.child_processes import find_free_port
from orca_bench.models.gguf import llamacpp_server
from orca_bench.models.model_folder import ModelFolder

_SENTENCE = (
    "Which of these is the smallest number that a farmer with seven fields may have counted before the rain came"
)

#: An answer as JSON to a body for /v1/completions.
Complete = Callable[[dict[str, Any]], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="15m", choices=["15m", "110m", "135m"])
    parser.add_argument("--model", type=Path, help="time this model folder; --size only names it")
    parser.add_argument(
        "--tokenizer", type=Path, default=ROOT.parent / "shared" / "data" / "tokenizer" / "tokenizer.model"
    )
    parser.add_argument("--concurrent", type=positive_integer, default=16, help="requests at a time")
    parser.add_argument("--new-tokens", type=positive_integer, default=128, help="of each request")
    parser.add_argument(
        "--turn-tokens", type=positive_integer, default=1500, help="of the prompt of a conversation's first turn"
    )
    parser.add_argument("--repeats", type=positive_integer, default=3, help="turns that each server has")
    parser.add_argument("--out", type=Path, help="default: results/bench/serve-SIZE.md")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        model = options.model or make_model_of_size(Path(folder) / options.size, options.size, options.tokenizer)
        lines = run(options, model.resolve(), Path(folder), stack)
    write_record(
        options.out or ROOT / "results" / "bench" / f"serve-{options.size}.md",
        [
            f"# A server beside others, {options.size}",
            "",
            f"{conditions()}. The least of {options.repeats} times of each server, in turns. {load_sentence(load_before)}",
            "",
            *lines,
        ],
    )


def run(options: argparse.Namespace, model: Path, folder: Path, stack: contextlib.ExitStack) -> list[str]:
    """Start all servers, measure, and return the record as Markdown."""
    servers: dict[str, Complete] = {}
    faults: dict[str, str] = {}
    starts: dict[str, contextlib.AbstractContextManager[Complete]] = {
        "orca-bench serve": _orca_bench(model),
        "transformers serve": _transformers(model),
        "transformers serve, continuous batching": _transformers(model, "--continuous-batching"),
        "llama.cpp": _llamacpp(model, folder / "model.gguf", options),
    }
    for name, start in starts.items():
        try:
            servers[name] = stack.enter_context(start)
            servers[name](_body("Why?", 2))
        except Exception as error:  # whatever a server fails with: the others are measured
            servers.pop(name, None)
            faults[name] = " ".join(str(error).split())[:600]
        print(f"{name}: {faults.get(name, 'ready')}", flush=True)
    if "orca-bench serve" not in servers:
        sys.exit(f"error: {faults['orca-bench serve']}")
    ours = servers["orca-bench serve"]
    return [
        *generation_section(servers, options),
        *[f"- {name} is not measured: {fault}" for name, fault in faults.items()],
        "",
        *latency_section(ours, options),
        *scoring_section(ours, model, options),
    ]


# --- what is measured --------------------------------------------------------------------------------------------------


def generation_section(servers: dict[str, Complete], options: argparse.Namespace) -> list[str]:
    """Greedy texts of many requests at a time, as Markdown."""
    generator = random.Random(1)
    rates: dict[str, list[float]] = {name: [] for name in servers}
    for repeat in range(options.repeats):
        # New prompts each time: no server has them in a cache.
        bodies = [_body(_prompt(generator, 40 + 2 * n), options.new_tokens) for n in range(options.concurrent)]
        for name in list(servers) if repeat % 2 == 0 else list(reversed(servers)):
            seconds, answers = _timed(servers[name], bodies, options.concurrent)
            token_count = sum(answer["usage"]["completion_tokens"] for answer in answers)
            rates[name].append(token_count / seconds)
            print(f"{name}: {token_count} tokens in {seconds:.1f} s", flush=True)
    ours = max(rates["orca-bench serve"])
    return [
        f"## {options.concurrent} requests at a time, {options.new_tokens} tokens each",
        "",
        "Greedy, prompts of 40 words and more. A text may end early: what counts are the tokens that the server says it made.",
        "",
        "| server | tokens a second | orca-bench serve is faster by |",
        "|---|--:|--:|",
        *[f"| {name} | {max(values):.0f} | {ours / max(values):.2f} |" for name, values in rates.items()],
        "",
    ]


def latency_section(complete: Complete, options: argparse.Namespace) -> list[str]:
    """The first token of a short prompt, and of a conversation's two turns, as Markdown."""
    generator = random.Random(2)
    short_seconds, first_seconds, second_seconds = [], [], []
    for _ in range(options.repeats):
        short_seconds.append(_timed(complete, [_body(_prompt(generator, 12), 1)], 1)[0])
        ids = [generator.randrange(300, 600) for _ in range(options.turn_tokens)]
        first_seconds.append(_timed(complete, [_body(ids, 1)], 1)[0])
        second_ids = [*ids, *(generator.randrange(300, 600) for _ in range(30))]
        second_seconds.append(_timed(complete, [_body(second_ids, 1)], 1)[0])
    first, second = min(first_seconds), min(second_seconds)
    return [
        "## The first token",
        "",
        f"Of a prompt of 12 words after {min(short_seconds) * 1000:.0f} ms; of {options.turn_tokens:,} tokens after "
        f"{first * 1000:.0f} ms, and of the same with 30 more, a second turn, after {second * 1000:.0f} ms: {second / first:.3f} "
        "of the first. Whole requests for one token, over HTTP.",
        "",
    ]


def scoring_section(complete: Complete, model: Path, options: argparse.Namespace) -> list[str]:
    """Prompts scored with echo, beside plain passes one by one, as Markdown: questions with four choices after examples."""
    from orca_bench.evaluate.engine.forward_passes import PlainPasses
    from orca_bench.models.model_loading import load_on_cpu

    generator = random.Random(3)
    examples = [generator.randrange(300, 600) for _ in range(options.turn_tokens // 3)]
    prompts = []
    for _ in range(options.concurrent):
        question = [*examples, *(generator.randrange(300, 600) for _ in range(40))]
        prompts += [[*question, *(generator.randrange(300, 600) for _ in range(4))] for _ in range(4)]
    bodies = [_body(ids, 0) | {"echo": True, "logprobs": 1} for ids in prompts]
    seconds, answers = _timed(complete, bodies, options.concurrent)
    loaded_model = load_on_cpu(model, "float32")
    passes = PlainPasses(loaded_model, loaded_model.device)
    largest_difference = 0.0
    import torch

    start = time.perf_counter()
    with torch.inference_mode():
        for ids, answer in zip(prompts, answers, strict=True):
            expected = passes.log_probabilities(ids[:-1])[range(len(ids) - 1), ids[1:]]
            values = torch.tensor(answer["choices"][0]["logprobs"]["token_logprobs"][1:])
            largest_difference = max(largest_difference, float((values - expected).abs().max()))
    plain_seconds = time.perf_counter() - start
    return [
        "## Scored prompts",
        "",
        f"{len(prompts)} prompts of about {len(prompts[0])} tokens that begin alike, four of each question, with echo and "
        f"logprobs: {seconds:.1f} s, {options.concurrent} at a time; by transformers' own passes one by one "
        f"{plain_seconds:.1f} s, {plain_seconds / seconds:.1f} times as long. The largest difference of a log-probability is "
        f"{largest_difference:.1e} nats.",
        "",
    ]


def _body(prompt: str | list[int], max_tokens: int) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0}


def _prompt(generator: random.Random, word_count: int) -> str:
    return " ".join(generator.choice(_SENTENCE.split()) for _ in range(word_count))


def _timed(complete: Complete, bodies: Sequence[dict[str, Any]], concurrent: int) -> tuple[float, list[dict[str, Any]]]:
    """Seconds for all requests, so many at a time, and the answers."""
    with ThreadPoolExecutor(concurrent) as executor:
        start = time.perf_counter()
        answers = list(executor.map(complete, bodies))
        return time.perf_counter() - start, answers


# --- the servers -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _orca_bench(model: Path) -> Iterator[Complete]:
    """`orca-bench serve`, for a block."""
    with serve_process(model, "--dtype", "float32") as server:
        yield lambda body: _post(server.port, body | {"model": server.model_name})


@contextlib.contextmanager
def _transformers(model: Path, *words: str) -> Iterator[Complete]:
    """`transformers serve` with some more words, for a block."""
    port = find_free_port()
    program = "from transformers.cli.transformers import main; main()"
    command = ["-c", program, "serve", str(model), "--dtype", "float32", "--port", str(port), *words]
    with running_python(command, lambda _: _is_healthy(port) or None):
        yield lambda body: _post(port, body | {"model": str(model)})


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _post(port: int, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status != http.client.OK:
        raise RuntimeError(f"{response.status}: {content[:300].decode('utf-8', 'replace')}")
    answer: dict[str, Any] = json.loads(content)
    return answer


@contextlib.contextmanager
def _llamacpp(model: Path, gguf_path: Path, options: argparse.Namespace) -> Iterator[Complete]:
    """llama.cpp's server with the model as a file of type F32, keys and values in float32, for a block."""
    from orca_bench.models.gguf.gguf_export import export_gguf

    export_gguf(ModelFolder(str(model)), gguf_path, "f32")
    settings = llamacpp_server.LlamaCppSettings(
        min(ModelFolder(str(model)).window_tokens, 1024), options.concurrent, cache_type="f32"
    )
    with llamacpp_server.serve(gguf_path, settings) as server:
        yield lambda body: server.post("/v1/completions", body)


if __name__ == "__main__":
    main()
