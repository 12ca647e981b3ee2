"""What `eval` and `demo` share: turning options into an order, running it, showing the result."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import click

from orca_bench.cli.console import console, progress_console
from orca_bench.cli.interrupts import interruptible
from orca_bench.errors import UserError
from orca_bench.system_messages import system_message

MINI = "mini:"
_UNITS = (86400, 3600, 60, 1)  # seconds in a day, an hour, a minute, a second


def check(tasks: str, limit: int | None) -> None:
    """Raise UserError for an unknown task or a limit that is not positive."""
    from orca_bench.evaluate.tasks import select

    select(tasks)
    if limit is not None and limit <= 0:
        raise UserError(f"{limit} is not a number of questions", where="--limit", hint="give 1 or more")


def choice(engine: str, processes, device_map, tensor_parallel, base_url, served_model, concurrency):
    """An EngineConfig; raises UserError for an option of another engine, and for a number that is not positive."""
    given = {
        "--processes": (processes, ("hf",)),
        "--device-map": (device_map, ("hf",)),
        "--tensor-parallel": (tensor_parallel, ("vllm",)),
        "--base-url": (base_url, ("api",)),
        "--served-model": (served_model, ("api",)),
        "--concurrency": (concurrency, ("vllm", "api")),
    }
    for name, (value, of) in given.items():
        if value is not None and engine not in of:
            raise UserError(f"not an option of --engine {engine}", where=name, hint=f"it is one of {' and '.join(of)}")
        if isinstance(value, int) and value < 1:
            raise UserError(f"{value} is not a number of them", where=name, hint="give 1 or more")
    if engine == "api" and base_url is None:
        raise UserError("--engine api needs a server", where="--base-url", hint="http://127.0.0.1:8000/v1, say")
    if device_map is not None and (processes or 1) > 1:
        raise UserError("a model that is spread over all devices is run by one process", where="--processes")

    from orca_bench.evaluate.engine_choice import EngineConfig, default_processes

    if processes is None:
        processes = default_processes() if engine == "hf" and device_map is None else 1
    return EngineConfig(engine, processes, device_map, tensor_parallel or 1, base_url, served_model, concurrency or 16)


def seconds(text: str | None) -> float | None:
    """A length of time in seconds: `90m`, `2h`, `1h30m`, `1d`, or a number of seconds; raises UserError for another text."""
    if text is None:
        return None
    number = r"(\d+\.?\d*)"
    match = re.fullmatch(rf"(?:{number}d)?(?:{number}h)?(?:{number}m)?(?:{number}s?)?", "".join(text.lower().split()))
    parts = match.groups() if match else ()
    total = sum(float(part) * unit for part, unit in zip(parts, _UNITS, strict=False) if part)
    if total <= 0:
        raise UserError(f"'{text}' is not a length of time", where="--max-time", hint="give 90m, 2h, 1h30m, or seconds")
    return total


def order(
    model,
    tasks,
    protocol: str,
    system,
    benchmarks,
    limit,
    dtype,
    runs: Path,
    out: Path | None,
    fresh: bool = False,
    engine=None,
    max_seconds: float | None = None,
    name: str | None = None,
    revision: str | None = None,
    benchmarks_revisions: tuple[str, ...] = (),
    room: tuple[str, ...] = (),
):
    """An Order for `evaluate`, defaults filled in; protocol `both` is leaderboard and orca, the engine this process's own.

    A model of the hub is fetched here, and of a server's model the name is asked for.
    """
    from orca_bench.evaluate.tasks import select

    selected, text = select(tasks), system_message(system)
    benchmarks = rows(benchmarks, runs)
    revisions = benchmark_revisions(benchmarks_revisions, benchmarks)
    tokens = rooms(room)

    from orca_bench.evaluate import benchmark_rows as row_source
    from orca_bench.evaluate import evaluation
    from orca_bench.models.model_folder import locate
    from orca_bench.models.model_names import checked, name_of

    name = None if name is None else checked(name)

    row_source.suite(benchmarks)  # a folder that is not there is said before gigabytes are fetched
    api = engine is not None and engine.name == "api"
    source = locate(newest_model(runs) if model is None else str(model), revision, say, with_weights=not api)
    if name is None:
        name = served_name(engine) if api else name_of(source.folder, source.commit)
    names = ["leaderboard", "orca"] if protocol == "both" else [protocol]
    outs = {each: out or evaluation.default_out(name, source.folder, runs, each, limit, text, tokens) for each in names}
    if out and len(names) > 1:
        outs = {each: out.with_name(f"{out.stem}-{each}{out.suffix}") for each in names}
    chosen = {} if engine is None else {"engine": engine}
    return evaluation.EvaluationConfig(
        source,
        name,
        selected,
        outs,
        text,
        benchmarks,
        limit,
        dtype,
        fresh,
        max_seconds=max_seconds,
        benchmarks_revisions=revisions,
        max_new_tokens=tokens,
        **chosen,
    )


def served_name(engine) -> str:
    """What a server calls the model that is to be asked; raises UserError where it cannot be reached or has several."""
    from orca_bench.evaluate.servers.server_engine import ServerEngine

    with contextlib.closing(ServerEngine(engine.base_url, engine.served_model, engine.concurrency)) as api:
        return api.model


def benchmark_revisions(words: tuple[str, ...], benchmarks: Path | None) -> dict[str, str]:
    """The revision of each task's data set on the hub: of `REV` for all, of `TASK=REV` for one; raises UserError for others."""
    from orca_bench.evaluate.tasks import select

    if words and benchmarks is not None:
        raise UserError(
            "only rows of the hub have revisions", where="--benchmarks-revision", hint="leave out --benchmarks"
        )
    revisions: dict[str, str] = {}
    for word in sorted(words, key=lambda word: "=" in word):
        tasks, equals, revision = word.rpartition("=")
        if not revision:
            raise UserError("no revision is named", where=f"--benchmarks-revision {word}", hint="REV or TASK=REV")
        revisions |= {task.name: revision for task in select(tasks if equals else "all")}
    return revisions


