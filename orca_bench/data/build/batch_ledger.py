"""The batches of a build in its ledger: what was sent to the server, how far each one is, and which attempts are in it.

A batch is on disk with all its attempts before its file is sent, and each step is on disk before the next one begins. So a build
that was stopped between any two steps knows what the server may have. Its own module because it is the only one that knows the
table of batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from orca_bench.data.build.answers import IN_BATCH_STATE
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.teacher_requests import TeacherRequest

#: How far a batch is: its file is on this disk; the server has the file; the request that creates the batch is about to be sent;
#: the server has the batch; all that it gave is in the ledger.
BatchState = Literal["prepared", "uploaded", "creating", "open", "ended"]


@dataclass(frozen=True)
class Batch:
    """One batch. Its requests are consecutive attempts of the ledger, in the order of the lines of its file.

    Attributes:
        key: 16 hexadecimal digits by chance, which no other batch has.
        state: How far it is.
        base_url: The endpoint that has it.
        first_attempt: The attempt of line 1.
        request_count: Its lines.
        file_sha256: The hash of its file.
        file_id: The server's name of the file, None before it has one.
        batch_id: The server's name of the batch, None before it has one.
    """

    key: str
    state: BatchState
    base_url: str
    first_attempt: int
    request_count: int
    file_sha256: str
    file_id: str | None = None
    batch_id: str | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """What the server keeps with the batch, by which it is recognised."""
        return {"orca_bench_batch": self.key, "sha256": self.file_sha256}

    @property
    def file_name(self) -> str:
        """The name of its file at the server, by which the file is recognised."""
        return f"orca-bench-{self.key}-{self.file_sha256[:16]}.jsonl"

    def attempt_of(self, custom_id: object) -> int | None:
        """The attempt of a line by its `custom_id`; None where the batch has no such line."""
        if not isinstance(custom_id, str):
            return None
        key, _, digits = custom_id.partition("-")
        is_line = key == self.key and digits.isascii() and digits.isdigit() and len(digits) < 10
        line_number = int(digits) if is_line else 0
        if not 1 <= line_number <= self.request_count or custom_id != custom_id_of(key, line_number):
            return None
        return self.first_attempt + line_number - 1


def custom_id_of(batch_key: str, line_number: int) -> str:
    """The `custom_id` of a line, from 1. No two lines of any two batches have the same."""
    return f"{batch_key}-{line_number}"


async def begin_batch(
    ledger: Ledger, key: str, base_url: str, file_sha256: str, worst_cases: Sequence[tuple[TeacherRequest, int]]
) -> Batch:
    """Write a batch and its requests, each with its worst case, which is reserved from now on."""
    begun_at = datetime.now(UTC).isoformat(timespec="seconds")  # for a reader: nothing is computed from it
    first_attempt = await ledger.begin_batch_attempts(
        worst_cases,
        lambda attempt: (
            "INSERT INTO batches (batch_key, state, base_url, first_attempt, request_count, file_sha256, begun_at) "
            "VALUES (?, 'prepared', ?, ?, ?, ?, ?)",
            (key, base_url, attempt, len(worst_cases), file_sha256, begun_at),
        ),
    )
    return Batch(key, "prepared", base_url, first_attempt, len(worst_cases), file_sha256)


async def advance_batch(
    ledger: Ledger,
    batch: Batch,
    state: BatchState,
    file_id: str | None = None,
    batch_id: str | None = None,
    reason: str | None = None,
) -> Batch:
    """Write that a batch has come to a state; returns it as it is now. `reason` is what the server said of its end."""
    batch = dataclasses.replace(
        batch, state=state, file_id=file_id or batch.file_id, batch_id=batch_id or batch.batch_id
    )
    await ledger.submit(
        [
            (
                "UPDATE batches SET state = ?, file_id = ?, batch_id = ?, reason = ? WHERE batch_key = ?",
                (batch.state, batch.file_id, batch.batch_id, reason, batch.key),
            )
        ]
    )
    return batch


def open_batches(ledger: Ledger) -> list[Batch]:
    """The batches that have not ended, in the order in which they were begun."""
    rows = ledger.select(
        "SELECT batch_key, state, base_url, first_attempt, request_count, file_sha256, file_id, batch_id FROM batches "
        "WHERE state != 'ended' ORDER BY first_attempt"
    )
    return [Batch(*row) for row in rows]


def request_ids_in(ledger: Ledger, batch: Batch) -> dict[int, str]:
    """The ids of a batch's requests that have not ended, by attempt."""
    rows = ledger.select(
        "SELECT attempt, request_id FROM attempts WHERE attempt >= ? AND attempt < ? AND state = ? ORDER BY attempt",
        (batch.first_attempt, batch.first_attempt + batch.request_count, IN_BATCH_STATE),
    )
    return dict(rows)
