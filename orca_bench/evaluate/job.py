"""The whole of one evaluation: check every input, load the model, run task after task, keep what is done.

Requests → answers → score: `protocol.documents` makes the requests, `harness.ask` answers them, `scoring.score` scores the
answers. The three know nothing of one another; here they meet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

from orca_bench import model_folder
from orca_bench import tokenizer as tokenizers
from orca_bench.errors import Interrupted, UserError
from orca_bench.evaluate import encoding, harness, protocols, requests, results, rows, scoring
from orca_bench.evaluate.engine import Engine, NotFinite
from orca_bench.evaluate.model import PORTION_TOKENS, OrcaLM, Watcher, fingerprint, load_engine
from orca_bench.evaluate.store import Store
from orca_bench.evaluate.tasks import Task
from orca_bench.files import make_folder

#: The file, beside the results, that keeps answers as they are computed.
ANSWERS = "answers.sqlite"


@dataclass(frozen=True)
class Order:
    """What is to be evaluated, and how; `outs` gives each protocol its result file, and their order.

    With `fresh`, answers that an earlier evaluation kept are not used.
    """

    model: str
    tasks: Sequence[Task]
    outs: Mapping[str, Path]
    system: str
    benchmarks: Path | None
    limit: int | None
    dtype: str
    fresh: bool = False


class Display(Watcher, Interface):
    """What an evaluation tells while it runs."""

    def say(self, line: str) -> None:
        """A line for the person."""

    def begin(self, task: Task, protocol: str) -> None:
        """A task begins."""

    def end(self, task: Task, summary: dict) -> None:
        """A task is done."""


@dataclass(frozen=True)
class _Loaded:
    """What the protocols of one order share: rows by task, engine, tokenizer, and what a result says of the model."""

    suite: rows.Suite
    rows: Mapping[str, rows.Rows]
    engine: Engine
    tokenizer: object
    model: dict


def evaluate(order: Order, display: Display) -> dict[str, dict]:
    """Run an evaluation and write its results; returns them by protocol.

    The model folder and all rows are checked before the model is loaded. Raises UserError for what is wrong with the input,
    and Interrupted, naming the partial result, where the user stops it.
    """
    loaded = _load(order, display)
    done: dict[str, dict] = {}
    for name, out in order.outs.items():
        try:
            done[name] = _run(order, name, out, loaded, display)
        except Interrupted as stopped:
            before = "".join(f"{other} is in {order.outs[other]}; " for other in done)
            raise Interrupted(f"{before}{stopped}") from None
    return done


def _load(order: Order, display: Display) -> _Loaded:
    model_folder.check(order.model)
    if Path(order.model).is_dir():
        tokenizers.load(order.model)
    suite = rows.suite(order.benchmarks)
    read = {task.name: rows.load(task, order.benchmarks) for task in order.tasks}
    for out in order.outs.values():
        make_folder(out.parent)
    engine, tokenizer = load_engine(order.model, order.dtype)
    disagreement = tokenizers.check_folder(order.model)
    if disagreement is not None:
        display.say(f"{order.model}: {tokenizers.explain(disagreement)}")
    try:
        engine.check()
    except NotFinite:
        raise UserError("the model gives NaN or infinity", where=order.model, hint="its weights are broken") from None
    model = {
        "path": order.model,
        "name": model_name(order.model),
        "fingerprint": fingerprint(engine.model),
        "tokenizer_sha256": tokenizer.fingerprint,
        "tokenizer_note": None if disagreement is None else str(disagreement),
        "parameters": sum(p.numel() for p in engine.model.parameters()),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "device": str(engine.device),
    }
    return _Loaded(suite, read, engine, tokenizer, model)


def _run(order: Order, name: str, out: Path, loaded: _Loaded, display: Display) -> dict:
    """All tasks under one protocol; the result is written after each."""
    protocol = harness.Plain() if name == "plain" else protocols.named(name, order.system)
    rule = encoding.of(name, loaded.tokenizer, model_folder.window(loaded.engine.model.config))
    result = results.start(loaded.suite, protocol, order.limit, loaded.model)
    result["protocol"]["max_length"] = rule.max_length
    store = Store(out.parent / ANSWERS, _identity(loaded, result), order.fresh)
    lm = OrcaLM(loaded.engine, rule, store)
    lm.watcher = display
    questions: list[scoring.Question] = []
    began = time.time()
    try:
        for task in order.tasks:
            entry, scored = _run_task(order, task, protocol, lm, loaded.rows[task.name], result, display)
            questions += scored
            result["complete"] = len(result["tasks"]) == len(order.tasks)
            result["seconds"] = round(time.time() - began, 1)
            results.write(out, result, questions)
            display.end(task, entry)
            if lm.found:
                display.say(f"{task.title}: {lm.found} answers were kept by an earlier run in {store.path}")
    except KeyboardInterrupt:
        done = ", ".join(result["tasks"]) or "no task"
        where = f", kept in {out}" if result["tasks"] else ""
        raise Interrupted(
            f"stopped after {done} of protocol {name}{where}; the same command goes on from there"
        ) from None
    finally:
        store.close()
    return result


def _identity(loaded: _Loaded, result: dict) -> dict:
    """All that answers depend on besides the requests: what differs in any of it never shares an answer."""
    model, engine = loaded.model, loaded.engine
    return {
        **{name: model[name] for name in ("fingerprint", "tokenizer_sha256", "dtype", "device")},
        "protocol": result["protocol"],
        "versions": {name: result["versions"][name] for name in ("torch", "transformers", "orca_bench")},
        "engine": [engine.attention, engine.row_tokens, PORTION_TOKENS],
    }


def _run_task(
    order: Order, task: Task, protocol, lm: OrcaLM, read: rows.Rows, result: dict, display: Display
) -> tuple[dict, list[scoring.Question]]:
    began = time.time()
    lm.encoding.shortened = lm.found = 0
    display.begin(task, protocol.name)
    if protocol.name == "plain":
        outcome = harness.run_plain(lm, task, read, order.limit)
        questions, digest, told = outcome.questions, outcome.requests_sha256, outcome.lm_eval
    else:
        documents = protocol.documents(task, read, order.limit)
        answers, told = harness.ask(lm, task, protocol, documents)
        questions, digest = scoring.score(task, protocol, documents, answers), requests.digest(documents)
    result["lm_eval"][task.name] = told
    entry = results.add(
        result,
        task,
        read,
        protocol,
        questions,
        digest,
        shortened=lm.encoding.shortened,
        seconds=round(time.time() - began, 1),
    )
    return entry, questions


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
