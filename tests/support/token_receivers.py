"""What a caller of the batch scheduler has: the events of one request, and a way to wait for them."""

from __future__ import annotations

import threading

from orca_bench.serve.token_requests import Event, PromptScores, RequestEnd, TokenScore


class TokenReceiver:
    """Collects the events of one request. `end` is its last event; `prompt_scores` are None where none were wanted."""

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
