"""A data recipe in, the folder of its records out: counting, asking, writing, in this order, and what each leaves behind.

The ledger has every answer as soon as it arrives, so a build that is interrupted, runs out of its budget or meets a dead server
goes on where it was. Its own module because the order of the steps is a matter apart from each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from orca_bench.counts import ReportProgress, counted, dollars_text
from orca_bench.data.build.answers import Spending
from orca_bench.data.build.batch_ledger import open_batches
from orca_bench.data.build.batch_teacher import ask_in_batches
from orca_bench.data.build.build_folder import BuildFolder
from orca_bench.data.build.build_manifest import manifest_of
from orca_bench.data.build.data_card import data_card_text
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.data.build.ledger import Ledger, open_ledger
from orca_bench.data.build.prices import PICODOLLARS, price_picodollars, worst_case_tokens
from orca_bench.data.build.record_output import ColumnNames, OutputCounts, write_records
from orca_bench.data.build.teacher import AskProgress, ask
from orca_bench.data.build.teacher_client import check_key, key_note
from orca_bench.data.build.teacher_requests import RecipeRequests, RequestCounts, TeacherRequest
from orca_bench.data.record_check import check_records
from orca_bench.errors import Interrupted, UserError, WriteError
from orca_bench.files import write_text
from orca_bench.results.data_report import Finding
from orca_bench.sampling_by_hash import sample_by_hash
from orca_bench.stats.totals import TotalEstimate, estimate_total


class BuildDisplay(Protocol):
    """What a build reports while it runs."""

    def message(self, line: str) -> None:
        """A line for the person."""

    def counting(self, title: str) -> AbstractContextManager[ReportProgress]:
        """Requests are counted inside the block, and their number is reported to what the block gets."""

    def asking(self, progress: AskProgress, request_count: int, budget: float) -> AbstractContextManager[None]:
        """The teacher is asked inside the block; `progress` changes meanwhile."""


@dataclass(frozen=True)
class BuildResult:
    """A build: its folder, what was written, what was spent by source, and whether the budget ended it."""

    folder: BuildFolder
    counts: RequestCounts
    output: OutputCounts
    spending_by_source: dict[str, Spending]
    is_stopped_by_budget: bool


@dataclass(frozen=True)
class BillEstimate:
    """What all requests would cost, in dollars, by the `sampled_count` of them that were answered.

    `unmetered_count` answers came without a count of tokens (`Answer.is_unmetered`): their worst case is counted.
    """

    dollars: TotalEstimate
    sampled_count: int
    request_count: int
    failed_count: int
    unmetered_count: int


def build_records(recipe: DataRecipe, display: BuildDisplay, column_names: ColumnNames = "records") -> BuildResult:
    """Ask the teacher for every request without an answer, and write records, manifest and data card.

    Raises UserError for what `read_data_recipe`, the sources, the teacher and the disk refuse, and Interrupted where the user
    stops it; what was answered before is in the ledger, and another call goes on.
    """
    folder = BuildFolder.of_recipe(recipe)
    with _open_build(recipe, folder, display) as (ledger, requests, counts):
        error: UserError | None = None
        is_stopped_by_budget = False
        try:
            is_stopped_by_budget = _ask_all(requests, counts.request_count, ledger, recipe, display)
        except WriteError:
            raise
        except UserError as ask_error:  # of the teacher: what the ledger has is written all the same
            if not any(spending.requests_by_outcome["answered"] for spending in ledger.spending_by_source().values()):
                raise
            error = ask_error
        folder.check_records(ledger)  # again: asking may have taken days
        with display.counting("writing records") as report_progress:
            output = write_records(
                folder.records_path,
                requests,
                ledger,
                recipe,
                column_names,
                lambda request_count: report_progress(request_count, counts.request_count),
            )
        spending_by_source = ledger.spending_by_source()
        folder.write_manifest(manifest_of(recipe, requests, counts, output, spending_by_source, column_names))
        findings = _check(folder, output, display)
        card_text = data_card_text(recipe, counts, output, spending_by_source, findings)
        if not folder.write_card(card_text):
            display.message(f"the data card was changed and is not replaced: {folder.card_path}")
    if error is not None:
        display.message(f"{counted(output.record_count, 'record')} of the ledger's answers: {folder.records_path}")
        raise error
    return BuildResult(folder, counts, output, spending_by_source, is_stopped_by_budget)


def estimate_bill(recipe: DataRecipe, display: BuildDisplay, sample_size: int) -> BillEstimate:
    """Ask a random sample of the requests and estimate what all of them cost; the answers stay in the ledger.

    The sample depends on the seed and the requests alone, so that a larger one contains a smaller one. Raises as `build_records`
    does, and UserError where no request of the sample is answered.
    """
    folder = BuildFolder.of_recipe(recipe)
    with _open_build(recipe, folder, display) as (ledger, requests, counts):
        sample = _sample(requests, sample_size, recipe.seed)
        is_stopped_by_budget = _ask_all(sample, len(sample), ledger, recipe, display)
        answers = [ledger.answer_of(request.request_id) for request in sample]
        final_answers = [answer for answer in answers if answer is not None and answer.outcome != "failed"]
        prices = [answer.dollars for answer in final_answers]
        if not folder.records_path.exists():
            folder.write_manifest(manifest_of(recipe, requests, counts, None, ledger.spending_by_source()))
    if not prices and is_stopped_by_budget:
        least_picodollars = min(
            price_picodollars(worst_case_tokens(request, recipe.teacher), recipe.teacher) for request in sample
        )
        raise UserError(
            f"{dollars_text(recipe.budget)} does not allow one request, which may cost "
            f"{dollars_text(least_picodollars / PICODOLLARS)}",
            where="budget",
            hint="set it with -o budget=DOLLARS",
        )
    if not prices:
        raise UserError(f"none of the {counted(len(sample), 'request')} was answered", where="--estimate")
    return BillEstimate(
        dollars=estimate_total(prices, counts.request_count),
        sampled_count=len(prices),
        request_count=counts.request_count,
        failed_count=len(sample) - len(prices),
        unmetered_count=sum(answer.is_unmetered for answer in final_answers),
    )


@contextlib.contextmanager
def _open_build(
    recipe: DataRecipe, folder: BuildFolder, display: BuildDisplay
) -> Iterator[tuple[Ledger, RecipeRequests, RequestCounts]]:
    """The build's ledger, held by this process alone, and its requests, after everything that would forbid to ask was checked."""
    check_key(recipe.teacher)
    folder.check_recipe(recipe)
    requests = RecipeRequests(recipe, folder.pinned_commits(recipe))
    with display.counting("reading sources") as report_progress:
        counts = requests.count(lambda request_count: report_progress(request_count, None))
    with open_ledger(folder.ledger_path) as ledger:
        folder.check_recipe(recipe)  # again: another builder may have been first
        folder.check_ledger(ledger)
        folder.check_records(ledger)
        if sha256 := folder.records_hash_of_manifest():  # the manifest may be replaced below
            ledger.add_records_hash(sha256)
        show_remarks(folder, requests, display)
        display.message(
            f"{counted(counts.request_count, 'request')}; the budget is {dollars_text(recipe.budget)}; {key_note(recipe.teacher)}"
        )
        if folder.changed_sources(requests):  # the manifest first: it says that the folder is a build's
            folder.write_manifest(manifest_of(recipe, requests, counts, None, ledger.spending_by_source()))
        write_text(folder.recipe_path, recipe.to_yaml())
        yield ledger, requests, counts


