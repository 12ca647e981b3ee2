"""A whole text in, the windows out in which it is scored, each token once: lm-eval's rolling log-likelihood.

A text that is longer than the model's context window is divided as lm_eval 0.4.13's `hf` divides it, by lm-eval's own functions:
windows of the full length that follow one another, of which the last reaches back so far that it is full too. Its own module
because it knows neither engines nor tasks.
"""

from __future__ import annotations

from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from orca_bench.errors import UserError
from orca_bench.evaluate.request_encoding import Encoding, ScoredSequence


def windows_of_text(encoding: Encoding, text: str) -> list[ScoredSequence]:
    """The sequences whose log-probabilities add up to that of a text; none for a text without tokens.

    The first token is predicted from BOS (EOS where there is none), as is a BOS that the tokenizer adds itself. Raises UserError
    where the window has no place for a token, and where the tokenizer has neither BOS nor EOS.
    """
    if encoding.max_fed_tokens < 1:
        raise UserError(f"a context window of {encoding.max_fed_tokens} tokens holds no part of a text")
    prefix_id, token_ids = encoding.encode_text(text)
    windows = map(
        make_disjoint_window,
        get_rolling_token_windows(token_ids, prefix_id, max_seq_len=encoding.max_fed_tokens, context_len=1),
    )
    return [ScoredSequence(context_ids + scored_ids, len(context_ids)) for context_ids, scored_ids in windows]
