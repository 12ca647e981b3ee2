"""What `eval` and `demo` share: turning options into an order, running it, showing the result."""

from __future__ import annotations

from pathlib import Path

from orca_bench.cli.console import EvaluationDisplay, console
from orca_bench.errors import UserError
from orca_bench.system_messages import system_message

MINI = "mini:"


def check(tasks: str, limit: int | None) -> None:
    """Raise UserError for an unknown task or a limit that is not positive."""
    from orca_bench.evaluate.tasks import select

    select(tasks)
    if limit is not None and limit <= 0:
        raise UserError(f"{limit} is not a number of questions", where="--limit", hint="give 1 or more")


def order(model, tasks, protocol, system, benchmarks, limit, dtype, runs: Path, out: Path | None):
    """An Order for `evaluate`, defaults filled in."""
    from orca_bench.evaluate.tasks import select

    if benchmarks is not None and str(benchmarks) == MINI:
        from orca_bench.mini import materialize

        benchmarks = materialize(runs)["mini:benchmarks"]
    model = str(model) if model else newest_model(runs)
    text = system_message(system)

    from orca_bench.evaluate import job

    out = out or job.default_out(model, runs, protocol, limit)
    return job.Order(model, select(tasks), protocol, text, benchmarks, limit, dtype, out)


def newest_model(runs: Path) -> str:
    """The model folder of the newest finished run, or UserError where there is none."""
    from orca_bench.train.run import newest_finished

    run = newest_finished(runs)
    if run is None:
        raise UserError(f"no finished run in {runs}", where="--model", hint="train one, or name a model folder")
    return str(run.model)


def run(order) -> dict:
    """Evaluate, with progress on standard error."""
    from orca_bench.evaluate import job

    with EvaluationDisplay() as display:
        return job.evaluate(order, display)


def show(*results: dict, headings: list[str] | None = None) -> None:
    """Print the table of some results beside the reported scores."""
    from orca_bench.report import table

    headings = headings or table.labels(list(results))
    console.print(table.to_rich(table.build(list(zip(headings, results, strict=True)), table.read_reported())))
