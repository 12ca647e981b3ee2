"""Hits in, the overlap of each task out: how many of its rows stand in the records, and in how many records.

Its own module because a check and a merge of shards both count.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.results.data_report import OVERLAP_KINDS, OverlapHit, OverlapKind, TaskOverlap


def summarize_overlap(hits: Sequence[OverlapHit], task_names: Sequence[str]) -> dict[str, TaskOverlap]:
    """The overlap of each of these tasks. A row, and a record, with hits of several kinds counts under the first of them alone,
    in the order test, training, relative.
    """
    return {name: _task_overlap([hit for hit in hits if hit.task == name]) for name in task_names}


def _task_overlap(hits: Sequence[OverlapHit]) -> TaskOverlap:
    kind_by_row: dict[tuple[str, int], OverlapKind] = {}
    kind_by_record: dict[str, OverlapKind] = {}
    for kind in OVERLAP_KINDS:
        for hit in hits:
            if hit.kind == kind:
                kind_by_row.setdefault((hit.split, hit.row), kind)
                kind_by_record.setdefault(hit.record, kind)
    return TaskOverlap(
        questions={kind: list(kind_by_row.values()).count(kind) for kind in OVERLAP_KINDS},
        records={kind: list(kind_by_record.values()).count(kind) for kind in OVERLAP_KINDS},
    )
