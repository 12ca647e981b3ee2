"""`orca-bench score`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("score")
@click.argument("answers", type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    type=click.Choice(["orca", "leaderboard"]),
    required=True,
    help="The protocol that the requests were made with.",
)
@click.option("--tasks", help="all, or a comma-separated list, which must be answered.  [default: those that are]")
@options.system
@options.benchmarks
@options.benchmarks_revision
@click.option("--limit", type=int, help="Only the first N questions of each task were asked (of each MMLU subject).")
@click.option(
    "--cut-at-stop",
    "cut",
    is_flag=True,
    help="Cut texts at their request's stop strings: for engines that did not stop there.",
)
@click.option("--name", help="What the table calls the model.  [default: the name of ANSWERS]")
@options.max_new_tokens
@options.runs
@click.option("--out", type=click.Path(path_type=Path), help="Result file.  [default: ANSWERS with .result.json]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def command(
    answers,
    protocol,
    tasks,
    system,
    benchmarks,
    benchmarks_revisions,
    limit,
    cut,
    name,
    max_new_tokens,
    runs,
    out,
    as_json,
):
    """Turn answers made anywhere into a result, by the same scoring as `eval`.

    ANSWERS has the lines of `orca-bench requests`, each with `answer`: the log-probability of the continuation in nats, or
    the text, without the stop string. `greedy` (true or false: greedy decoding would say it) and `ran_out` (true or false: the
    text had not ended when it had all its tokens) are kept where they are there. The strings of a line may be left out; where
    they are there they must be those that are asked. Every request must have its answer. A text is scored as it is; where
    the leaderboard threw tokens away (`discard` of `requests --token-ids`), `answer` is the text without them and `whole` may be
    the text with them.

    \b
      orca-bench score answers.jsonl --protocol leaderboard --limit 100
      orca-bench score answers.jsonl.gz --protocol orca --benchmarks path/to/benchmarks --json
    """
    from orca_bench.cli import evaluating
    from orca_bench.cli.console import progress_console

    selection = evaluating.asked(
        tasks or "all", protocol, system, benchmarks, limit, runs, benchmarks_revisions, max_new_tokens
    )
    stem = answers.name.removesuffix(".gz").removesuffix(".jsonl")
    out = out or answers.with_name(f"{stem}.result.json")

    from orca_bench.evaluate import offline_scoring

    with progress_console.status("reading, matching and scoring answers"):
        result = offline_scoring.score_answers(
            answers, selection, out, name or stem, cut, tasks is not None, progress_console.print
        )
    for note in result["answers"]["notes"]:
        progress_console.print(f"{answers}: {note}")
    evaluating.report([(out, result)], as_json)