def say(line: str) -> None:
    """A line for the person, before progress is shown."""
    progress_console.print(line, highlight=False, markup=False)


def asked(
    tasks: str,
    protocol: str,
    system,
    benchmarks,
    limit,
    runs: Path,
    benchmarks_revisions: tuple[str, ...] = (),
    room: tuple[str, ...] = (),
):
    """What `requests` and `score` are about, checked."""
    check(tasks, limit)
    text, benchmarks = system_message(system), rows(benchmarks, runs)
    revisions = benchmark_revisions(benchmarks_revisions, benchmarks)

    from orca_bench.evaluate import offline_scoring
    from orca_bench.evaluate.tasks import select

    return offline_scoring.RequestSelection(select(tasks), protocol, text, benchmarks, limit, revisions, rooms(room))


def rooms(words: tuple[str, ...]) -> dict[str, int]:
    """The rooms of some TASK=N, tokens by task; raises UserError for another task and for what is no positive number."""
    from orca_bench.evaluate.tasks import SUITE

    generating, tokens = [task.name for task in SUITE if task.generates], {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in generating:
            raise UserError(
                f"'{word}': {name or 'nothing'} is no task whose answers are texts",
                where="--max-new-tokens",
                hint=f"give TASK=N, TASK one of {', '.join(generating)}",
            )
        if not (number.isascii() and number.isdigit() and int(number[:9]) >= 1):
            raise UserError(
                f"'{word}' gives no number of tokens", where="--max-new-tokens", hint="give TASK=N with N of 1 or more"
            )
        tokens[name] = int(number[:9])
    return tokens


def rows(benchmarks: Path | None, runs: Path) -> Path | None:
    """The benchmarks directory that an option names; `mini:` is laid out below `runs`, None is the hub."""
    if benchmarks is None or str(benchmarks) != MINI:
        return benchmarks
    from orca_bench.mini import materialize

    return materialize(runs)["mini:benchmarks"]


def requests_at_hand(results: tuple[Path, ...], benchmarks: Path | None, runs: Path):
    """What gives a result's requests, made again from the rows, or None where the rows are not at hand."""
    from orca_bench.results.reading import read_result

    if benchmarks is None and all(read_result(path)["suite"].get("name") == "mini" for path in results):
        benchmarks = Path(MINI)
    if benchmarks is None:
        return None
    folder = rows(benchmarks, runs)

    from orca_bench.evaluate.reconstructed_requests import requests_of

    made: dict[str, object] = {}

    def of(result: dict):
        sent = {name: entry.get("requests_sha256") for name, entry in result["tasks"].items()}
        key = json.dumps([result["protocol"], result.get("limit"), sent], sort_keys=True)
        if key not in made:  # results that were asked the same share it
            made[key] = requests_of(result, folder)
        return made[key]

    return of


def newest_model(runs: Path) -> str:
    """The model folder of the newest finished run, or UserError where there is none."""
    from orca_bench.train.run_folder import newest_finished

    run = newest_finished(runs)
    if run is None:
        raise UserError(f"no finished run in {runs}", where="--model", hint="train one, or name a model folder")
    return str(run.model)


def run(order) -> dict[str, dict]:
    """Evaluate, with progress on standard error; the results by protocol."""
    from orca_bench.cli.evaluation_display import EvaluationDisplay
    from orca_bench.evaluate import evaluation

    with interruptible(), EvaluationDisplay() as display:
        return evaluation.evaluate(order, display)


def report(written: list[tuple[Path, dict]], as_json: bool) -> None:
    """Print results and where they lie; as JSON, one result alone and several in a list."""
    if as_json:
        results = [result for _, result in written]
        click.echo(json.dumps(results[0] if len(results) == 1 else results, indent=1, ensure_ascii=False, default=str))
        return
    from orca_bench.results.reading import questions_file

    show(*(result for _, result in written))
    for out, _ in written:
        click.echo(f"\nresult: {out}\nquestions: {questions_file(out)}")


def show(*results: dict, headings: list[str] | None = None) -> None:
    """Print the table of some results beside the reported scores."""
    from orca_bench.report import grid_formats, score_table_formats
    from orca_bench.report.reported_scores import read_reported_scores
    from orca_bench.report.result_selection import result_labels
    from orca_bench.report.score_table import build_score_table
    from orca_bench.results.models import Result

    typed = [Result.from_file_content(result) for result in results]
    headings = headings or result_labels(typed)
    table = build_score_table(list(zip(headings, typed, strict=True)), read_reported_scores())
    console.print(grid_formats.to_rich(score_table_formats.to_grid(table)))
