"""Score real requests in process, by lm_eval's own client over `orca-bench serve`, and by `eval --engine api`: serve-scores.md.

    python tests/benchmarks/serve_scores.py --benchmarks DIR                       # some 5,000 requests at 15M parameters
    python tests/benchmarks/serve_scores.py --benchmarks DIR --size 135m --fraction 0.03 --out serve-scores-135m.md
    python tests/benchmarks/serve_scores.py --benchmarks mini: --model FOLDER --fraction 0.02 --new-tokens 8

All ways answer lm-eval's own prompts (protocol plain) of the same questions with the suite's few-shot examples, in float32. They
are compared request by request. lm_eval's client `local-completions` runs under lm-eval's evaluator, encodes texts by itself and
sends token ids. It keeps a token of the window free, so that a request that fills the window is cut otherwise than in process:
such requests are counted and not compared. The exit code is 1 where the ways differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bench_evaluation import SHAPES, make_model_of_size
from bench_records import conditions, load_sentence, write_record
from serve_process import ServerProcess, serve_process

from orca_bench import library_settings
from orca_bench.files import file_sha256
from orca_bench.train.run_folder import checkout_revision

#: Questions of each task, of MMLU of each subject: some 5,000 requests.
QUESTIONS = {
    "arc_challenge": 160,
    "hellaswag": 160,
    "mmlu": 10,
    "truthful_qa": 110,
    "winogrande": 280,
    "gsm8k": 40,
    "drop": 40,
}
_MAX_DIFFERENCE = 1e-4  # nats, of one request
_CACHE_TOKENS = 2**17
_IN_PROCESS, _LM_EVAL, _API = "in process", "lm_eval local-completions", "eval --engine api"


@dataclass(frozen=True)
class Sample:
    """One question: the (context, continuation) or context of each request, its responses, and lm-eval's scores by metric."""

    requests: list[tuple[str, ...]]
    responses: list[tuple[float, bool] | str]
    scores: dict[str, float]

    @property
    def prediction(self) -> int | None:
        """The likeliest choice; None where there is none to choose."""
        values = [response[0] for response in self.responses if not isinstance(response, str)]
        return max(range(len(values)), key=values.__getitem__) if len(values) > 1 else None


#: Samples by lm-eval's name of the task and the number of the question.
Samples = dict[tuple[str, int], Sample]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared_data = ROOT.parent / "shared" / "data"
    parser.add_argument("--benchmarks", default=str(shared_data / "benchmarks"), help="folder of rows, or mini:")
    parser.add_argument("--tokenizer", type=Path, default=shared_data / "tokenizer" / "tokenizer.model")
    parser.add_argument("--size", default="15m", choices=[*SHAPES, "135m"])
    parser.add_argument("--model", type=Path, help="score with this model folder; --size only names it")
    parser.add_argument("--tasks", default=",".join(QUESTIONS))
    parser.add_argument("--api-tasks", help="those of the tasks that eval --engine api answers too; default: all")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the questions of each task, at least one")
    parser.add_argument("--new-tokens", type=int, default=256, help="the most of a text")
    parser.add_argument("--concurrent", type=int, default=16, help="requests at a time")
    parser.add_argument("--work", type=Path, help="folder of results; what is there is not computed again")
    parser.add_argument("--out", type=Path, help="default: results/bench/serve-scores.md, or serve-scores-SIZE.md")
    options = parser.parse_args()
    options.tasks = options.tasks.split(",")
    options.api_tasks = options.api_tasks.split(",") if options.api_tasks else options.tasks
    for option, known_names in (("tasks", list(QUESTIONS)), ("api_tasks", options.tasks)):
        for name in getattr(options, option):
            if name not in known_names:
                parser.error(f"argument --{option.replace('_', '-')}: {name!r} is not one of {', '.join(known_names)}")
    os.environ.setdefault("TQDM_DISABLE", "1")  # lm_eval's client draws a bar for every task
    load_before, start = os.getloadavg()[0], time.monotonic()
    library_settings.prepare_libraries()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make_model_of_size(Path(folder) / options.size, options.size, options.tokenizer)
        work = (options.work or Path(folder) / "work") / _answers_name(model, options.new_tokens)
        lines, faults = run(options, model.resolve(), work)
    name = "serve-scores.md" if options.size == "15m" else f"serve-scores-{options.size}.md"
    minutes = (time.monotonic() - start) / 60
    heading = f"# Scores over `orca-bench serve` beside those in process, {options.size}"
    first_lines = [heading, "", f"{conditions()}; {minutes:.0f} minutes. {load_sentence(load_before)}", ""]
    write_record(options.out or ROOT / "results" / "bench" / name, [*first_lines, *lines])
    for fault in faults:
        print(f"differs: {fault}")
    sys.exit(bool(faults))