def show_remarks(folder: BuildFolder, requests: RecipeRequests, display: BuildDisplay) -> None:
    """Say what was left out, and which sources are not those of the last build in the folder."""
    for source_rows in requests.sources:
        for remark in source_rows.remarks():
            display.message(remark)
    if folder.manifest_path.exists():
        for name in folder.changed_sources(requests):
            display.message(
                f"{name}: another source than that of the last build here; rows that are the same keep their answers"
            )


def _check(folder: BuildFolder, output: OutputCounts, display: BuildDisplay) -> Mapping[str, Finding]:
    """What `data check` finds in the records, without benchmarks."""
    if not output.record_count:
        return {}
    with display.counting("checking records") as report_progress:
        return check_records([folder.records_path], report_progress=report_progress).findings


def _ask_all(
    requests: Iterable[TeacherRequest],
    request_count: int,
    ledger: Ledger,
    recipe: DataRecipe,
    display: BuildDisplay,
) -> bool:
    """`ask` or `ask_in_batches`, shown and until a signal: whether the budget ended it."""
    progress = AskProgress()
    if recipe.teacher.batch is None and (batches := open_batches(ledger)):
        raise UserError(
            f"{counted(len(batches), 'batch')} of this build are open at {batches[0].base_url}",
            where="teacher.batch",
            hint="they would be asked and paid twice: keep teacher.batch until they are collected",
        )
    try:
        with display.asking(progress, request_count, recipe.budget):
            return asyncio.run(_ask_until_signal(requests, ledger, recipe, progress, display))
    except (asyncio.CancelledError, KeyboardInterrupt):
        done_count = progress.answered + progress.answered_before
        raise Interrupted(
            f"{done_count:,} of {counted(request_count, 'request')} are answered and in the ledger; the same command continues"
        ) from None


async def _ask_until_signal(
    requests: Iterable[TeacherRequest],
    ledger: Ledger,
    recipe: DataRecipe,
    progress: AskProgress,
    display: BuildDisplay,
) -> bool:
    """`ask` or `ask_in_batches`, which SIGTERM cancels as Ctrl-C does (asyncio.run has its own handler of SIGINT)."""
    this_task = asyncio.current_task()
    assert this_task is not None
    event_loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread; Windows
        event_loop.add_signal_handler(signal.SIGTERM, this_task.cancel)
    if recipe.teacher.batch is not None:
        return await ask_in_batches(requests, ledger, recipe.teacher, recipe.budget, progress, display.message)
    return await ask(requests, ledger, recipe.teacher, recipe.budget, progress)


def _sample(requests: Iterable[TeacherRequest], size: int, seed: int) -> list[TeacherRequest]:
    """A random sample in random order, so that those whom the budget leaves are one, too."""

    def request_hash(request: TeacherRequest) -> int:
        return int.from_bytes(hashlib.blake2b(f"{seed} {request.request_id}".encode(), digest_size=8).digest(), "big")

    return sorted(sample_by_hash(requests, size, request_hash), key=request_hash)
