"""A data report in, what a terminal shows of it out: faults, lengths, overlap by task, and texts side by side.

Its own module because the check and the merge of reports show the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orca_bench.cli.console import console
from orca_bench.counts import counted
from orca_bench.data.record_checks.finding_kinds import FINDING_KINDS
from orca_bench.data.record_checks.length_picture import length_sentence
from orca_bench.report.grid import display_text, printable_text
from orca_bench.results.data_report import OVERLAP_KINDS, DataReport, OverlapHit, TokenLengths
from orca_bench.suite import TASK_BY_NAME

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_MOST_FILES = 6
_BAR_LINES, _BAR_WIDTH = 12, 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_data_report(report: DataReport, hit_count: int = 3) -> None:
    """Print a report on standard output; `hit_count` records are shown beside the benchmark rows that they have."""
    shard_text = f", shard {report.shard}" if report.shard else ""
    console.print(f"{counted(report.records, 'record')} in {counted(len(report.files), 'file')}{shard_text}")
    for file in report.files[:_MOST_FILES]:
        console.print(printable_text(f"  {file.rows:>9,}  {file.name}"))
    if len(report.files) > _MOST_FILES:
        console.print(f"  and {len(report.files) - _MOST_FILES} more files")
    console.print("")
    _show_findings(report)
    if report.tokens is not None:
        console.print("")
        _show_lengths(report.tokens)
    if report.suite is not None:
        console.print("")
        _show_overlap(report)
        _show_hits(report.hits, hit_count)


def _show_findings(report: DataReport) -> None:
    if not report.findings:
        console.print("no faults in the records")
    else:
        table = plain_table("fault", ("records", True), ("share", True), "first place")
        for kind in FINDING_KINDS:
            finding = report.findings.get(kind.key)
            if finding is not None:
                place = finding.examples[0] if finding.examples else ""
                original = f" = {finding.originals[0]}" if finding.originals else ""
                table.add_row(
                    kind.key,
                    f"{finding.records:,}",
                    _share_text(finding.records, report.records),
                    printable_text(place + original),
                )
        console.print(table, soft_wrap=False)
    if report.exact_duplicates is None:
        console.print("duplicates are counted when all shards are merged: orca-bench data merge-reports")


def _show_lengths(lengths: TokenLengths) -> None:
    """A sentence, and a dozen bars: the last one has all that are longer."""
    console.print(f"lengths: {length_sentence(lengths, sum(lengths.histogram))}")
    bins_in_bar = 2  # of 16 up to max_length: eight bars of whole examples, four of cut ones
    counts = [
        sum(lengths.histogram[start : start + bins_in_bar]) for start in range(0, len(lengths.histogram), bins_in_bar)
    ]
    if len(counts) > _BAR_LINES:
        counts[_BAR_LINES - 1 :] = [sum(counts[_BAR_LINES - 1 :])]
    highest = max(counts, default=0)
    bar_tokens = lengths.bin_width * bins_in_bar
    for index, count in enumerate(counts):
        first = bar_tokens * index
        is_last = index == _BAR_LINES - 1
        range_text = f"more than {first:,}" if is_last else f"{first + 1:,} to {first + bar_tokens:,}"
        mark = "  cut" if first >= lengths.max_length and count else ""
        console.print(f"  {range_text:>16}  {_bar(count, highest):<{_BAR_WIDTH}} {count:>9,}{mark}")


def _bar(count: int, highest: int) -> str:
    """A bar in eighths of a character; the smallest count above 0 has one eighth."""
    eighths = max(round(8 * _BAR_WIDTH * count / highest), 1) if count else 0
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _show_overlap(report: DataReport) -> None:
    has_hits = any(sum(task.records.values()) for task in report.overlap.values())
    console.print(f"overlap with {report.suite}: benchmark rows that stand in records, and how many records")
    if not has_hits:
        rows = sum(split.rows for splits in report.benchmarks.values() for split in splits.values())
        console.print(f"  none ({rows:,} rows of {counted(len(report.benchmarks), 'task')} compared)")
        _show_not_compared(report)
        return
    table = plain_table(
        "task", ("test rows", True), *((f"{kind}: rows", True) for kind in OVERLAP_KINDS), ("records", True)
    )
    for name, overlap in report.overlap.items():
        facts = TASK_BY_NAME.get(name)
        splits = report.benchmarks.get(name, {})
        test_rows = splits[facts.evaluation_split].rows if facts and facts.evaluation_split in splits else 0
        table.add_row(
            facts.title if facts else name,
            f"{test_rows:,}",
            *(f"{overlap.questions[kind]:,}" if overlap.questions[kind] else "–" for kind in OVERLAP_KINDS),
            f"{sum(overlap.records.values()):,}",
        )
    console.print(table, soft_wrap=False)
    console.print(
        "test: rows that are evaluated; training: rows of the same benchmark on which training is legal; relative: test rows "
        "with other numbers, or in part"
    )
    _show_not_compared(report)


def _show_not_compared(report: DataReport) -> None:
    """What of the records was not searched: system messages, and records that training would leave out."""
    unusable_kinds = [kind for kind in FINDING_KINDS if kind.is_unusable and kind.key in report.findings]
    count = sum(report.findings[kind.key].records for kind in unusable_kinds)
    records = f", and {counted(count, 'record')} ({', '.join(kind.key for kind in unusable_kinds)})" if count else ""
    console.print(f"not searched: system messages{records}")


def _show_hits(hits: Sequence[OverlapHit], hit_count: int) -> None:
    from rich.table import Table

    for hit in _hits_to_show(hits)[:hit_count]:
        table = Table(expand=True, show_edge=False, pad_edge=False, title_justify="left", title_style="")
        shares = f"{hit.question:.0%} of the question" + (
            "" if hit.answer is None else f", {hit.answer:.0%} of the answer"
        )
        numbers = ", other numbers" if hit.numbers_differ else ""
        table.add_column(f"{hit.task} {hit.split}, row {hit.row:,} ({hit.kind}: {shares}{numbers})", ratio=1)
        table.add_column(printable_text(hit.record), ratio=1)
        table.add_row(_marked(hit.row_text, hit.longest_run), _marked(hit.record_text, hit.longest_run))
        console.print("")
        console.print(table, soft_wrap=False)


def _hits_to_show(hits: Sequence[OverlapHit]) -> list[OverlapHit]:
    """The first hit of each row: those with test rows before the others, one of each task before a second one of a task."""
    hit_by_row: dict[tuple[str, str, int], OverlapHit] = {}
    for hit in hits:
        hit_by_row.setdefault((hit.task, hit.split, hit.row), hit)
    rank_by_task: dict[tuple[str, str], int] = {}
    ranked_hits: list[tuple[int, int, OverlapHit]] = []
    for hit in hit_by_row.values():
        rank = rank_by_task[hit.task, hit.kind] = rank_by_task.get((hit.task, hit.kind), 0) + 1
        ranked_hits.append((OVERLAP_KINDS.index(hit.kind), rank, hit))
    return [hit for _, _, hit in sorted(ranked_hits, key=lambda ranked: ranked[:2])]


def _marked(text: str, longest_run: str) -> Text:
    """A text with the longest run of words that both have marked: in reverse on a terminal, else as >>…<<.

    Case and signs between the words do not count.
    """
    from rich.text import Text

    marked_text = Text(display_text(text))
    words = longest_run.split()
    match = re.search(r"[\W_]+".join(map(re.escape, words)), marked_text.plain, re.IGNORECASE) if words else None
    if match and console.is_terminal:
        marked_text.stylize("bold reverse", match.start(), match.end())
    elif match:
        before, after = marked_text.plain[: match.start()], marked_text.plain[match.end() :]
        return Text(f"{before}>>{match[0]}<<{after}")
    return marked_text


def plain_table(*columns: str | tuple[str, bool]) -> Table:
    """A table without borders; a column is a heading, or a heading and whether its cells are numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        heading, is_number = column if isinstance(column, tuple) else (column, False)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    return table


def _share_text(count: int, total: int) -> str:
    share = count / total if total else 0.0
    return f"{share:.1%}" if share >= 0.0005 or not count else "< 0.1%"


def removal_lines(count_by_key: dict[str, int]) -> Iterator[str]:
    """One line for each kind of records that were taken out."""
    for key, count in count_by_key.items():
        yield f"    {count:>9,}  {key}"