def _answers_name(model: Path, new_tokens: int) -> str:
    """A name of its own for the answers of each revision, model and length of texts: others are not taken for these."""
    weights = [file_sha256(file) for file in sorted(model.glob("*.safetensors"))]
    return hashlib.sha256(repr((checkout_revision(), weights, new_tokens)).encode()).hexdigest()[:16]


def run(options: argparse.Namespace, model: Path, work: Path) -> tuple[list[str], list[str]]:
    """The record as Markdown, and what differs."""
    limits = {task: max(1, round(QUESTIONS[task] * options.fraction)) for task in options.tasks}
    tasks_by_way = {_LM_EVAL: options.tasks, _API: options.api_tasks}
    api_limits = {task: limits[task] for task in tasks_by_way[_API]}
    samples_by_way = {_IN_PROCESS: evaluate(options, model, limits, work / "here")}
    seconds_by_way = {}
    # Keys and values of this many tokens are a small part of the memory, and more than a task's few-shot examples take.
    with serve_process(model, "--dtype", "float32", "--cache-tokens", str(_CACHE_TOKENS)) as server:
        for way, score in (
            (_LM_EVAL, lambda: evaluate_by_lm_eval(options, model, limits, work / "lm_eval", server)),
            (_API, lambda: evaluate(options, model, api_limits, work / "api", server)),
        ):
            start, before = time.monotonic(), server.metrics()
            samples_by_way[way] = score()
            after = server.metrics()
            cached = after["cached_prompt_tokens_total"] - before["cached_prompt_tokens_total"]
            share = cached / max(1, after["prompt_tokens_total"] - before["prompt_tokens_total"])
            seconds_by_way[way] = (
                f"{way} {(time.monotonic() - start) / 60:.1f} minutes, {share:.0%} of the prompts' tokens cached"
            )
            print(seconds_by_way[way], flush=True)
        log = server.log
    here = samples_by_way[_IN_PROCESS]
    cut_requests = requests_that_are_cut(model, here, options.new_tokens)
    request_count = sum(len(sample.requests) for sample in here.values())
    lines = [
        f"{request_count:,} requests of {len(here):,} questions, lm-eval's prompts with the suite's few-shot examples; "
        f"{options.concurrent} at a time over the server. {'; '.join(seconds_by_way.values())}.",
        "",
        f"{len(cut_requests)} requests do not fit the window beside the token that the client keeps free, and are not compared.",
        "",
        "Δ: of the log-probability of one request, in nats, beside that in process. Greedy: whether greedy decoding gives the "
        "continuation. A prediction is the likeliest choice.",
        "",
        "| way | task | scored requests | largest Δ | mean Δ | greedy otherwise | predictions changed | scores changed "
        "| texts | texts that differ |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    faults = ["the server wrote: " + log[-300:]] if "Traceback" in log else []
    for way in (_LM_EVAL, _API):
        for task in (*tasks_by_way[way], "all"):
            names = [_names(name) for name in (tasks_by_way[way] if task == "all" else [task])]
            comparison = compare(here, samples_by_way[way], tuple(names), cut_requests)
            lines.append(f"| {way} | {task} | {comparison.row()} |")
            if task != "all":
                faults += [f"{way}, {fault}" for fault in comparison.faults]
    return [*lines, ""], faults


# --- the ways ----------------------------------------------------------------------------------------------------------


def evaluate(
    options: argparse.Namespace,
    model: Path,
    limits: Mapping[str, int],
    folder: Path,
    server: ServerProcess | None = None,
) -> Samples:
    """The samples of `orca-bench eval --protocol plain`, in process or over a server."""
    words = ["eval", "--model", str(model), "--protocol", "plain", "--tasks", ",".join(limits)]
    words += ["--benchmarks", options.benchmarks, "--out", str(folder / "result.json"), "--log-samples", str(folder)]
    words += ["--fresh"] if options.work is None else []
    for task, limit in limits.items():
        words += ["--limit", f"{task}={limit}"]
    words += [
        word for task in _TEXT_TASKS & limits.keys() for word in ("--max-new-tokens", f"{task}={options.new_tokens}")
    ]
    if server is None:
        words += ["--dtype", "float32"]
    else:
        words += ["--engine", "api", "--base-url", f"{server.url}/v1", "--concurrency", str(options.concurrent)]
    process = subprocess.run(
        [sys.executable, "-m", "orca_bench", *words],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    if process.returncode:
        sys.exit(f"error: orca-bench {' '.join(words)} ended with {process.returncode}")
    samples: Samples = {}
    for file in sorted(folder.rglob("samples_*.jsonl")):  # of several runs the last counts
        name = file.name.removeprefix("samples_").rpartition("_")[0]
        add_samples(samples, name, map(json.loads, file.read_text(encoding="utf-8").splitlines()))
    return samples


def evaluate_by_lm_eval(
    options: argparse.Namespace, model: Path, limits: Mapping[str, int], folder: Path, server: ServerProcess
) -> Samples:
    """The samples of lm-eval's evaluator with its own client `local-completions`; those of each task are stored."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from orca_bench.evaluate import benchmark_rows
    from orca_bench.evaluate.harness import plain_protocol
    from orca_bench.evaluate.harness.lm_eval_run import evaluate_tasks
    from orca_bench.evaluate.tasks import select
    from orca_bench.models.model_folder import ModelFolder

    client = LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions",
        model=server.model_name,
        tokenizer=str(model),
        tokenizer_backend="huggingface",
        max_length=ModelFolder(str(model)).window_tokens,
        max_gen_toks=options.new_tokens,
        num_concurrent=options.concurrent,
        add_bos_token=bool(ModelFolder(str(model)).tokenizer.prefix),
        max_retries=1,
        timeout=3600,
    )
    samples: Samples = {}
    for task in select(",".join(limits)):
        file = folder / f"{task.name}-{limits[task.name]}.json"
        if file.is_file():
            samples |= read_samples(file)
            continue
        rows = benchmark_rows.load_task_rows(task, benchmarks_folder(options.benchmarks))
        parts = list(plain_protocol.harness_parts(task, rows))
        harness_tasks = plain_protocol.load_harness_tasks(task, parts)
        for harness_task in harness_tasks:
            if harness_task.OUTPUT_TYPE == "generate_until":
                harness_task.set_config("generation_kwargs", {"max_gen_toks": options.new_tokens}, update=True)
        result = evaluate_tasks(client, harness_tasks, limits[task.name], should_log_samples=True)
        task_samples: Samples = {}
        for name, harness_samples in result["samples"].items():
            add_samples(task_samples, name, harness_samples)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([[*key, *vars(sample).values()] for key, sample in task_samples.items()]))
        samples |= read_samples(file)
        print(f"{task.title}: answered for lm_eval's client", flush=True)
    return samples


def read_samples(file: Path) -> Samples:
    """The samples of a task that an earlier run has stored."""
    return {
        (name, index): Sample(
            [tuple(texts) for texts in requests],
            [response if isinstance(response, str) else (response[0], response[1]) for response in responses],
            scores,
        )
        for name, index, requests, responses, scores in json.loads(file.read_text())
    }


def benchmarks_folder(benchmarks: str) -> Path:
    """The folder of rows; that of the mini suite is written first."""
    from orca_bench.mini import materialize

    if benchmarks != "mini:":
        return Path(benchmarks)
    return materialize(Path(tempfile.mkdtemp()))["mini:benchmarks"]


def add_samples(samples: Samples, name: str, harness_samples: Iterable[Mapping[str, Any]]) -> None:
    """Add the samples of a task of lm-eval as its evaluator or its files have them; a file has texts for numbers."""
    for sample in harness_samples:
        arguments = sample["arguments"]
        arguments = (
            [list(by_name.values()) for by_name in arguments.values()] if isinstance(arguments, dict) else arguments
        )
        requests = [tuple(text for text in request if isinstance(text, str)) for request in arguments]
        responses = [_response(responses[0]) for responses in sample["resps"]]
        scores = {f"{metric} {sample['filter']}": _score(sample[metric]) for metric in sample["metrics"]}
        sample_of_other_filter = samples.get((name, sample["doc_id"]))
        if sample_of_other_filter is not None and sample_of_other_filter.requests == requests:  # of another filter
            scores = sample_of_other_filter.scores | scores
        samples[name, sample["doc_id"]] = Sample(requests, responses, scores)


def _response(response: Any) -> tuple[float, bool] | str:
    if isinstance(response, str):
        return response
    log_probability, is_greedy = response
    return float(log_probability), str(is_greedy) == "True"


def _score(value: Any) -> float:
    return float(value) if isinstance(value, int | float | str) else math.nan


# --- the comparison ----------------------------------------------------------------------------------------------------

_TEXT_TASKS = {"gsm8k", "drop"}


@dataclass
class Comparison:
    """What two ways have in common; `faults` says what differs more than it may."""

    differences: list[float]
    greedy_count: int
    prediction_count: int
    score_count: int
    text_count: int
    other_text_count: int
    faults: list[str]

    def row(self) -> str:
        """The cells of the record."""
        cells = ["—", "—"]
        if self.differences:
            cells = [f"{max(self.differences):.1e}", f"{sum(self.differences) / len(self.differences):.1e}"]
        return (
            f"{len(self.differences):,} | {' | '.join(cells)} | {self.greedy_count} | {self.prediction_count} "
            f"| {self.score_count} | {self.text_count} | {self.other_text_count}"
        )


def compare(
    here: Samples, there: Samples, name_starts: tuple[str, ...], cut_requests: set[tuple[str, int, int]]
) -> Comparison:
    """Compare the samples of tasks whose names begin with one of `name_starts`."""
    comparison = Comparison([], 0, 0, 0, 0, 0, [])
    keys = [key for key in here if key[0].startswith(name_starts)]
    missing = [key for key in keys if key not in there]
    if missing:
        comparison.faults.append(f"{len(missing)} questions were not answered, {missing[0]} the first")
    for key in keys:
        if key in there:
            _compare_samples(comparison, key, here[key], there[key], cut_requests)
    return comparison


def _compare_samples(
    comparison: Comparison, key: tuple[str, int], ours: Sample, other: Sample, cut_requests: set[tuple[str, int, int]]
) -> None:
    place = f"{key[0]} question {key[1]}"
    if ours.requests != other.requests:
        comparison.faults.append(f"{place}: other requests")
        return
    is_cut = [(*key, index) in cut_requests for index in range(len(ours.requests))]
    for index, (one, two) in enumerate(zip(ours.responses, other.responses, strict=True)):
        if is_cut[index]:
            continue
        if isinstance(one, str) or isinstance(two, str):
            comparison.text_count += 1
            if str(one).strip() != str(two).strip():
                comparison.other_text_count += 1
                comparison.faults.append(f"{place}: {str(one)[:200]!r} and {str(two)[:200]!r}")
            continue
        difference = abs(one[0] - two[0])
        comparison.differences.append(difference)
        if not difference <= _MAX_DIFFERENCE:
            comparison.faults.append(f"{place} request {index}: {one[0]} and {two[0]}")
        if one[1] != two[1]:
            comparison.greedy_count += 1
            comparison.faults.append(f"{place} request {index}: greedy {one[1]} and {two[1]}")
    if any(is_cut):
        return
    if ours.prediction != other.prediction:
        comparison.prediction_count += 1
        comparison.faults.append(f"{place}: predicted {ours.prediction} and {other.prediction}")
    if any(abs(ours.scores[metric] - other.scores.get(metric, math.nan)) > _MAX_DIFFERENCE for metric in ours.scores):
        comparison.score_count += 1
        comparison.faults.append(f"{place}: scores {ours.scores} and {other.scores}")


def requests_that_are_cut(model: Path, samples: Samples, new_tokens: int) -> set[tuple[str, int, int]]:
    """(task, question, request) of those that have no place in the window beside their new tokens and one more."""
    from orca_bench.models.model_folder import ModelFolder

    folder = ModelFolder(str(model))
    return {
        (*key, index)
        for key, sample in samples.items()
        for index, texts in enumerate(sample.requests)
        if len(folder.tokenizer.encode("".join(texts))) + len(folder.tokenizer.prefix)
        > folder.window_tokens - 1 - (new_tokens if len(texts) == 1 else 0)
    }


def _names(task: str) -> str:
    """How lm-eval's names of a task of the suite begin."""
    return {"truthful_qa": "truthfulqa"}.get(task, task)


if __name__ == "__main__":
    main()
