"""A request in, its events out, by the model's own passes: for models and sequences that our attention does not fit.

Recurrent models are such. A request is computed to its end before the next one. Its own module because it shares nothing with
the passes of a batch but the request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orca_bench.evaluate.engine.forward_passes import PlainPasses
from orca_bench.serve.batch_steps import score_tokens
from orca_bench.serve.request_sequence import NOT_FINITE, RequestSequence

if TYPE_CHECKING:
    import torch


def compute_request(plain_passes: PlainPasses, sequence: RequestSequence) -> None:
    """Compute a request to its end, or until it is cancelled."""
    request, prompt_ids = sequence.request, list(sequence.request.prompt_ids)
    if request.scores_prompt and len(prompt_ids) > 1:
        logprobs = plain_passes.log_probabilities(prompt_ids[:-1])
        scores = score_tokens(logprobs, prompt_ids[1:], [request.top_count] * (len(prompt_ids) - 1))
        if not all(math.isfinite(score.log_probability) for score in scores):
            sequence.finish("cancelled", NOT_FINITE)
            return
        sequence.add_prompt_scores(scores)

    def is_finished(prompt_index: int, continuation_ids: list[int]) -> bool:
        return sequence.end is not None or sequence.handle.is_cancelled

    # Where no token is wanted one is computed all the same: it ends the request.
    max_new_tokens = max(1, request.max_new_tokens)
    plain_passes.generate_ids(prompt_ids, 0, is_finished, max_new_tokens, _EventChooser(sequence))


class _EventChooser:
    """A `TokenChooser` by the request's sampling, which adds each token to the sequence, and so delivers it."""

    needs_logits = False

    def __init__(self, sequence: RequestSequence):
        self._sequence = sequence

    def choose(self, logits: torch.Tensor, continuation_ids: Sequence[int]) -> int:
        row = logits.float()
        token_id = self._sequence.sampler(row)
        self._sequence.add_new_token(score_tokens(row[None], [token_id], [self._sequence.request.top_count])[0])
        return token_id
