"""`orca-bench requests`: benchmark rows in, the exact requests that eval would send out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.errors import UserError
from orca_bench.question_limit import QuestionLimit


@click.command("requests")
@options.tasks
@click.option(
    "--protocol",
    type=click.Choice(["orca", "leaderboard", "chat"]),
    default="orca",
    show_default=True,
    help="orca: questions in the Orca prompt. leaderboard: the requests of Open LLM Leaderboard v1. chat: messages, which "
    "a model's chat template turns into text.",
)
@options.protocol_system
@options.few_shot
@options.benchmarks
@options.limit
@click.option("--token-ids", is_flag=True, help="Add token ids, as the tokenizer of --model encodes them.")
@click.option(
    "--model",
    type=options.MODEL,
    metavar="MODEL",
    help="Name of a run, model folder, GGUF file or hub id whose tokenizer and context window --token-ids uses.",
)
@options.revision
@options.benchmarks_revision
@options.max_new_tokens
@options.runs
@click.option(
    "--out",
    type=options.PATH,
    metavar="FILE",
    required=True,
    help="JSON Lines file; compressed if its name ends in .gz.",
)
def command(
    tasks: str,
    protocol: str,
    system: str | None,
    few_shot: str | None,
    benchmarks: Path | None,
    limit: QuestionLimit,
    token_ids: bool,
    model: str | None,
    revision: str | None,
    benchmarks_revisions: tuple[str, ...],
    max_new_tokens: tuple[str, ...],
    runs: Path,
    out: Path,
) -> None:
    """Write the exact requests that eval would send, one JSON line each; loads no model.

    A line has `task` (for MMLU mmlu_SUBJECT), `index` (the document's place in the protocol's order, from 0), `request` (its
    place in the document, from 0), `context`, and `continuation` to be scored or `until`, the strings that end an answer, with
    `max_new_tokens`, the maximum number of its tokens. The same rows give the same bytes. With --token-ids a line also has
    `context_ids` and `continuation_ids`, or `context_ids` and `discard`: how many tokens of the answer the protocol discards.
    Under chat, `context` is a chat: JSON of messages with `role` and `content`; --token-ids adds `prompt`, the text that the chat
    template of --model writes.

    Any engine may answer: add `answer` to each line (the continuation's log-probability in nats, or the text, with `ran_out`:
    true if it reached `max_new_tokens`), and score the file.

    \b
      orca-bench requests --tasks arc_challenge --protocol leaderboard --limit 100 --out requests.jsonl
      orca-bench score answers.jsonl --protocol leaderboard --limit 100
    """
    if token_ids and not model:
        raise UserError("--token-ids needs a tokenizer", where="--model", hint="name a model folder")
    if model and not token_ids:
        raise UserError(
            "without --token-ids no model is needed", where="--model", hint="add --token-ids, or leave it out"
        )
    if revision and not model:
        raise UserError("without --model there is nothing to be of a revision", where="--revision")

    from orca_bench import api, mini
    from orca_bench.cli.console import counting, next_step, progress_message
    from orca_bench.evaluate import config_building
    from orca_bench.results.output_files import check_output_file

    check_output_file(out, [benchmarks])
    selection = config_building.request_selection(
        tasks=tasks,
        protocol=protocol,
        system=system,
        few_shot=few_shot,
        benchmarks=mini.resolve_benchmarks(benchmarks, runs),
        benchmarks_revisions=benchmarks_revisions,
        limit=limit,
        max_new_tokens=max_new_tokens,
    )

    from orca_bench.evaluate import offline_scoring
    from orca_bench.models.model_folder import locate_model

    model_folder = (
        locate_model(api.select_model(model, runs, progress_message), revision, progress_message, with_weights=False)
        if model
        else None
    )
    with counting("requests, by task") as progress:
        request_count = offline_scoring.write_requests(selection, out, model_folder, progress)
    click.echo(f"{request_count:,} requests of protocol {protocol}: {out}", err=True)
    # Whatever the requests depend on must be the same there.
    options_and_values: list[tuple[str, Sequence[object]]] = [
        ("--protocol", [protocol]),
        ("--system", [] if system is None else [system]),
        ("--few-shot", [] if few_shot is None else [few_shot]),
        ("--benchmarks", [] if benchmarks is None else [benchmarks]),
        ("--benchmarks-revision", benchmarks_revisions),
        ("--limit", limit.option_texts),
        ("--max-new-tokens", max_new_tokens),
        ("--model", [model] if model and protocol == "chat" else []),
        ("--revision", [revision] if revision and protocol == "chat" else []),
    ]
    words = [word for option, values in options_and_values for value in values for word in (option, value)]
    next_step("score", "ANSWERS.jsonl", *words, runs=runs)
