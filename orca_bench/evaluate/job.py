"""The whole of one evaluation: check every input, load the model, run task after task, keep what is done.

Requests → answers → score: `protocol.documents` makes the requests, `harness.ask` answers them, `scoring.score` scores the
answers. The three know nothing of one another; here they meet.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

from orca_bench import libraries, tokenizers
from orca_bench.errors import Interrupted
from orca_bench.evaluate import encoding, engines, harness, merge, protocols, requests, results, rows, scoring
from orca_bench.evaluate import team as teams
from orca_bench.evaluate.model import OrcaLM, Watcher
from orca_bench.evaluate.store import Store
from orca_bench.evaluate.tasks import Task
from orca_bench.evaluate.team import Alone, Team
from orca_bench.files import make_folder
from orca_bench.models import folder as model_folder

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
    engine: engines.Choice = engines.Choice()


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
    """What the protocols of one order share: rows by task, and the engine."""

    suite: rows.Suite
    rows: Mapping[str, rows.Rows]
    ready: engines.Ready
    team: Alone | Team


class _Silent:
    """The display of a helper."""

    say = begin = end = plan = advance = lambda self, *_: None


def evaluate(order: Order, display: Display) -> dict[str, dict]:
    """Run an evaluation and write its results; returns them by protocol, and nothing in a launcher's other processes.

    The model folder and all rows are checked before the model is loaded. Raises UserError for what is wrong with the input,
    and Interrupted, naming the partial result, where the user stops it.
    """
    suite, read = _read(order)
    if teams.launched():
        team = teams.from_environment()
        if not team.first:
            assist(order, team)
            return {}
        started = contextlib.nullcontext(team)
    else:
        started = teams.helpers(order.engine.processes, order)
    with started as team, _ready(order, team, display) as ready:
        team.say = display.say
        loaded = _Loaded(suite, read, ready, team)
        done: dict[str, dict] = {}
        for name, out in order.outs.items():
            try:
                done[name] = _run(order, name, out, loaded, display)
            except Interrupted as stopped:
                before = "".join(f"{other} is in {order.outs[other]}; " for other in done)
                raise Interrupted(f"{before}{stopped}") from None
    return done


def assist(order: Order, team: Team) -> None:
    """Do a helper's part of an evaluation: its share of the answers. What is wrong with the input the first process says."""
    suite, read = _read(order)
    with _ready(order, team, _Silent()) as ready:
        for name in order.outs:
            _run(order, name, None, _Loaded(suite, read, ready, team), _Silent())


def _read(order: Order) -> tuple[rows.Suite, dict[str, rows.Rows]]:
    """All rows, with every input checked that can be without loading the model."""
    if order.engine.name == "hf":
        model_folder.check(order.model)
    if Path(order.model).is_dir():
        tokenizers.load(order.model)
    suite = rows.suite(order.benchmarks)
    read = {task.name: rows.load(task, order.benchmarks) for task in order.tasks}
    for out in order.outs.values():
        merge.check(out)
        make_folder(out.parent)
    return suite, read


@contextlib.contextmanager
def _ready(order: Order, team: Alone | Team, display: Display) -> Iterator[engines.Ready]:
    libraries.share_processor(team.size)
    with engines.ready(order.engine, order.model, model_name(order.model), order.dtype, display.say) as ready:
        disagreement = tokenizers.check_folder(order.model)
        if disagreement is not None:
            display.say(f"{order.model}: {tokenizers.explain(disagreement)}")
        ready.model.update(model_folder.origin(order.model))
        ready.model["tokenizer_note"] = None if disagreement is None else str(disagreement)
        yield ready


def _run(order: Order, name: str, out: Path | None, loaded: _Loaded, display: Display) -> dict:
    """All tasks under one protocol; the result is written after each, to nowhere in a helper."""
    protocol = harness.Plain() if name == "plain" else protocols.named(name, order.system)
    ready = loaded.ready
    rule = encoding.of(name, ready.tokenizer, ready.window)
    result = results.start(loaded.suite, protocol, order.limit, ready.model)
    result["protocol"]["max_length"] = rule.max_length
    store = None if out is None else Store(out.parent / ANSWERS, _identity(ready, result), order.fresh, ready.probe)
    if store is not None and store.note:
        display.say(store.note)
    lm = OrcaLM(ready.engine, rule, store, loaded.team)
    lm.watcher = display
    if out is not None:
        output = merge.Output(out, result, {task.name: loaded.rows[task.name].hashes for task in order.tasks})
        for note in output.notes:
            display.say(note)
    questions: list[scoring.Question] = []
    try:
        for task in order.tasks:
            entry, scored = _run_task(order, task, protocol, lm, loaded.rows[task.name], result, display)
            if out is None:
                continue
            questions += scored
            output.write(result, questions)
            display.end(task, entry)
            if lm.found:
                display.say(f"{task.title}: {lm.found} answers were kept by an earlier run in {store.path}")
    except KeyboardInterrupt:
        done = ", ".join(task.name for task in order.tasks if task.name in result["tasks"])
        where = f", kept in {out}" if done else ""
        raise Interrupted(
            f"stopped after {done or 'no task'} of protocol {name}{where}; the same command goes on from there"
        ) from None
    finally:
        if store is not None:
            store.close()
    return result


def _identity(ready: engines.Ready, result: dict) -> dict:
    """All that answers depend on besides the requests: what differs in any of it never shares an answer."""
    return ready.identity | {
        "protocol": result["protocol"],
        "versions": {name: result["versions"][name] for name in ("torch", "transformers", "orca_bench")},
    }


def _run_task(
    order: Order, task: Task, protocol, lm: OrcaLM, read: rows.Rows, result: dict, display: Display
) -> tuple[dict, list[scoring.Question]]:
    began = time.time()
    lm.begin()
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
        tokens_sha256=lm.tokens_sha256,
        shortened=lm.encoding.shortened,
        seconds=round(time.time() - began, 1),
    )
    return entry, questions


def model_name(path: str) -> str:
    """A name for a model folder: NAME for runs/NAME/model, NAME-step-N for runs/NAME/exports/step-N, else the folder's own."""
    folder, run = Path(path).resolve(), _run_of(path)
    if run is not None and folder.parent != run:
        return f"{run.name}-{folder.name}"
    return folder.parent.name if folder.name == "model" else (folder.name if Path(path).is_dir() else path)


def default_out(model: str, runs: Path, protocol: str, limit: int | None, system: str) -> Path:
    """Where a result goes unless said otherwise: into the model's run, or into a folder under `runs` named after it."""
    name, run = merge.stem(protocol, limit, system), _run_of(model)
    if run is None:
        return runs / model_name(model).replace("/", "--") / "results" / f"{name}.json"
    folder = Path(model).resolve()
    results = Path(os.path.relpath(run)) / "results"
    return (results if folder.parent == run else results / folder.name) / f"{name}.json"


def _run_of(model: str) -> Path | None:
    """The run whose model, or one of whose exports, a folder is."""
    folder = Path(model).resolve()
    run = folder.parent if folder.name == "model" else folder.parents[1] if folder.parent.name == "exports" else None
    return run if run is not None and (run / "manifest.json").is_file() else None
