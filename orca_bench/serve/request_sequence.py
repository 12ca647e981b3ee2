"""One request's sequence: what was computed of it, what is to be fed next, and the events that follow from each new token.

Its own module because the passes of a batch and the plain passes of single requests give it their logits alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orca_bench.serve.prefix_cache import CachedSequence
from orca_bench.serve.sampling import Sampler
from orca_bench.serve.sequence_cache import SequenceCache
from orca_bench.serve.token_requests import EndReason, Event, PromptScores, RequestEnd, TokenRequest, TokenScore

if TYPE_CHECKING:
    import torch

NOT_FINITE = "the model gives NaN or infinity: its weights are broken"


class RequestHandle:
    """What a caller has of his request."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        """End the request after the step that is computed now; from any thread, at any time."""
        self.is_cancelled = True


class RequestSequence(CachedSequence):
    """The sequence of a request that waits or is open; `end` is its last event as soon as that is known.

    `stop_ids` are the tokens that end a text. `is_plain` is whether it is computed by plain passes, and so has no cache.
    `sampler` chooses its tokens. `cached_count` tokens of the prompt were copied from another sequence. `awaited` is a sequence
    that computes more of the same prefix, and how many of its tokens are waited for.
    """

    def __init__(
        self,
        request: TokenRequest,
        deliver: Callable[[Event], None],
        stop_ids: Sequence[int],
        device: torch.device,
        is_plain: bool,
    ):
        # The last new token is not fed.
        capacity = 0 if is_plain else len(request.prompt_ids) + max(0, request.max_new_tokens - 1)
        first_scores: list[TokenScore | None] = [None] if request.scores_prompt else []
        super().__init__(list(request.prompt_ids), SequenceCache(capacity), first_scores, request.top_count)
        self.request, self.is_plain, self.handle = request, is_plain, RequestHandle()
        self.end: RequestEnd | None = None
        self.cached_count, self.opening_time = 0, time.monotonic()
        self.awaited: tuple[CachedSequence, int] | None = None
        self._deliver, self._stop_ids = deliver, frozenset(stop_ids)
        self.sampler = Sampler(request.sampling, device)

    @property
    def new_count(self) -> int:
        """How many new tokens there are."""
        return len(self.token_ids) - len(self.request.prompt_ids)

    @property
    def unfed_ids(self) -> list[int]:
        """The ids that are to be fed: the rest of the prompt, or the newest token."""
        return self.token_ids[self.cache.token_count :]

    def add_prompt_scores(self, scores: Sequence[TokenScore]) -> None:
        """Add the scores of the next tokens of the prompt."""
        self.scores += scores

    def add_new_token(self, score: TokenScore) -> None:
        """Add the token that was chosen, or end the request with it."""
        if self.new_count == 0 and self.request.scores_prompt:
            self.deliver(PromptScores(list(self.scores)))
        if self.request.max_new_tokens == 0:
            self.finish("length")
        elif score.token_id in self._stop_ids:
            self.finish("stop", stop_score=score)
        else:
            self.token_ids.append(score.token_id)
            if self.request.scores_prompt:
                self.scores.append(score)
            self.deliver(score)
            if self.new_count == self.request.max_new_tokens:
                self.finish("length")

    def finish(self, reason: EndReason, error: str | None = None, stop_score: TokenScore | None = None) -> None:
        """Note how the request ends; the first end counts."""
        if self.end is None:
            prompt_count = len(self.request.prompt_ids)
            self.end = RequestEnd(reason, error, prompt_count, self.cached_count, self.new_count, stop_score)

    def deliver(self, event: Event) -> None:
        """Deliver an event; a receiver that fails ends its own request alone."""
        try:
            self._deliver(event)
        except Exception as error:  # whatever a caller's function raises
            self.finish("cancelled", f"its events could not be delivered: {error}")
