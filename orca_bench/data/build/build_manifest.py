"""What a build read, was answered and spent, as plain values for its manifest.

No times are in it: two builds with the same answers have the same manifest but for what interruptions cost. Its own module
because the manifest is a file format (`format` names its version).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from orca_bench import __version__
from orca_bench.data.build.answers import Spending
from orca_bench.data.build.build_folder import MANIFEST_FORMAT
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.data.build.record_output import ColumnNames, OutputCounts
from orca_bench.data.build.teacher_requests import RecipeRequests, RequestCounts


def manifest_of(
    recipe: DataRecipe,
    requests: RecipeRequests,
    counts: RequestCounts,
    output: OutputCounts | None,
    spending_by_source: Mapping[str, Spending],
    column_names: ColumnNames | None = None,
) -> dict[str, Any]:
    """The manifest of a build; `output` and `column_names` are None while no records are written.

    Dollars are those of attempts that the teacher counted, with the worst case of `unmetered_answers`, whose tokens it does not
    tell; `unknown_dollars` is the most that attempts without a whole reply may
    have cost besides.
    """
    sources = {}
    for source_rows in requests.sources:
        name, survey, source = source_rows.name, source_rows.survey, recipe.sources[source_rows.name]
        sources[name] = {
            "hub": source.hub,
            "revision": source.revision,
            # Without their folders: a manifest is published, and these are a private machine's.
            "files": None if source.files is None else PurePath(source.files).name,
            "version": survey.version,
            "license": source.license,
            "rows": survey.row_count,
            "left_out": dict(survey.left_out_by_reason),
            "requests": counts.requests_by_source[name],
            "records": None if output is None else output.records_by_source[name],
            "outcomes": None if output is None else dict(sorted(output.outcomes_by_source.get(name, {}).items())),
            "spending": _spending_values(spending_by_source.get(name, Spending())),
        }
    return {
        "format": MANIFEST_FORMAT,
        "orca_bench": __version__,
        "name": recipe.name,
        "is_complete": output is not None and output.is_complete,
        "requests": counts.request_count,
        "requests_sha256": counts.ids_sha256,
        "records": None if output is None else output.record_count,
        "columns": column_names,
        "records_sha256": None if output is None else output.records_sha256,
        "served_models": None if output is None else dict(sorted(output.served_models.items())),
        "spending": _spending_values(total_spending(spending_by_source)),
        "sources": sources,
    }


def total_spending(spending_by_source: Mapping[str, Spending]) -> Spending:
    """What was spent on all sources together."""
    total = Spending()
    for spending in spending_by_source.values():
        total.requests_by_outcome += spending.requests_by_outcome
        total.prompt_tokens += spending.prompt_tokens
        total.completion_tokens += spending.completion_tokens
        total.dollars += spending.dollars
        total.unmetered_answers += spending.unmetered_answers
        total.unknown_attempts += spending.unknown_attempts
        total.unknown_dollars += spending.unknown_dollars
    return total


def _spending_values(spending: Spending) -> dict[str, Any]:
    return {
        "prompt_tokens": spending.prompt_tokens,
        "completion_tokens": spending.completion_tokens,
        "dollars": round(spending.dollars, 6),
        "unmetered_answers": spending.unmetered_answers,
        "unknown_attempts": spending.unknown_attempts,
        "unknown_dollars": round(spending.unknown_dollars, 6),
    }
