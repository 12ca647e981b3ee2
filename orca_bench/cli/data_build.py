"""`orca-bench data build RECIPE`: a data recipe in, records answered by a teacher out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options

if TYPE_CHECKING:
    from orca_bench.data.build.build_plan import BuildPlan, LedgerCounts
    from orca_bench.data.build.building import BillEstimate, BuildResult
    from orca_bench.data.build.data_recipe import DataRecipe
    from orca_bench.data.build.record_output import ColumnNames


@click.command("build", short_help="Build records: instructions answered by a teacher model.")
@click.argument("recipe", type=options.PATH)
@options.data_overrides
@click.option(
    "--dry-run",
    is_flag=True,
    help="Count requests, also those that are answered, and their worst-case price; send and write nothing.",
)
@click.option(
    "--tokenizer",
    type=options.PATH,
    metavar="FILE",
    help="With --dry-run: count prompt tokens with this tokenizer (a file or a model folder).",
)
@click.option(
    "--estimate",
    "sample_size",
    type=click.IntRange(min=2),
    metavar="N",
    help="Ask N of the requests, chosen at random, and estimate what all of them cost. Their answers are kept.",
)
@click.option(
    "--columns",
    type=click.Choice(["records", "published"]),
    default="records",
    show_default=True,
    help="records: with where each came from. published: system, instruction, input and output, as the published Orca sets.",
)
@click.option(
    "--push",
    metavar="REPO",
    help="When the build is finished, upload records, card and manifest to this data set of the hub; the token is HF_TOKEN.",
)
def build(
    recipe: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    tokenizer: Path | None,
    sample_size: int | None,
    columns: str,
    push: str | None,
) -> None:
    """Build the records that the data recipe RECIPE describes: each instruction, under a system message, answered by a teacher.

    The teacher is any model behind an OpenAI-compatible endpoint. Its key comes from the environment variable that the recipe
    names. The output is a folder, records/NAME by default: records.jsonl, which `orca-bench train` and datasets.load_dataset
    read; README.md, the data card; manifest.yaml with what was spent, by source; the resolved recipe; and ledger.sqlite.

    The ledger has every answer as soon as it arrives. After Ctrl-C, a crash or a full disk the same command continues, and
    nothing that was answered is asked again. A request that was in flight is asked again; the ledger lists its first attempt as
    `unknown, possibly paid`. The records are the same, byte for byte, whatever happened in between. `budget` is not passed as
    long as the teacher keeps its token limit: the most that a request can cost is reserved before it is sent.

    With `teacher.batch` in the recipe the requests go through the endpoint's Batch API, for half the price. Batches that are open
    when the command is stopped stay at the server, and the same command collects them.

    --push uploads records, card and manifest as they are in the folder, in one commit. Where the upload breaks off, the same
    command uploads the rest. The repository must be there.

    Refusals, withheld and empty answers are counted and are no records, nor are answers that the token limit cut off
    (`keep_truncated: true` keeps these). Where the budget ends a build, or requests were given up, the records are those of
    the other requests, and the exit code is 1. Keys marked with * in recipes/data/README.md may change between two builds.

    \b
      orca-bench data build orca_mini --dry-run
      orca-bench data build orca_mini --estimate 100 -o budget=1
      orca-bench data build recipes/data/orca_mini.yaml -o budget=200
      orca-bench data build orca_mini -o budget=100 -o teacher.batch={}
      orca-bench data build orca_mini --push me/orca_mini_records
      orca-bench data build mine.yaml -o teacher.base_url=http://127.0.0.1:8000/v1 -o teacher.model=my-model
    """
    from orca_bench import hub
    from orca_bench.cli.build_display import BuildConsole
    from orca_bench.data.build import build_plan, building
    from orca_bench.data.build.data_recipe_file import read_data_recipe
    from orca_bench.data.build.output_upload import upload_output
    from orca_bench.errors import UserError

    if dry_run and sample_size is not None:
        raise UserError("--dry-run sends nothing, and --estimate asks the teacher", hint="give one of them")
    if tokenizer is not None and not dry_run:
        raise UserError("--tokenizer belongs to --dry-run", where="--tokenizer")
    if push is not None:
        if dry_run or sample_size is not None:
            raise UserError(
                "only a finished build is uploaded", where="--push", hint="leave out --dry-run and --estimate"
            )
        hub.check_push(push)
    data_recipe, display = read_data_recipe(recipe, overrides), BuildConsole()
    if dry_run:
        _print_plan(build_plan.plan_build(data_recipe, display, tokenizer), data_recipe)
    elif sample_size is not None:
        _print_estimate(building.estimate_bill(data_recipe, display, sample_size), data_recipe)
    else:
        column_names: ColumnNames = "published" if columns == "published" else "records"
        result = building.build_records(data_recipe, display, column_names)
        _print_result(result, data_recipe)
        if not result.output.is_complete:
            if push is not None:
                display.message(f"not uploaded to {push}: the build is not finished")
            click.get_current_context().exit(1)
        if push is not None:
            click.echo(f"uploaded: {upload_output(result.folder, push)}")


def _print_plan(plan: BuildPlan, recipe: DataRecipe) -> None:
    from orca_bench.cli.console import console
    from orca_bench.cli.data_check_display import plain_table
    from orca_bench.counts import counted, dollars_text

    console.print("the resolved recipe:\n")
    console.print(recipe.to_yaml())
    ledger_counts = plan.ledger_counts
    count_by_ledger_column = {} if ledger_counts is None else _ledger_columns(ledger_counts)
    table = plain_table(
        "source",
        *((column, True) for column in ("rows", "requests", "characters", *count_by_ledger_column)),
    )
    for source_rows in plan.requests.sources:
        name = source_rows.name
        table.add_row(
            name,
            f"{source_rows.survey.row_count:,}",
            f"{plan.counts.requests_by_source[name]:,}",
            f"{plan.counts.characters_by_source[name]:,}",
            *(f"{count_by_source[name]:,}" for count_by_source in count_by_ledger_column.values()),
        )
    console.print(table, soft_wrap=False)
    character_count = plan.counts.characters_by_source.total()
    token_text = "" if plan.prompt_tokens is None else f", {plan.prompt_tokens:,} prompt tokens"
    console.print(f"{counted(plan.counts.request_count, 'request')}, {character_count:,} characters{token_text}")
    ids = sorted(plan.counts.requests_by_system_id.items(), key=lambda item: item[0] or 0)
    id_texts = [f"{'own' if system_id is None else system_id}: {count:,}" for system_id, count in ids]
    console.print(f"system messages: {', '.join(id_texts)}")
    console.print(
        f"at most {dollars_text(plan.worst_case_dollars)} if every answer had all its tokens; the budget is "
        f"{dollars_text(recipe.budget)} (--estimate N gives an estimate)"
    )
    if ledger_counts is not None:
        _print_ledger_counts(ledger_counts, recipe)


def _ledger_columns(ledger_counts: LedgerCounts) -> dict[str, Counter[str]]:
    """The columns of the table that a ledger adds: requests by source."""
    columns = {"answered": ledger_counts.answered_by_source}
    if ledger_counts.in_batches_by_source:
        columns["in batches"] = ledger_counts.in_batches_by_source
    return {**columns, "to ask": ledger_counts.to_ask_by_source}


def _print_ledger_counts(ledger_counts: LedgerCounts, recipe: DataRecipe) -> None:
    from orca_bench.cli.console import console
    from orca_bench.counts import counted, dollars_text

    in_batches_count = ledger_counts.in_batches_by_source.total()
    batch_text = f", {in_batches_count:,} are in batches at the server" if in_batches_count else ""
    console.print(
        f"{ledger_counts.path}: {counted(ledger_counts.answered_by_source.total(), 'request')} answered{batch_text}, for at most "
        f"{dollars_text(ledger_counts.bill_dollars)} in all; {counted(ledger_counts.to_ask_by_source.total(), 'request')} "
        f"still to be asked, for at most {dollars_text(ledger_counts.to_ask_dollars)}"
    )
    if ledger_counts.bill_dollars + ledger_counts.to_ask_dollars > recipe.budget:
        console.print(f"the budget of {dollars_text(recipe.budget)} may not be enough")


def _print_estimate(estimate: BillEstimate, recipe: DataRecipe) -> None:
    from orca_bench.cli.console import console
    from orca_bench.counts import counted, dollars_text

    dollars = estimate.dollars
    interval_text = (
        ""
        if dollars.interval_low is None or dollars.interval_high is None
        else f" (95 % interval {dollars_text(dollars.interval_low)} to {dollars_text(dollars.interval_high)})"
    )
    console.print(
        f"all {counted(estimate.request_count, 'request')}: {dollars_text(dollars.total)}{interval_text}, by "
        f"{estimate.sampled_count:,} answers, which are in the ledger and not paid again"
    )
    if estimate.unmetered_count:
        console.print(
            f"the teacher told no tokens of {counted(estimate.unmetered_count, 'answer')}: this is the worst case, no estimate"
        )
    if estimate.failed_count:
        console.print(f"{counted(estimate.failed_count, 'request')} of the sample had no answer and does not count")
    upper_dollars = dollars.interval_high or dollars.total
    if upper_dollars > recipe.budget:
        console.print(f"the budget of {dollars_text(recipe.budget)} may not be enough")


def _print_result(result: BuildResult, recipe: DataRecipe) -> None:
    import json

    from orca_bench.cli.console import console, next_step
    from orca_bench.counts import counted, dollars_text
    from orca_bench.data.build.build_manifest import total_spending

    output, spending = result.output, total_spending(result.spending_by_source)
    console.print(f"{counted(output.record_count, 'record')}: {result.folder.records_path}")
    for outcome, request_count in output.outcomes.most_common():
        if outcome != "answered" and request_count:
            console.print(f"  {counted(request_count, 'request')} {outcome}")
    console.print(
        f"spent: {'at most ' if spending.unmetered_answers else ''}{dollars_text(spending.dollars)} of "
        f"{dollars_text(recipe.budget)}, {spending.prompt_tokens:,} prompt and "
        f"{spending.completion_tokens:,} response tokens"
    )
    if spending.unmetered_answers:
        console.print(
            f"the teacher told no tokens of {counted(spending.unmetered_answers, 'answer')}: its worst case is counted"
        )
    if spending.unknown_attempts:
        console.print(
            f"unknown, possibly paid: {counted(spending.unknown_attempts, 'attempt')}, at most "
            f"{dollars_text(spending.unknown_dollars)}"
        )
    if result.is_stopped_by_budget:
        console.print(
            f"the budget of {dollars_text(recipe.budget)} does not allow the worst case of another request: raise it with "
            "-o budget=DOLLARS, and the same command continues"
        )
    elif output.outcomes["failed"]:
        console.print("the same command asks the failed requests again")
    if output.record_count:
        records = json.dumps([str(result.folder.records_path)], ensure_ascii=False)
        next_step("train", "recipes/13b.yaml", "-o", f"data.records={records}")
