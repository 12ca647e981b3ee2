"""The reports of all shards in, the report on all records out: the one that a single check would have written.

Counts are added; rows of benchmarks and records are counted again from all hits; duplicates, which may be in different shards,
are looked for among the signatures that stand beside each report. Its own module because it reads no records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orca_bench.counts import ReportProgress
from orca_bench.data.record_check import duplicate_counts
from orca_bench.data.record_checks import finding_kinds as kinds
from orca_bench.data.record_checks.overlap_summary import summarize_overlap
from orca_bench.data.record_checks.record_table import MOST_EXAMPLES, RecordTable
from orca_bench.data.record_checks.shards import Shard, parse_shard
from orca_bench.data.record_checks.token_lengths import merge_token_lengths
from orca_bench.errors import UserError
from orca_bench.files import file_sha256
from orca_bench.results.data_report import DATA_REPORT_FORMAT, DataReport, Finding, read_data_report


def signatures_path_for(report_path: Path) -> Path:
    """Where the signatures of a shard stand: beside its report."""
    return report_path.with_name(f"{report_path.name.removesuffix('.json')}.signatures.npz")


def merge_reports(
    report_paths: Sequence[Path], report_progress: ReportProgress = lambda done_count, total: None
) -> DataReport:
    """The report of all shards; raises UserError where the reports are not those of all shards of one set of records.

    `report_progress` gets the number of shards whose signatures are read.
    """
    reports = [read_data_report(path) for path in report_paths]
    shards = [_shard_of(report, path) for report, path in zip(reports, report_paths, strict=True)]
    _check_shards_are_whole(shards, report_paths)
    _check_reports_belong_together(reports, report_paths)
    first = reports[0]
    file_names = [file.name for file in first.files]
    findings = _merge_findings([report.findings for report in reports], file_names)
    with RecordTable(file_names) as table:
        for merged_count, (report, path) in enumerate(zip(reports, report_paths, strict=True), 1):
            signatures_path = signatures_path_for(path)
            if not signatures_path.is_file():
                hint = f"it is written with {path.name}, and has to stand beside it"
                raise UserError("no such file", where=signatures_path, hint=hint)
            if file_sha256(signatures_path) != report.signatures_sha256:
                hint = "check the shard again"
                raise UserError("not the signatures of this report", where=signatures_path, hint=hint)
            table.load(signatures_path)
            report_progress(merged_count, len(reports))
        findings |= table.duplicate_findings(lambda done_count, total: None)[0]
    facts: dict[str, Any] = {
        "files": first.files,
        "records": sum(report.records for report in reports),
        "findings": findings,
        **duplicate_counts(findings),
    }
    if first.tokens is not None:
        facts["tokens"] = merge_token_lengths([report.tokens for report in reports if report.tokens is not None])
    if first.suite is not None:
        hits = sorted((hit for report in reports for hit in report.hits), key=lambda hit: hit.sort_key)
        facts |= {
            "suite": first.suite,
            "benchmarks": first.benchmarks,
            "overlap": summarize_overlap(hits, list(first.benchmarks)),
            "hits": hits,
        }
    return DataReport(format=DATA_REPORT_FORMAT, **facts)


def _shard_of(report: DataReport, path: Path) -> Shard:
    if report.shard is None:
        raise UserError("a report on all records, not on a shard", where=path, hint="merge the reports of --shard")
    return parse_shard(report.shard, path)


def _check_shards_are_whole(shards: Sequence[Shard], paths: Sequence[Path]) -> None:
    path_by_shard: dict[Shard, Path] = {}
    for shard, path in zip(shards, paths, strict=True):
        if shard.count != shards[0].count:
            raise UserError(f"shard {shard}, and {paths[0]} is shard {shards[0]}", where=path)
        if path_by_shard.setdefault(shard, path) != path:
            raise UserError(f"shard {shard}, as {path_by_shard[shard]} is", where=path, hint="name each shard once")
    for index in range(1, shards[0].count + 1):
        if Shard(shards[0].count, index) not in path_by_shard:
            raise UserError(f"shard {index}/{shards[0].count} is missing", where=paths[0].parent)


def _check_reports_belong_together(reports: Sequence[DataReport], paths: Sequence[Path]) -> None:
    """Raise UserError where the reports are on other records, benchmarks or tokens than the first."""
    facts: tuple[tuple[str, Callable[[DataReport], Any]], ...] = (
        ("other records", lambda report: [file.to_json() for file in report.files]),
        ("other benchmarks", lambda report: (report.suite, report.to_json().get("benchmarks"))),
        (
            "another tokenizer or --max-length",
            lambda report: report.tokens and (report.tokens.tokenizer_sha256, report.tokens.max_length),
        ),
    )
    for report, path in zip(reports, paths, strict=True):
        for problem, facts_of in facts:
            if facts_of(report) != facts_of(reports[0]):
                raise UserError(f"a report with {problem} than {paths[0]}", where=path, hint="check all shards alike")
    record_count, row_count = sum(r.records for r in reports), sum(file.rows for file in reports[0].files)
    if record_count != row_count:
        raise UserError(f"{record_count:,} records in all shards, and {row_count:,} in their files", where=paths[0])


def _merge_findings(findings_of_shards: Sequence[dict[str, Finding]], file_names: Sequence[str]) -> dict[str, Finding]:
    merged: dict[str, Finding] = {}
    for kind in kinds.FINDING_KINDS:
        parts = [findings[kind.key] for findings in findings_of_shards if kind.key in findings]
        if parts:
            places = sorted((place for part in parts for place in part.examples), key=_place_order(file_names))
            merged[kind.key] = Finding(records=sum(part.records for part in parts), examples=places[:MOST_EXAMPLES])
    return merged


def _place_order(file_names: Sequence[str]) -> Callable[[str], tuple[int, list[int]]]:
    """A sort key for places: by file, then by the line and row in it."""
    indices_by_length = sorted(range(len(file_names)), key=lambda index: -len(file_names[index]))

    def place_order(place: str) -> tuple[int, list[int]]:
        index = next((i for i in indices_by_length if place.startswith(file_names[i])), len(file_names))
        suffix = place[len(file_names[index]) :] if index < len(file_names) else place
        return index, [int(digits) for digits in re.findall(r"[0-9]+", suffix)]

    return place_order
