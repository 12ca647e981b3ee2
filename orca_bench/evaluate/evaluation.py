"""The whole of one evaluation: check every input, load the model, run task after task, keep what is done.

Requests → answers → score: `protocol.documents` makes the requests, `harness.ask` answers them, `scoring.score` scores the
answers. The three know nothing of one another; here they meet.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

from orca_bench import launcher_environment, library_settings, tokenizers
from orca_bench.errors import Interrupted, OutOfTime, UserError
from orca_bench.evaluate import (
    benchmark_rows,
    engine_choice,
    protocols,
    request_encoding,
    request_files,
    result_building,
    result_merging,
    scoring,
)
from orca_bench.evaluate.answers import work_sharing
from orca_bench.evaluate.answers.answer_cache import AnswerCache
from orca_bench.evaluate.answers.work_sharing import Connection, WorkerPool
from orca_bench.evaluate.answers.workload import Workload
from orca_bench.evaluate.harness import harness_run
from orca_bench.evaluate.harness.language_model import HarnessModel, Watcher, compute
from orca_bench.evaluate.tasks import Task
from orca_bench.files import make_folder
from orca_bench.models import model_folder, model_names, weights
from orca_bench.models.model_folder import Source

#: The file, beside the results, that keeps answers as they are computed.
ANSWERS = "answers.sqlite"


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how; `result_paths` gives each protocol its result file, in the order in which they run.

    `name` is what results call the model. `benchmarks_revisions` are those of the hub's data sets, by task.
    With `fresh`, answers that an earlier evaluation kept are not used. After `max_seconds` nothing more is begun.
    `max_new_tokens` gives tasks another limit for their answers than the protocol's own, tokens.
    """

    model: Source
    name: str
    tasks: Sequence[Task]
    result_paths: Mapping[str, Path]
    system: str
    benchmarks: Path | None
    limit: int | None
    dtype: str
    fresh: bool = False
    engine: engine_choice.EngineConfig = engine_choice.EngineConfig()
    max_seconds: float | None = None
    benchmarks_revisions: Mapping[str, str] = field(default_factory=dict)
    max_new_tokens: Mapping[str, int] = field(default_factory=dict)


class Display(Watcher, Interface):
    """What an evaluation tells while it runs."""

    def message(self, line: str) -> None:
        """A line for the person."""

    def count(self, task: Task, protocol: str) -> None:
        """The requests of a task are being counted."""

    def expect(self, workload: Workload) -> None:
        """So much is to be computed in all."""

    def begin(self, task: Task, protocol: str) -> None:
        """A task begins."""

    def end(self, task: Task, summary: dict) -> None:
        """A task is done."""


@dataclass(frozen=True)
class _Loaded:
    """What the protocols of one evaluation share: rows by task, and the engine."""

    suite: benchmark_rows.Suite
    rows: Mapping[str, benchmark_rows.BenchmarkRows]
    ready: engine_choice.LoadedEngine
    workers: WorkerPool


@dataclass(frozen=True)
class _Session:
    """One protocol of an evaluation: its result so far, and the model as it answers under it."""

    protocol: protocols.Protocol
    result: dict
    output: result_merging.Output
    store: AnswerCache
    lm: HarnessModel


class SilentDisplay:
    """A display that shows nothing."""

    message = count = expect = begin = end = plan = advance = skip = lambda self, *_: None


def evaluate(config: EvaluationConfig, display: Display) -> dict[str, dict]:
    """Run an evaluation and write its results; returns them by protocol, and nothing in a launcher's other processes.

    The model folder and all rows are checked before the model is loaded. Raises UserError for what is wrong with the input,
    and Interrupted, naming the partial result, where the user or the time limit stops it.
    """
    deadline = None if config.max_seconds is None else time.monotonic() + config.max_seconds
    if launcher_environment.has_other_processes():
        with work_sharing.launched_workers() as (workers, connection, size):
            if workers is None:
                run_helper(config, connection, size)
                return {}
            return _lead(config, workers, deadline, display)
    suite_and_rows = _read(config)  # before helpers are started for nothing
    with work_sharing.start_workers(config.engine.processes, functools.partial(run_helper, config)) as workers:
        return _lead(config, workers, deadline, display, suite_and_rows)


