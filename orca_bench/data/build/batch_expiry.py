"""A batch that has not ended in, why it is waited for no longer out.

A server ends a batch at its `expires_at`, a day after it was created; one that forgets to would be polled for ever. Its own
module because nothing else of a build is computed from a clock.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime

from orca_bench.data.build.batch_client import BatchStatus
from orca_bench.data.build.batch_ledger import Batch
from orca_bench.errors import UserError

_COMPLETION_WINDOW_S = 24 * 3600.0  # what every batch is created with
#: After a batch's end a server still writes the file of what it has, and this machine's clock may be wrong by a time zone.
_MARGIN_S = 24 * 3600.0
#: The server writes the files of what it has; cancelling the batch changes nothing any more.
_ENDING_STATUSES = ("finalizing", "cancelling")
_OVERDUE_HINT = (
    "cancel it at the server, and the same command collects what it has; -o teacher.batch.ask_lost_again=true asks its requests "
    "again, which may have been paid"
)


class BatchExpiry:
    """Which open batches of one build are overdue."""

    def __init__(self) -> None:
        self._first_look_s_by_key: dict[str, float] = {}
        self._reason_by_key: dict[str, str] = {}

    def is_overdue(self, batch: Batch, status: BatchStatus) -> bool:
        """Whether a batch that has not ended is not expected to end any more.

        A batch whose files the server is about to give is never overdue. Where the server does not say when a batch ends, the
        time since the first call of this in the build counts.
        """
        first_look_s = self._first_look_s_by_key.setdefault(batch.key, time.monotonic())
        looked_for_s = time.monotonic() - first_look_s
        self._reason_by_key.pop(batch.key, None)  # of an earlier look
        if status.status in _ENDING_STATUSES:
            return False
        if status.expires_at is not None:
            if time.time() - status.expires_at > _MARGIN_S:
                end_text = f"{datetime.fromtimestamp(status.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
                self._reason_by_key[batch.key] = f"{batch.batch_id} is {status.status}, and was to end by {end_text}"
        elif looked_for_s > _COMPLETION_WINDOW_S + _MARGIN_S:
            self._reason_by_key[batch.key] = (
                f"{batch.batch_id} is {status.status} after {looked_for_s / 3600:.0f} hours"
            )
        return batch.key in self._reason_by_key

    def error_of(self, open_keys: Collection[str]) -> UserError | None:
        """The error that ends a build where all open batches are overdue; None while another one may end."""
        reasons = [self._reason_by_key[key] for key in open_keys if key in self._reason_by_key]
        if not reasons or len(reasons) < len(open_keys):
            return None
        return UserError("; ".join(reasons), where="teacher.batch", hint=_OVERDUE_HINT)
