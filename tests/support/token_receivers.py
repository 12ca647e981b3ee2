"""What a caller of the batch scheduler has: requests, the events of each, and a way to wait for them."""

from __future__ import annotations

import random
import threading

from orca_bench.serve.batch_scheduler import BatchScheduler
from orca_bench.serve.request_sequence import RequestHandle
from orca_bench.serve.token_requests import Event, PromptScores, RequestEnd, TokenRequest, TokenScore


class TokenReceiver:
    """Collects the events of the request of `handle`. `end` is its last; `prompt_scores` are None where none were wanted."""

    handle: RequestHandle

    def __init__(self) -> None:
        self.scores: list[TokenScore] = []
        self.prompt_scores: list[TokenScore | None] | None = None
        self.end: RequestEnd | None = None
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            if isinstance(event, PromptScores):
                assert not self.scores
                self.prompt_scores = event.scores
            elif isinstance(event, TokenScore):
                self.scores.append(event)
            else:
                assert self.end is None
                self.end = event
            self._changed.notify_all()

    @property
    def token_ids(self) -> list[int]:
        """The new tokens so far."""
        return [score.token_id for score in self.scores]

    def wait_for_tokens(self, count: int) -> None:
        """Return when so many new tokens are there, or the request has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.scores) >= count or self.end is not None, timeout=600)

    def wait(self) -> RequestEnd:
        """The last event, as soon as it is there."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.end is not None, timeout=600)
        assert self.end is not None
        return self.end


def random_ids(generator: random.Random, count: int, vocabulary: int = 600) -> list[int]:
    """The ids of a random prompt."""
    return [generator.randrange(3, vocabulary) for _ in range(count)]


def submit(scheduler: BatchScheduler, *request_fields, **options) -> TokenReceiver:
    """The receiver of a new request of these fields."""
    receiver = TokenReceiver()
    receiver.handle = scheduler.submit(TokenRequest(*request_fields, **options), receiver)
    return receiver


def run(scheduler: BatchScheduler, *request_fields, **options) -> TokenReceiver:
    """The receiver of a request that has ended."""
    receiver = submit(scheduler, *request_fields, **options)
    receiver.wait()
    return receiver