def _lead(
    config: EvaluationConfig, workers: WorkerPool, deadline: float | None, display: Display, read=None
) -> dict[str, dict]:
    """The first process's part: count, answer, score, write."""
    suite, read_rows = read or _read(config)
    with _ready(config, workers.size, display) as ready, contextlib.ExitStack() as stack:
        workers.message = display.message
        if deadline is not None:
            workers.expired = lambda: time.monotonic() > deadline
        _check_rooms(config, ready)
        loaded = _Loaded(suite, read_rows, ready, workers)
        sessions = {name: stack.enter_context(_session(config, name, loaded, display)) for name in config.result_paths}
        display.expect(_count(config, sessions.values(), loaded, display))
        done: dict[str, dict] = {}
        for name, session in sessions.items():
            try:
                done[name] = _run(config, session, loaded, display)
            except Interrupted as stopped:
                before = "".join(f"{other} is in {config.result_paths[other]}; " for other in done)
                raise Interrupted(f"{before}{stopped}") from None
    return done


def run_helper(config: EvaluationConfig, connection: Connection, size: int) -> None:
    """Be one of `size` processes that answer: do what the first one sends. It also says what is wrong with the input."""
    with work_sharing.replying_errors(connection), _ready(config, size, SilentDisplay()) as ready:
        rules = {name: request_encoding.of(name, ready.tokenizer, ready.window) for name in config.result_paths}
        work_sharing.answer(connection, lambda item: compute(ready.engine, rules, item))


def _read(config: EvaluationConfig) -> tuple[benchmark_rows.Suite, dict[str, benchmark_rows.BenchmarkRows]]:
    """All rows, with every input checked that can be without loading the model."""
    if config.engine.name == "hf":
        model_folder.check(config.model.folder)
    tokenizers.load(config.model.folder)
    suite = benchmark_rows.suite(config.benchmarks)
    read = {
        task.name: benchmark_rows.load(task, config.benchmarks, config.benchmarks_revisions.get(task.name))
        for task in config.tasks
    }
    for out in config.result_paths.values():
        result_merging.check(out)
        make_folder(out.parent)
    return suite, read


@contextlib.contextmanager
def _ready(config: EvaluationConfig, processes: int, display: Display) -> Iterator[engine_choice.LoadedEngine]:
    library_settings.share_processor(processes)
    scores = any(not task.generates for task in config.tasks)
    folder = config.model.folder
    with engine_choice.open_engine(config.engine, folder, config.name, config.dtype, display.message, scores) as ready:
        disagreement = tokenizers.check_folder(folder)
        if disagreement is not None:
            display.message(f"{config.name}: {tokenizers.explain(disagreement)}")
        ready.model.update(config.model.describe() | model_folder.origin(folder))
        ready.model["tokenizer_note"] = None if disagreement is None else str(disagreement)
        yield ready


def _protocol(config: EvaluationConfig, name: str) -> protocols.Protocol:
    return (
        harness_run.Plain(config.max_new_tokens)
        if name == "plain"
        else protocols.named(name, config.system, config.max_new_tokens)
    )


def _check_rooms(config: EvaluationConfig, ready: engine_choice.LoadedEngine) -> None:
    """Raise UserError where the model's context window has no place for a task's answers, before anything is asked."""
    for name in config.result_paths:
        rule, max_new_tokens = (
            request_encoding.of(name, ready.tokenizer, ready.window),
            _protocol(config, name).max_new_tokens,
        )
        for task in config.tasks:
            if task.generates:
                rule.check_max_new_tokens(max_new_tokens[task.name], where=f"{task.title} under protocol {name}")


@contextlib.contextmanager
def _session(config: EvaluationConfig, name: str, loaded: _Loaded, display: Display) -> Iterator[_Session]:
    protocol = _protocol(config, name)
    ready = loaded.ready
    rule = request_encoding.of(name, ready.tokenizer, ready.window)
    if ready.longest_pair is not None:
        rule.limit_pair_length(ready.longest_pair)
    model = ready.model | {"warnings": _model_warnings(config, name, display)}
    result = result_building.start(loaded.suite, protocol, config.limit, model)
    result["protocol"]["max_length"] = rule.max_length
    store = AnswerCache(config.result_paths[name].parent / ANSWERS, _identity(ready, result), config.fresh, ready.probe)
    if store.note:
        display.message(store.note)
    lm = HarnessModel(ready.engine, rule, store, loaded.workers, name)
    lm.watcher = display
    try:
        output = result_merging.Output(
            config.result_paths[name], result, {task.name: loaded.rows[task.name].hashes for task in config.tasks}
        )
        for note in output.notes:
            display.message(note)
        yield _Session(protocol, result, output, store, lm)
    finally:
        store.close()


