"""A data recipe in, what its build would ask out: requests by source, the most they can cost, and which are answered already.

Nothing is sent and nothing is written. Its own module because a build itself needs none of it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench.counts import reporting
from orca_bench.data.build.build_folder import BuildFolder
from orca_bench.data.build.building import BuildDisplay, show_remarks
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.data.build.ledger_reading import LedgerReader, open_ledger_to_read
from orca_bench.data.build.prices import PICODOLLARS, price_picodollars, worst_case_tokens
from orca_bench.data.build.teacher_requests import RecipeRequests, RequestCounts, TeacherRequest
from orca_bench.tokenizers import Tokenizer, load_tokenizer

_REQUESTS_AT_ONCE = 500  # looked up in the ledger together


@dataclass
class LedgerCounts:
    """What a ledger says of a recipe's requests.

    Attributes:
        path: The ledger.
        answered_by_source: Requests that have an outcome that is not asked again.
        in_batches_by_source: Requests that are in a batch at the server, whose answers are collected.
        to_ask_by_source: All other requests.
        to_ask_dollars: The most that these can cost.
        bill_dollars: What was paid before, with the worst case of what is in batches, or unknown and possibly paid.
    """

    path: Path
    answered_by_source: Counter[str] = field(default_factory=Counter)
    in_batches_by_source: Counter[str] = field(default_factory=Counter)
    to_ask_by_source: Counter[str] = field(default_factory=Counter)
    to_ask_dollars: float = 0.0
    bill_dollars: float = 0.0


@dataclass(frozen=True)
class BuildPlan:
    """What a build would ask: counts of requests, the most it can cost in dollars, and prompt tokens where they were counted.

    `ledger_counts` are None where the output has no ledger.
    """

    requests: RecipeRequests
    counts: RequestCounts
    worst_case_dollars: float
    prompt_tokens: int | None
    ledger_counts: LedgerCounts | None


def plan_build(recipe: DataRecipe, display: BuildDisplay, tokenizer_path: Path | None = None) -> BuildPlan:
    """Read all sources and the output's ledger, and count what would be asked; nothing is sent and nothing is written.

    With `tokenizer_path` the tokens of the messages are counted, without those of the teacher's chat template. Raises UserError
    where the build itself would be refused for its recipe, sources or output.
    """
    folder = BuildFolder.of_recipe(recipe)
    folder.check_recipe(recipe)
    tokenizer = None if tokenizer_path is None else load_tokenizer(tokenizer_path)
    requests = RecipeRequests(recipe, folder.pinned_commits(recipe))
    if not folder.ledger_path.exists():
        return _count(recipe, requests, display, folder, tokenizer, None)
    with open_ledger_to_read(folder.ledger_path, display.message) as ledger:
        if ledger is None:
            display.message(
                f"{folder.ledger_path}: a build is writing it, or it is empty; what is answered is not counted"
            )
        else:
            folder.check_ledger(ledger)
            folder.check_records(ledger)
        return _count(recipe, requests, display, folder, tokenizer, ledger)


def _count(
    recipe: DataRecipe,
    requests: RecipeRequests,
    display: BuildDisplay,
    folder: BuildFolder,
    tokenizer: Tokenizer | None,
    ledger: LedgerReader | None,
) -> BuildPlan:
    worst_case_picodollars = to_ask_picodollars = prompt_tokens = 0
    ledger_counts = None if ledger is None else LedgerCounts(ledger.path)
    with display.counting("reading sources") as report_progress:
        counted_requests = reporting(requests, lambda request_count: report_progress(request_count, None))
        for request, is_answered, is_in_batch in _with_states(counted_requests, ledger):
            request_picodollars = price_picodollars(worst_case_tokens(request, recipe.teacher), recipe.teacher)
            worst_case_picodollars += request_picodollars
            if tokenizer is not None:
                prompt_tokens += sum(len(tokenizer.encode(message["content"])) for message in request.messages)
            if ledger_counts is None:
                continue
            if is_answered:
                ledger_counts.answered_by_source[request.source] += 1
            elif is_in_batch:
                ledger_counts.in_batches_by_source[request.source] += 1
            else:
                ledger_counts.to_ask_by_source[request.source] += 1
                to_ask_picodollars += request_picodollars
    if ledger is not None and ledger_counts is not None:
        ledger_counts.to_ask_dollars = to_ask_picodollars / PICODOLLARS
        ledger_counts.bill_dollars = ledger.largest_bill_picodollars() / PICODOLLARS
    assert requests.counts is not None
    show_remarks(folder, requests, display)
    return BuildPlan(
        requests=requests,
        counts=requests.counts,
        worst_case_dollars=worst_case_picodollars / PICODOLLARS,
        prompt_tokens=None if tokenizer is None else prompt_tokens,
        ledger_counts=ledger_counts,
    )


def _with_states(
    requests: Iterable[TeacherRequest], ledger: LedgerReader | None
) -> Iterator[tuple[TeacherRequest, bool, bool]]:
    """Each request, whether the ledger has its outcome, and whether it is in a batch."""
    ids_in_batches = set() if ledger is None else ledger.ids_in_batches()
    iterator = iter(requests)
    while chunk := list(itertools.islice(iterator, _REQUESTS_AT_ONCE)):
        final_ids = set() if ledger is None else ledger.final_ids([request.request_id for request in chunk])
        for request in chunk:
            yield request, request.request_id in final_ids, request.request_id in ids_in_batches
