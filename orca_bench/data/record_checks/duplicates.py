"""Signatures of records in, the groups of records that are alike out: exact duplicates and near-duplicates.

In memory are the hashes of texts and bands, 130 bytes a record; the hashes of shingles, from which the similarity of a pair is
computed, wait in a temporary file (400 bytes a record of 100 words). Records that share a band are compared, those with a
similarity of at least 0.8 are joined, and so are the groups that they belong to. The groups depend on the texts alone, not on the
order of the records or the number of processes. Its own module because a merge of shards compares in the same way.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from orca_bench.data.record_checks.signatures import BANDS, Signatures, shingle_similarity

NEAR_DUPLICATE_SIMILARITY = 0.8

#: Of up to so many records that share a band all pairs are compared; of more, each is compared with the first so many that are
#: not joined to one another, so that a template that thousands of records share does not cost the square of their number.
_MOST_COMPARED = 100


@dataclass(frozen=True)
class Duplicates:
    """By the number of a record the number of the first record that it repeats (`exact`) or is joined to (`near`).

    A group of n records gives n - 1 entries; a record is in one of the two at most.
    """

    exact: dict[int, int]
    near: dict[int, int]


class DuplicateSearch:
    """A context manager that takes the signatures of all records and finds the duplicates among them."""

    def __init__(self) -> None:
        self._shingle_file = tempfile.TemporaryFile(prefix="orca-bench-shingles-")  # noqa: SIM115
        self._numbers: list[np.ndarray] = []
        self._text_hashes: list[np.ndarray] = []
        self._band_hashes: list[np.ndarray] = []
        self._shingle_counts: list[np.ndarray] = []

    def __enter__(self) -> DuplicateSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self._shingle_file.close()

    def add(self, record_numbers: np.ndarray, signatures: Signatures) -> None:
        """Take the signatures of some records with their running numbers, int64 [records], in any order."""
        self._numbers.append(record_numbers)
        self._text_hashes.append(signatures.text_hashes)
        self._band_hashes.append(signatures.band_hashes)
        self._shingle_counts.append(signatures.shingle_counts)
        self._shingle_file.write(signatures.shingle_hashes.astype(np.uint32).tobytes())

    def stored_arrays(self) -> dict[str, np.ndarray]:
        """All that was taken, by name, for a file; the hashes of shingles are mapped, not read."""
        self._shingle_file.flush()
        is_empty = os.fstat(self._shingle_file.fileno()).st_size == 0  # an empty file cannot be mapped
        shingle_hashes = np.zeros(0, np.uint32) if is_empty else np.memmap(self._shingle_file, np.uint32, "r")
        return {
            "record_numbers": np.concatenate([np.zeros(0, np.int64), *self._numbers]),
            "text_hashes": np.concatenate([np.zeros((0, 2), np.uint64), *self._text_hashes]),
            "band_hashes": np.concatenate([np.zeros((0, BANDS), np.uint32), *self._band_hashes]),
            "shingle_counts": np.concatenate([np.zeros(0, np.int32), *self._shingle_counts]),
            "shingle_hashes": shingle_hashes,
        }

    def find(self, report_band: Callable[[int, int | None], None] = lambda done_count, total: None) -> Duplicates:
        """The duplicates among all records. `report_band` gets the number of bands that are compared, and of all."""
        numbers = np.concatenate([np.zeros(0, np.int64), *self._numbers])
        text_hashes = np.concatenate([np.zeros((0, 2), np.uint64), *self._text_hashes])
        exact, distinct = _exact_duplicates(numbers, text_hashes)
        # In the order of the texts' hashes, which no order of files changes.
        distinct = distinct[np.lexsort((text_hashes[distinct, 1], text_hashes[distinct, 0]))]
        groups = _DisjointGroups(len(distinct))
        band_hashes = np.concatenate([np.zeros((0, BANDS), np.uint32), *self._band_hashes])[distinct]
        read_shingles = self._shingle_reader(distinct)
        different_pairs: set[tuple[int, int]] = set()

        def are_near(first: int, second: int) -> bool:
            if (first, second) in different_pairs:
                return False
            is_near = shingle_similarity(read_shingles(first), read_shingles(second)) >= NEAR_DUPLICATE_SIMILARITY
            if not is_near and len(different_pairs) < 1_000_000:  # pairs; some share several bands
                different_pairs.add((first, second))
            return is_near

        for band in range(BANDS):
            for members in _equal_members(band_hashes[:, band]):
                _join_near_members(members.tolist(), groups, are_near)
            report_band(band + 1, BANDS)
        return Duplicates(exact, groups.first_by_member(numbers[distinct]))

    def _shingle_reader(self, record_indices: np.ndarray) -> Callable[[int], np.ndarray]:
        """A function that reads the shingles of one of these records, counted from 0, from the file."""
        counts = np.concatenate([np.zeros(0, np.int32), *self._shingle_counts]).astype(np.int64)
        starts = (np.cumsum(counts) - counts)[record_indices]
        counts = counts[record_indices]
        self._shingle_file.flush()
        descriptor = self._shingle_file.fileno()

        @functools.lru_cache(maxsize=20_000)
        def read_shingles(index: int) -> np.ndarray:
            return np.frombuffer(os.pread(descriptor, 4 * int(counts[index]), 4 * int(starts[index])), np.uint32)

        return read_shingles


def _exact_duplicates(numbers: np.ndarray, text_hashes: np.ndarray) -> tuple[dict[int, int], np.ndarray]:
    """(number of each repeated record to that of its first one, the indices of the first record of each text)."""
    order = np.lexsort((numbers, text_hashes[:, 1], text_hashes[:, 0]))
    ordered_hashes = text_hashes[order]
    is_first: np.ndarray = np.ones(len(order), bool)
    is_first[1:] = (ordered_hashes[1:] != ordered_hashes[:-1]).any(axis=1)
    first_indices = order[is_first]
    original_indices = first_indices[np.cumsum(is_first) - 1]
    repeated_numbers, original_numbers = numbers[order[~is_first]], numbers[original_indices[~is_first]]
    return dict(zip(repeated_numbers.tolist(), original_numbers.tolist(), strict=True)), first_indices


def _equal_members(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The indices, in order, of each key that several members have."""
    order = np.argsort(keys, kind="stable")
    ordered_keys = keys[order]
    run_starts = np.flatnonzero(np.concatenate([[True], ordered_keys[1:] != ordered_keys[:-1]])) if len(keys) else order
    run_ends: np.ndarray = np.append(run_starts[1:], len(keys))
    for run in np.flatnonzero(run_ends - run_starts > 1):
        yield order[run_starts[run] : run_ends[run]]


