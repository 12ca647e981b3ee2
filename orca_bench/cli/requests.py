"""`orca-bench requests`."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options


@click.command("requests")
@click.option("--tasks", default="all", show_default=True, help="all, or a comma-separated list: arc_challenge,gsm8k.")
@click.option(
    "--protocol",
    type=click.Choice(["orca", "leaderboard"]),
    default="orca",
    show_default=True,
    help="orca: the question in the Orca prompt. leaderboard: as Open LLM Leaderboard v1 asked.",
)
@options.system
@options.benchmarks
@click.option("--limit", type=int, help="Only the first N questions of each task (of each MMLU subject).")
@click.option("--token-ids", "tokens", is_flag=True, help="Add the token ids that the model of --model would be fed.")
@click.option("--model", help="Model folder or hub id whose tokenizer and context window --token-ids uses.")
@options.revision
@options.benchmarks_revision
@options.max_new_tokens
@options.runs
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="JSON Lines file; compressed where it ends in .gz."
)
def command(
    tasks, protocol, system, benchmarks, limit, tokens, model, revision, benchmarks_revisions, max_new_tokens, runs, out
):
    """Write the exact requests that `eval` would send, one JSON line each; no model is loaded.

    A line has `task` (for MMLU mmlu_SUBJECT), `index` (the document's place in the protocol's order, from 0), `request` (from 0
    within the document), `context`, and `continuation` to be scored or `until`, the strings that end an answer, with
    `max_new_tokens`, the most tokens that it may have. The same rows give the same bytes. With --token-ids a line has also
    `context_ids` and `continuation_ids`, or `context_ids` and `discard`: how many tokens of the answer the protocol throws away.

    \b
    Add `answer` to each line (the continuation's log-probability in nats, or the text, with `ran_out`: true where it reached
    its most tokens), with any engine, and score them:
      orca-bench requests --tasks arc_challenge --protocol leaderboard --limit 100 --out requests.jsonl
      orca-bench score answers.jsonl --protocol leaderboard --limit 100
    """
    from orca_bench.cli import evaluating
    from orca_bench.cli.console import counting
    from orca_bench.errors import UserError

    if tokens and not model:
        raise UserError("--token-ids needs a tokenizer", where="--model", hint="name a model folder")
    if model and not tokens:
        raise UserError(
            "without --token-ids no model is needed", where="--model", hint="add --token-ids, or leave it out"
        )
    if revision and not model:
        raise UserError("without --model there is nothing to be of a revision", where="--revision")
    selection = evaluating.asked(tasks, protocol, system, benchmarks, limit, runs, benchmarks_revisions, max_new_tokens)

    from orca_bench.evaluate import offline_scoring
    from orca_bench.models.model_folder import locate

    folder = locate(model, revision, evaluating.say, with_weights=False).folder if tokens else None
    with counting("requests, by task") as report:
        written = offline_scoring.write_requests(selection, out, folder, report)
    click.echo(f"{written:,} requests of protocol {protocol}: {out}", err=True)
