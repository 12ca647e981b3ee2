"""`orca-bench score`: the answers of any engine in, a result out."""

from __future__ import annotations

from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.errors import UserError
from orca_bench.question_limit import QuestionLimit


@click.command("score")
@click.argument("answers", type=options.PATH)
@click.option(
    "--protocol",
    type=click.Choice(["orca", "leaderboard", "chat"]),
    required=True,
    help="The protocol of the requests.",
)
@click.option(
    "--tasks", help="all, or a comma-separated list; each must be answered.  [default: all tasks that the file answers]"
)
@options.protocol_system
@options.few_shot
@options.benchmarks
@options.benchmarks_revision
@options.limit
@click.option(
    "--model",
    type=options.MODEL,
    metavar="MODEL",
    help="chat: name of a run, model folder, GGUF file or hub id whose chat template the answers were made with; the result "
    "then has its hash.",
)
@options.revision
@click.option(
    "--cut-at-stop",
    is_flag=True,
    help="Cut texts at their request's stop strings: for engines that did not stop there.",
)
@click.option("--name", help="Name of the model in tables.  [default: the name of ANSWERS]")
@options.max_new_tokens
@options.data_report("none")
@options.runs
@click.option("--out", type=options.PATH, metavar="FILE", help="Result file.  [default: ANSWERS with .result.json]")
@options.reported
@options.output_format("terminal", "markdown", "json", explanation="json is the content of the result file.")
def command(
    answers: Path,
    protocol: str,
    tasks: str | None,
    system: str | None,
    few_shot: str | None,
    benchmarks: Path | None,
    benchmarks_revisions: tuple[str, ...],
    limit: QuestionLimit,
    model: str | None,
    revision: str | None,
    cut_at_stop: bool,
    name: str | None,
    max_new_tokens: tuple[str, ...],
    data_report: str | None,
    runs: Path,
    out: Path | None,
    output_format: str,
    reported: str,
) -> None:
    """Score the answers of any engine into a result, as eval scores its own.

    ANSWERS has the lines of `orca-bench requests`, each with `answer`: the log-probability of the continuation in nats, or the
    text, without the stop string. Two more keys are optional: `greedy` (true if greedy decoding gives the continuation) and
    `ran_out` (true if the text ended because it reached `max_new_tokens`). A line may leave out the request's strings; if it has
    them, they must be the protocol's. Every request must have its answer. A text is scored as it is. Where the
    leaderboard discarded tokens (`discard` of `requests --token-ids`), `answer` is the text without them and `whole` may be the
    text with them. Under chat, --model names the model that answered, so that the result is compared only with results of the
    same chat template; its weights are not needed.

    \b
      orca-bench score answers.jsonl --protocol leaderboard --limit 100
      orca-bench score answers.jsonl.gz --protocol orca --benchmarks path/to/benchmarks --format json
    """
    if model and protocol != "chat":
        raise UserError(
            f"not an option of --protocol {protocol}, which has no chat template",
            where="--model",
            hint="--name names the model in tables",
        )
    if revision and not model:
        raise UserError("without --model there is nothing to be of a revision", where="--revision")

    from orca_bench import api, mini
    from orca_bench.cli.console import next_step, progress_console, progress_message
    from orca_bench.cli.result_output import print_results
    from orca_bench.evaluate import config_building
    from orca_bench.report.reported_scores import find_reported_scores
    from orca_bench.results.output_files import check_output_file

    reported_scores = find_reported_scores(reported)

    selection = config_building.request_selection(
        tasks=tasks or "all",
        protocol=protocol,
        system=system,
        few_shot=few_shot,
        benchmarks=mini.resolve_benchmarks(benchmarks, runs),
        benchmarks_revisions=benchmarks_revisions,
        limit=limit,
        max_new_tokens=max_new_tokens,
    )
    stem = answers.name.removesuffix(".gz").removesuffix(".jsonl")
    out = out or answers.with_name(f"{stem}.result.json")

    check_output_file(out, [answers, benchmarks, reported, data_report], may_replace_result=True)

    from orca_bench.evaluate import offline_scoring, overlap_marks
    from orca_bench.models.model_folder import locate_model

    if model:
        folder_or_id = api.select_model(model, runs, progress_message)
        model_folder = locate_model(folder_or_id, revision, progress_message, with_weights=False)
        selection = offline_scoring.with_template_of(selection, model_folder)
    with progress_console.status("reading, matching and scoring answers"):
        offline_scoring.score_answers(
            answers,
            selection,
            out,
            name or stem,
            cut_at_stop,
            tasks is not None,
            progress_message,
            overlap_marks.report_path(data_report, None),
        )
    result_file = api.load_result(out)
    for note in result_file.result.answer_notes:
        progress_message(f"{answers}: {note}")
    print_results([result_file], output_format, reported_scores, notes_option=f"orca-bench table {out} --notes")
    if output_format == "terminal":
        next_step("page", out)
