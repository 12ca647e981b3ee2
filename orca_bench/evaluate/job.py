"""The whole of one evaluation: check every input, load the model, run task after task, keep what is done."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

from orca_bench import __version__, model_folder
from orca_bench import tokenizer as tokenizers
from orca_bench.errors import Interrupted
from orca_bench.evaluate import harness, results, rows
from orca_bench.evaluate.model import OrcaLM, fingerprint, load_engine
from orca_bench.evaluate.protocols import Document, Orca
from orca_bench.evaluate.tasks import Task
from orca_bench.files import make_folder

_LIBRARIES = ("lm_eval", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "numpy")


@dataclass(frozen=True)
class Order:
    """What is to be evaluated, and how."""

    model: str
    tasks: Sequence[Task]
    protocol: str
    system: str
    benchmarks: Path | None
    limit: int | None
    dtype: str
    out: Path


class Display(Interface):
    """What an evaluation tells while it runs."""

    def say(self, line: str) -> None:
        """A line for the person."""

    def begin(self, task: Task, requests: int) -> None:
        """A task begins; so many requests are to be answered."""

    def advance(self, count: int) -> None:
        """So many requests were just answered."""

    def end(self, task: Task, summary: dict) -> None:
        """A task is done."""


def evaluate(order: Order, display: Display) -> dict:
    """Run an evaluation and write its result; returns the result.

    The model folder and all rows are checked before the model is loaded. Raises UserError for what is wrong with the input, and
    Interrupted, naming the partial result, where the user stops it.
    """
    model_folder.check(order.model)
    if Path(order.model).is_dir():
        tokenizers.load(order.model)
    suite = rows.suite(order.benchmarks)
    read = {task.name: rows.load(task, order.benchmarks) for task in order.tasks}
    make_folder(order.out.parent)
    engine, tokenizer = load_engine(order.model, order.dtype, None if order.protocol == "plain" else 2048)
    disagreement = tokenizers.check_folder(order.model)
    if disagreement is not None:
        display.say(f"{order.model}: {tokenizers.explain(disagreement)}")
    engine.check()
    lm = OrcaLM(engine, tokenizer, join="whole" if order.protocol == "plain" else "separate")
    lm.advance = lambda kind, count: display.advance(count)
    protocol = harness.Plain() if order.protocol == "plain" else Orca(order.system)
    result = _header(order, suite, protocol, engine, tokenizer, disagreement)
    questions: list[harness.Question] = []
    started = time.time()
    try:
        for task in order.tasks:
            outcome, entry = _run_task(order, task, read[task.name], protocol, lm, display)
            questions += outcome.questions
            result["tasks"][task.name] = entry
            result["lm_eval"][task.name] = outcome.lm_eval
            result["data_hashes"][task.name] = read[task.name].hashes
            result["averages"] = results.averages(result["tasks"])
            result["complete"] = len(result["tasks"]) == len(order.tasks)
            result["seconds"] = round(time.time() - started, 1)
            results.write(order.out, result, questions)
            display.end(task, entry)
    except KeyboardInterrupt:
        done = ", ".join(result["tasks"]) or "no task"
        where = f", kept in {order.out}" if result["tasks"] else ""
        raise Interrupted(f"stopped after {done}{where}") from None
    return result


def _run_task(order: Order, task: Task, read: rows.Rows, protocol, lm: OrcaLM, display: Display):
    started = time.time()
    entry: dict = {}
    if order.protocol == "plain":
        display.begin(task, _plain_requests(task, read, order.limit))
        outcome = harness.run_plain(lm, task, read, order.limit)
    else:
        documents = protocol.documents(task, read, order.limit)
        display.begin(task, sum(len(d.requests) for d in documents))
        entry["requests_sha256"] = requests_hash(documents)
        outcome = harness.run_protocol(lm, task, protocol, documents)
    entry = results.summarize(task, outcome.questions) | entry
    entry |= {"rows": len(read.asked), "shortened": lm.take_shortened(), "seconds": round(time.time() - started, 1)}
    return outcome, entry


def requests_hash(documents: Sequence[Document]) -> str:
    """A SHA-256 over every string that is sent, in order."""
    digest = hashlib.sha256()
    for document in documents:
        for request in document.requests:
            sent = [request.context, request.continuation, list(request.until)]
            digest.update(json.dumps(sent, ensure_ascii=False).encode())
    return digest.hexdigest()


def _plain_requests(task: Task, read: rows.Rows, limit: int | None) -> int:
    """How many requests lm-eval will make; two a question where a metric wants the choice without context too."""
    parts = list(harness.parts(task, read, "{subject}"))
    asked = [row for _, _, part, _ in parts for row in part[:limit]]
    return sum(1 if task.generates else len(task.pairs(row)) for row in asked)


def _header(order: Order, suite: rows.Suite, protocol, engine, tokenizer, disagreement) -> dict:
    model = engine.model
    return {
        "format": results.FORMAT,
        "complete": False,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "suite": {"name": suite.name, "comparable": suite.comparable, "note": suite.note},
        "protocol": protocol.describe() | {"max_length": engine.max_length},
        "limit": order.limit,
        "model": {
            "path": order.model,
            "name": model_name(order.model),
            "fingerprint": fingerprint(model),
            "tokenizer_sha256": tokenizer.fingerprint,
            "tokenizer_note": None if disagreement is None else str(disagreement),
            "parameters": sum(p.numel() for p in model.parameters()),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(engine.device),
        },
        "tasks": {},
        "averages": {},
        "data_hashes": {},
        "versions": {
            "orca_bench": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        "lm_eval": {},
    }


def model_name(path: str) -> str:
    """A name for a model folder: its run's name where it is runs/NAME/model, else the folder's."""
    folder = Path(path).resolve()
    return folder.parent.name if folder.name == "model" else (folder.name if Path(path).is_dir() else path)


def default_out(model: str, runs: Path, protocol: str, limit: int | None) -> Path:
    """Where a result goes unless said otherwise: into the model's run, or into a folder under `runs` named after it."""
    folder = Path(model).resolve()
    in_run = folder.name == "model" and (folder.parent / "manifest.json").is_file()
    home = Path(model).parent if in_run else runs / model_name(model).replace("/", "--")
    name = protocol if limit is None else f"{protocol}-limit{limit}"
    return home / "results" / f"{name}.json"
