"""A build's counts in, the text of its data card out: what is in the records, where they come from, who answered, what it cost.

The front matter names the file of records, so that `datasets.load_dataset` reads the folder as it is. Its own module because the
card is text for people and for the hub.
"""

from __future__ import annotations

from collections.abc import Mapping

from orca_bench import yaml_files
from orca_bench.cards import markdown
from orca_bench.counts import dollars_text
from orca_bench.data.build.answers import OUTCOMES, Spending
from orca_bench.data.build.build_manifest import total_spending
from orca_bench.data.build.data_recipe import DataRecipe
from orca_bench.data.build.record_output import NOT_ASKED, OutputCounts, is_record_outcome
from orca_bench.data.build.teacher_requests import RequestCounts
from orca_bench.data.record_checks.finding_kinds import FINDING_KINDS
from orca_bench.results.data_report import Finding

_OUTCOME_DESCRIPTIONS = {
    "answered": "whole answers",
    "truncated": "cut off by the token limit",
    "refused": "refusals that the teacher's server marked as such",
    "filtered": "withheld by a content filter",
    "empty": "empty answers",
    "unfinished": "ended for another reason than its end or the token limit",
    "rejected": "not taken by the teacher, as those that are too long for it",
    "failed": "given up after several attempts",
    NOT_ASKED: "not asked yet",
}
#: What is said of a column beside its name, where the name does not say all.
_COLUMN_NOTES = {
    "source_row": "from 1",
    "system_id": "the paper's number",
    "served_model": "as the endpoint names it",
    "response": "the answer",
    "output": "the answer",
    "reasoning": "the teacher's thinking",
}


def data_card_text(
    recipe: DataRecipe,
    counts: RequestCounts,
    output: OutputCounts,
    spending_by_source: Mapping[str, Spending],
    findings: Mapping[str, Finding],
) -> str:
    """The data card, Markdown with the hub's front matter; `findings` are those of `data check` in the records."""
    teacher = recipe.teacher
    spending = total_spending(spending_by_source)
    unfinished_text = (
        "" if output.is_complete else "**This build is not finished: not every request has its answer.**\n\n"
    )
    spent_text = dollars_text(spending.dollars)
    if spending.unmetered_answers:
        spent_text = f"at most {spent_text}, as the teacher told no tokens of {spending.unmetered_answers:,} answers"
    unknown_dollars_text = dollars_text(spending.unknown_dollars)
    unknown_text = (
        f" {spending.unknown_attempts:,} attempts without a whole reply may have cost {unknown_dollars_text} more."
        if spending.unknown_attempts
        else ""
    )
    return (
        f"---\n{_front_matter(recipe, output)}---\n\n# {markdown.plain(recipe.name)}\n\n{unfinished_text}"
        f"{output.record_count:,} records in `records.jsonl`: instructions under a system message of the Orca paper "
        f"([arXiv 2306.02707](https://arxiv.org/abs/2306.02707), Table 2), each answered by {markdown.code(teacher.model)}. "
        "Built with `orca-bench data build`; `manifest.yaml` has the versions of the sources.\n\n"
        f"{_columns_text(output)}\n\n## Sources\n\n{_source_table(recipe, counts, output, spending_by_source)}\n"
        f"{_license_note(recipe)}\n\n## Answers\n\n{_outcome_table(output, recipe)}\n"
        f"{spending.prompt_tokens:,} prompt tokens and {spending.completion_tokens:,} response tokens, "
        f"{spent_text}.{unknown_text}\n\n## Teacher\n\n{_teacher_text(recipe, output)}\n"
        f"## System messages\n\n{_system_table(counts)}\n"
        f"## Faults\n\n{_finding_text(findings, output)}"
    )