def _count(config: EvaluationConfig, sessions: Iterable[_Session], loaded: _Loaded, display: Display) -> Workload:
    """Encode all requests that can be known, so that what is wrong with one is said now, and count what they take."""
    workload = Workload()
    for session in sessions:
        if session.protocol.name == "plain":
            workload.uncounted.append("plain")
            continue
        for task in config.tasks:
            display.count(task, session.protocol.name)
            documents = session.protocol.documents(task, loaded.rows[task.name], config.limit)
            call = harness_run.prepare(session.lm, task, session.protocol, documents)
            if call.discards and not loaded.ready.returns_tokens:
                raise UserError(
                    f"{task.title} under {session.protocol.name} throws the first tokens of some texts away, and the server "
                    "does not tell the tokens of a text",
                    where=config.engine.name,
                    hint="the server must know `logprobs`, or choose another protocol",
                )
            workload.total[call.kind] += call.tokens
            workload.kept[call.kind] += session.lm.kept_tokens(call)
    return workload


def _run(config: EvaluationConfig, session: _Session, loaded: _Loaded, display: Display) -> dict:
    """All tasks under one protocol; the result is written after each."""
    name, result, lm = session.protocol.name, session.result, session.lm
    questions: list[scoring.Question] = []
    try:
        for task in config.tasks:
            entry, scored = _run_task(config, task, session, loaded.rows[task.name], display)
            questions += scored
            session.output.write(result, questions)
            display.end(task, entry)
            if lm.cached_answers:
                display.message(
                    f"{task.title}: {lm.cached_answers} answers were kept by an earlier run in {session.store.path}"
                )
    except (KeyboardInterrupt, OutOfTime) as reason:
        done = ", ".join(task.name for task in config.tasks if task.name in result["tasks"])
        where = f", kept in {config.result_paths[name]}" if done else ""
        by = " by --max-time" if isinstance(reason, OutOfTime) else ""
        raise Interrupted(
            f"stopped{by} after {done or 'no task'} of protocol {name}{where}; the same command goes on from there"
        ) from None
    return result


def _model_warnings(config: EvaluationConfig, protocol: str, display: Display) -> list[str]:
    """What a reader of a result should know of the model, said before it is asked."""
    warnings = []
    if config.engine.name != "api" and (unused := weights.check(config.model.folder)):
        more = ", …" if len(unused) > 3 else ""
        warnings.append(f"the model has no place for some weights of its folder: {', '.join(unused[:3])}{more}")
    if protocol == "orca" and model_folder.has_own_prompt(config.model.folder):
        warnings.append(
            "the model has a chat template of its own: it was not tuned in the Orca prompt, in which it is asked"
        )
    for warning in warnings:
        display.message(f"{config.name}: {warning}")
    return warnings


def _identity(ready: engine_choice.LoadedEngine, result: dict) -> dict:
    """All that answers depend on besides the requests: what differs in any of it never shares an answer."""
    apart = ("scoring", "max_new_tokens")  # changes no answer; stands in each request
    return ready.identity | {
        "protocol": {name: value for name, value in result["protocol"].items() if name not in apart},
        "versions": {name: result["versions"][name] for name in ("torch", "transformers", "orca_bench")},
    }


def _run_task(
    config: EvaluationConfig, task: Task, session: _Session, read: benchmark_rows.BenchmarkRows, display: Display
) -> tuple[dict, list[scoring.Question]]:
    protocol, result, lm = session.protocol, session.result, session.lm
    began = time.time()
    lm.begin()
    display.begin(task, protocol.name)
    if protocol.name == "plain":
        outcome = harness_run.run_plain(
            lm, task, read, config.limit, protocol.max_new_tokens.get(task.name, request_encoding.MAX_NEW_TOKENS)
        )
        questions, digest, told = outcome.questions, outcome.requests_sha256, outcome.lm_eval
    else:
        documents = protocol.documents(task, read, config.limit)
        answers, told = harness_run.ask(lm, task, protocol, documents)
        questions, digest = scoring.score(task, protocol, documents, answers), request_files.digest(documents)
    result["lm_eval"][task.name] = told
    entry = result_building.add(
        result,
        task,
        read,
        protocol,
        questions,
        digest,
        tokens_sha256=lm.tokens_sha256,
        shortened=lm.shortened,
        **({"narrowed": lm.narrowed} if lm.narrowed else {}),
        seconds=round(time.time() - began, 1),
    )
    return entry, questions


def default_out(
    name: str, folder: str, runs: Path, protocol: str, limit: int | None, system: str, max_new_tokens: Mapping[str, int]
) -> Path:
    """Where the result of a model of this name goes unless said otherwise: into its run, or into a folder below `runs`."""
    stem, run = result_merging.stem(protocol, limit, system, max_new_tokens), model_names.run_of(folder)
    if run is None or name != model_names.name_of(folder):
        return runs / model_names.folder_name(name) / "results" / f"{stem}.json"
    path = Path(folder).resolve()
    results = Path(os.path.relpath(run)) / "results"
    return (results if path.parent == run else results / path.name) / f"{stem}.json"