def _join_near_members(members: list[int], groups: _DisjointGroups, are_near: Callable[[int, int], bool]) -> None:
    """Join near pairs of some members; those that are in one group already are not compared."""
    compares_all = len(members) <= _MOST_COMPARED
    compared_members: list[int] = []
    for member in members:
        is_joined = False
        for compared_member in compared_members:
            if groups.root_of(member) == groups.root_of(compared_member):
                is_joined = True
            elif are_near(compared_member, member):
                groups.join(compared_member, member)
                is_joined = True
        if compares_all or (not is_joined and len(compared_members) < _MOST_COMPARED):
            compared_members.append(member)


class _DisjointGroups:
    """Groups of members that are joined two by two (union and find, with paths halved)."""

    def __init__(self, member_count: int) -> None:
        self._parents: np.ndarray = np.arange(member_count, dtype=np.int32)

    def root_of(self, member: int) -> int:
        parents = self._parents
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = int(parents[member])
        return member

    def join(self, first: int, second: int) -> None:
        """Join the groups of two members; the smaller root stays."""
        roots = sorted((self.root_of(first), self.root_of(second)))
        self._parents[roots[1]] = roots[0]

    def first_by_member(self, numbers: np.ndarray) -> dict[int, int]:
        """By number of a member the smallest number of its group, but for that one itself."""
        joined_members = [member for member in np.flatnonzero(self._parents != np.arange(len(self._parents))).tolist()]
        members_by_root: dict[int, list[int]] = {}
        for member in joined_members:
            root = self.root_of(member)
            members_by_root.setdefault(root, [int(numbers[root])]).append(int(numbers[member]))
        return {
            number: min(group_numbers)
            for group_numbers in members_by_root.values()
            for number in group_numbers
            if number != min(group_numbers)
        }