def _front_matter(recipe: DataRecipe, output: OutputCounts) -> str:
    metadata = {
        "license": _only_license(recipe) or "other",
        "tags": ["orca-bench", "instruction-tuning", "explain-tuning", "synthetic"],
        "size_categories": [_size_category(output.record_count)],
        "configs": [{"config_name": "default", "data_files": "records.jsonl"}],
    }
    return yaml_files.to_yaml_text(metadata)


def _size_category(record_count: int) -> str:
    """The hub's name of a size: n<1K, 1K<n<10K, … ."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if record_count < bound), "1M<n<10M")


def _columns_text(output: OutputCounts) -> str:
    columns = [
        f"{markdown.code(column)} ({_COLUMN_NOTES[column]})" if column in _COLUMN_NOTES else markdown.code(column)
        for column in output.columns
    ]
    return f"Columns: {', '.join(columns)}." if columns else "There are no records yet, and no columns."


def _source_table(
    recipe: DataRecipe,
    counts: RequestCounts,
    output: OutputCounts,
    spending_by_source: Mapping[str, Spending],
) -> str:
    rows = [
        (
            markdown.code(name),
            f"[{markdown.plain(source.hub)}](https://huggingface.co/datasets/{source.hub})" if source.hub else "files",
            markdown.plain(source.license or "not stated"),
            f"{counts.requests_by_source[name]:,}",
            f"{output.records_by_source[name]:,}",
            dollars_text(spending_by_source.get(name, Spending()).dollars),
        )
        for name, source in recipe.sources.items()
    ]
    return markdown.table(("source", "from", "licence", "requests", "records", "spent"), rows, (3, 4, 5))


def _license_note(recipe: DataRecipe) -> str:
    licenses = {source.license for source in recipe.sources.values()}
    if _only_license(recipe) is not None:
        license_text = "The licence is that of the instructions."
    elif licenses == {None}:
        license_text = "No licence of the instructions is stated."
    else:
        license_text = "There is no single licence: the instructions of each source have their own."
    return f"{license_text} The teacher's terms hold for the answers."


def _only_license(recipe: DataRecipe) -> str | None:
    """The licence that all sources state; None where one states none, or two state different ones."""
    licenses = {source.license for source in recipe.sources.values()}
    return licenses.pop() if len(licenses) == 1 else None


def _outcome_table(output: OutputCounts, recipe: DataRecipe) -> str:
    rows = [
        (_OUTCOME_DESCRIPTIONS[outcome], f"{request_count:,}", "yes" if is_record_outcome(outcome, recipe) else "no")
        for outcome in (*OUTCOMES, NOT_ASKED)
        if (request_count := output.outcomes[outcome])
    ]
    return markdown.table(("requests", "number", "are records"), rows, (1,))


def _teacher_text(recipe: DataRecipe, output: OutputCounts) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in recipe.teacher.parameters.items())
    lines = [
        f"model: {markdown.code(recipe.teacher.model)}",
        f"parameters: {markdown.code(parameters)}",
        f"served as: {', '.join(markdown.code(name) for name in sorted(output.served_models)) or 'nothing yet'}",
    ]
    return markdown.bullets(lines)


def _finding_text(findings: Mapping[str, Finding], output: OutputCounts) -> str:
    if not output.record_count:
        return "There are no records yet.\n"
    rows = [
        (kind.title, f"{findings[kind.key].records:,}", f"{findings[kind.key].records / output.record_count:.1%}")
        for kind in FINDING_KINDS
        if kind.key in findings
    ]
    table = markdown.table(("fault", "records", "share"), rows, (1, 2)) if rows else "None.\n"
    return f"As `orca-bench data check` finds them; nothing was removed. Benchmarks were not compared.\n\n{table}"


def _system_table(counts: RequestCounts) -> str:
    id_counts = sorted(counts.requests_by_system_id.items(), key=lambda item: (item[0] is None, item[0]))
    rows = [
        ("a row's own" if system_id is None else str(system_id), f"{request_count:,}")
        for system_id, request_count in id_counts
    ]
    return markdown.table(("message of the paper", "requests"), rows, (0, 1))
