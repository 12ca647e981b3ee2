"""Reports of `orca-bench data check` made by hand: which rows of a benchmarks folder some records contain."""

from orca_bench.evaluate.benchmark_rows import load_task_rows, read_suite, row_sha256
from orca_bench.evaluate.tasks import SUITE
from orca_bench.results.data_report import (
    DATA_REPORT_FORMAT,
    DataReport,
    OverlapHit,
    RecordFile,
    SplitRows,
    TaskOverlap,
    write_data_report,
)


def hit_of(task, rows, row, kind, share=1.0, record=0):
    """A hit on a row of the evaluated split of a task, in a record of its own."""
    return OverlapHit(
        task=task.name,
        split=task.evaluation_split,
        row=row,
        row_sha256=row_sha256(task, rows.evaluation_rows[row]),
        kind=kind,
        question=share,
        record=f"/home/me/records.jsonl:{record + 1}",
        record_sha256=f"{record:064x}",
        longest_run="words of the row",
        row_text="text of the row",
        record_text="text of the record",
    )


def planted_report(benchmarks, rows_by_task, relatives_by_task=None, records_sha256="a" * 64, shard=None):
    """The report on records that contain these rows of the evaluated splits; by task, row numbers or shares by row number.

    Tasks that are not named are not covered.
    """
    hits, splits_by_task, overlap = [], {}, {}
    relatives_by_task = relatives_by_task or {}
    for name in dict.fromkeys([*rows_by_task, *relatives_by_task]):
        (task,) = (task for task in SUITE if task.name == name)
        rows = load_task_rows(task, benchmarks)
        counts = {task.evaluation_split: rows.evaluation_rows} | (
            {task.few_shot_split: rows.few_shot_pool} if task.few_shot_split else {}
        )
        splits_by_task[name] = {
            split: SplitRows(rows=len(split_rows), sha256=rows.hashes_by_split[split])
            for split, split_rows in counts.items()
        }
        count_by_kind, test_rows = {}, set(rows_by_task.get(name, ()))
        for kind, planted in (("test", rows_by_task.get(name, ())), ("relative", relatives_by_task.get(name, ()))):
            shares = planted if isinstance(planted, dict) else dict.fromkeys(planted, 1.0)
            hits += [
                hit_of(task, rows, row, kind, share, len(hits) + n) for n, (row, share) in enumerate(shares.items())
            ]
            counted = len(shares) if kind == "test" else len([row for row in shares if row not in test_rows])
            count_by_kind[kind] = counted  # as the real report counts: a row under one kind alone
        overlap[name] = TaskOverlap(questions=count_by_kind, records=count_by_kind)
    return DataReport(
        format=DATA_REPORT_FORMAT,
        files=[RecordFile(name="/home/me/records.jsonl", sha256=records_sha256, rows=100)],
        records=100,
        shard=shard,
        suite=read_suite(benchmarks).suite_name,
        benchmarks=splits_by_task,
        overlap=overlap,
        hits=sorted(hits, key=lambda hit: hit.sort_key),
    )


def write_planted_report(path, *args, **options):
    """Write the report of `planted_report` to a file; returns its path."""
    write_data_report(path, planted_report(*args, **options))
    return path
