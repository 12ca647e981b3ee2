"""Requests of any number of callers in, the tokens of each delivered as they are computed, all with one model in one thread.

Every step computes one more token of all open requests (continuous batching); a request enters as soon as a place and memory
are free, and leaves when it ends or is cancelled. What requests share at their beginning is computed once. Scores and greedy
tokens are those of the evaluator's engine, whatever else is computed beside them; a sampled text depends on its request and its
seed. Its own module because it decides what is computed when: the requests know nothing of one another, and HTTP nothing of it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.engine.tree_engine import load_checked_engine
from orca_bench.models import architecture
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve import plain_requests
from orca_bench.serve.batch_steps import compute_step
from orca_bench.serve.prefix_cache import FEW_TOKENS, CachedSequence, PrefixCache, known_scores, longest_prefix
from orca_bench.serve.request_sequence import RequestHandle, RequestSequence
from orca_bench.serve.sequence_cache import SequenceCache
from orca_bench.serve.token_requests import (
    MAX_TOP_TOKENS,
    Event,
    QueueFull,
    SchedulerClosed,
    SchedulerStatistics,
    TokenRequest,
)

_logger = logging.getLogger(__name__)

#: Models take turns: the precision of products is a setting of the whole process (`matrix_products`).
_COMPUTING = threading.Lock()


class BatchScheduler:
    """A model that answers requests; at most `max_open` are computed at once, and `max_waiting` more wait for a place.

    Keys and values are kept for at most `max_cache_tokens` tokens (by default `memory_share` of what `memory_budget` gives), and
    while a prefix is copied for those of its source. `dtype` is that of `load_engine`. Raises UserError where the model cannot
    be used.
    """

    def __init__(
        self,
        model_folder: ModelFolder,
        max_open: int = 16,
        max_waiting: int = 64,
        max_cache_tokens: int | None = None,
        dtype: str = "auto",
        memory_share: float = 1.0,
    ):
        with _COMPUTING:
            self._engine = load_checked_engine(model_folder, dtype)
        self.name, self.tokenizer, self.window = model_folder.name, model_folder.tokenizer, model_folder.window_tokens
        self.vocabulary_size = architecture.vocabulary_size(self._engine.model)
        self.max_open, self._max_waiting = max_open, max_waiting
        self._max_cache_tokens = max_cache_tokens or int(self._engine.max_cache_tokens * memory_share)
        self._prefix_cache = PrefixCache()
        self._open: list[RequestSequence] = []  # changed by the model's thread alone
        self._waiting: deque[RequestSequence] = deque()
        self._is_closing = False
        self._changed = threading.Condition()  # held where the queue or the flag is read or changed
        self._cache_tokens = 0  # the sum of what is reserved and what is cached, whenever both are up to date
        self._new_tokens = self._prompt_tokens = self._cached_prompt_tokens = self._steps = self._ended_count = 0
        self._compute_seconds = self._open_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def dtype(self) -> str:
        """The type of the model's weights, by torch's name."""
        return str(self._engine.model.dtype).removeprefix("torch.")

    @property
    def note(self) -> str | None:
        """A sentence for the user where not everything is computed in the fastest way."""
        return self._engine.path_note

    @property
    def is_working(self) -> bool:
        """Whether requests are taken: not after `close`, nor where the model's thread has ended by an error."""
        return self._thread.is_alive() and not self._is_closing

    def submit(self, request: TokenRequest, deliver: Callable[[Event], None]) -> RequestHandle:
        """Have a request computed; from any thread. `deliver` is called in the model's thread and must not block.

        Raises QueueFull, SchedulerClosed, and UserError for a request that this model cannot compute.
        """
        total_tokens = self._check(request)
        is_plain = self._engine.max_tree_tokens is not None and total_tokens > self._engine.max_tree_tokens
        sequence = RequestSequence(request, deliver, self.tokenizer.stop_ids, self._engine.device, is_plain)
        if sequence.cache.capacity > self._max_cache_tokens:
            raise UserError(
                f"{total_tokens} tokens of prompt and answer, and there is memory for {self._max_cache_tokens}",
                hint="ask for fewer new tokens, or start the server with a larger --cache-tokens",
            )
        with self._changed:
            if self._is_closing:
                raise SchedulerClosed("the server is shutting down")
            if len(self._open) + len(self._waiting) >= self.max_open + self._max_waiting:
                raise QueueFull(self._seconds_until_room())
            self._waiting.append(sequence)
            self._changed.notify()
        return sequence.handle

    def statistics(self) -> SchedulerStatistics:
        """What the scheduler does now, and has done; from any thread."""
        return SchedulerStatistics(
            len(self._open),
            len(self._waiting),
            self._cache_tokens,
            self._new_tokens,
            self._prompt_tokens,
            self._cached_prompt_tokens,
            self._steps,
            self._compute_seconds,
        )

    def close(self) -> None:
        """Take no more requests, cancel those that are open or wait, and return when all have ended. May be called again."""
        with self._changed:
            self._is_closing = True
            for sequence in (*self._waiting, *self._open):
                sequence.handle.cancel()
            self._changed.notify()
        self._thread.join()

    def _check(self, request: TokenRequest) -> int:
        """How many tokens a request has at most; raises UserError where the model cannot compute it."""
        prompt_count = len(request.prompt_ids)
        if not prompt_count:
            raise UserError("an empty prompt", hint="at least one token is needed")
        if not all(0 <= token_id < self.vocabulary_size for token_id in request.prompt_ids):
            raise UserError(f"a token id that is none of the model's {self.vocabulary_size}")
        if request.max_new_tokens < 0 or request.top_count < 0:
            raise UserError("a negative number of tokens")
        if request.top_count > MAX_TOP_TOKENS:
            raise UserError(f"{request.top_count} likeliest tokens", hint=f"at most {MAX_TOP_TOKENS} come with a score")
        request.sampling.check()
        if prompt_count + request.max_new_tokens > self.window:
            raise UserError(
                f"{prompt_count} tokens of prompt and up to {request.max_new_tokens} new ones are more than the model's "
                f"context window of {self.window}"
            )
        return prompt_count + request.max_new_tokens

    def _seconds_until_room(self) -> int:
        """How long it may take until a request leaves the queue, by the mean time of those that have ended."""
        mean_open_seconds = self._open_seconds / self._ended_count if self._ended_count else 1.0
        return max(1, math.ceil(mean_open_seconds * (len(self._waiting) + 1) / self.max_open))

    # --- the model's thread ---------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            while self._wait_for_work():
                while (sequence := self._open_next()) is not None:
                    with self._ending_on_error([sequence]):
                        self._begin(sequence)
                with _COMPUTING:
                    self._compute()
                self._end_requests()
        except Exception as error:  # a fault of this program: whoever waits must hear of it
            _logger.error("the thread of the model %s ends", self.name, exc_info=error)
            self._end_all(_error_text(error))

    def _end_all(self, error: str) -> None:
        """Take no more requests, and end all that are open or wait with an error."""
        with self._changed:
            self._is_closing = True
            sequences = [*self._open, *self._waiting]
            self._open.clear()
            self._waiting.clear()
        self._prefix_cache.clear()
        self._count_cache_tokens()
        for sequence in sequences:
            sequence.finish("cancelled", error)
            _deliver_end(sequence)

    def _reserved_tokens(self) -> int:
        return sum(sequence.cache.capacity for sequence in self._open)

    def _count_cache_tokens(self) -> None:
        self._cache_tokens = self._reserved_tokens() + self._prefix_cache.token_count

    def _wait_for_work(self) -> bool:
        """Wait until a request is there; False where none will come any more. Ends the waiting ones that were cancelled."""
        with self._changed:
            while not (self._waiting or self._open or self._is_closing):
                self._changed.wait()
            cancelled = [sequence for sequence in self._waiting if sequence.handle.is_cancelled]
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.handle.is_cancelled)
            has_work = bool(self._waiting or self._open or not self._is_closing)
        for sequence in cancelled:
            _deliver_end(sequence)
        return has_work

    def _open_next(self) -> RequestSequence | None:
        """Open the next request of the queue that has a place and memory, and no other to wait for; None where there is none."""
        with self._changed:
            for sequence in self._waiting:
                is_full = self._reserved_tokens() + sequence.cache.capacity > self._max_cache_tokens
                if len(self._open) == self.max_open or is_full:
                    return None
                if not self._awaits_another(sequence):
                    self._waiting.remove(sequence)
                    self._open.append(sequence)
                    return sequence
        return None

    def _awaits_another(self, sequence: RequestSequence) -> bool:
        """Whether an open request computes more of a prompt's prefix than there is yet; of a plain one, whether one is open."""
        if sequence.is_plain:
            return any(other.is_plain for other in self._open)
        if sequence.awaited is not None:
            awaited, token_count = sequence.awaited
            if any(awaited is other for other in self._open) and awaited.cache.token_count < token_count:
                return True
        available_count, _ = longest_prefix([*self._open, *self._prefix_cache.sequences], sequence.request)
        sharing = [other for other in self._open if not other.is_plain]  # a plain one has no keys and values to copy
        expected_count, source = longest_prefix(sharing, sequence.request, is_complete=False)
        awaits = source is not None and expected_count - available_count >= FEW_TOKENS
        sequence.awaited = (source, expected_count) if awaits and source is not None else None
        return awaits

    def _begin(self, sequence: RequestSequence) -> None:
        """Give a request that was opened a copy of what was computed of its prompt."""
        candidates = [*self._open, *self._prefix_cache.sequences] if not sequence.is_plain else []
        token_count, source = longest_prefix(candidates, sequence.request)
        if source is not None:
            self._prefix_cache.use(source, token_count)
        self._prefix_cache.shrink_to(self._max_cache_tokens - self._reserved_tokens())
        self._count_cache_tokens()
        if source is not None:
            sequence.cache = source.cache.copy_prefix(token_count, sequence.cache.capacity)
            sequence.cached_count = token_count
            if sequence.request.scores_prompt:
                sequence.scores = known_scores(source, token_count, sequence.top_count)
        sequence.opening_time = time.monotonic()
        self._prompt_tokens += len(sequence.request.prompt_ids)
        self._cached_prompt_tokens += token_count

    def _compute(self) -> None:
        """One step of all open requests; one that needs plain passes is computed to its end."""
        if not self._open:
            return
        start = time.perf_counter()
        new_count = sum(sequence.new_count for sequence in self._open)
        batch = [sequence for sequence in self._open if not sequence.is_plain and sequence.end is None]
        if batch:
            with self._ending_on_error(batch):
                compute_step(self._engine.tree_forward, batch)
        for sequence in [sequence for sequence in self._open if sequence.is_plain][:1]:
            with self._ending_on_error([sequence]):
                plain_requests.compute_request(self._engine.plain_passes, sequence)
        self._new_tokens += sum(sequence.new_count for sequence in self._open) - new_count
        self._steps += 1
        self._compute_seconds += time.perf_counter() - start

    @contextmanager
    def _ending_on_error(self, sequences: Sequence[RequestSequence]) -> Iterator[None]:
        """End these requests where the block fails; those that come after may go well."""
        try:
            yield
        except Exception as error:  # out of memory, or whatever a model raises
            self._prefix_cache.clear()
            for sequence in sequences:
                sequence.finish("cancelled", _error_text(error))

    def _end_requests(self) -> None:
        """Close the requests that have ended or were cancelled; what was computed of them is kept for those that come."""
        for sequence in list(self._open):
            if sequence.handle.is_cancelled:
                sequence.finish("cancelled")
            if sequence.end is None:
                continue
            if sequence.end.error is None:
                cached = CachedSequence(sequence.token_ids, sequence.cache, sequence.scores, sequence.top_count)
                with self._ending_on_error([sequence]):  # the request has its end: only the cached sequences are lost
                    self._prefix_cache.add(cached)
            self._open.remove(sequence)
            # A waiting request may still know the sequence as `awaited`: its keys and values go now.
            sequence.cache, sequence.scores = SequenceCache(0), []
            self._count_cache_tokens()
            self._ended_count += 1
            self._open_seconds += time.monotonic() - sequence.opening_time
            _deliver_end(sequence)


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, 200)}"


def _deliver_end(sequence: RequestSequence) -> None:
    """Deliver a request's last event."""
    sequence.finish("cancelled")
    if sequence.end is not None:
        sequence.deliver(sequence.end)
