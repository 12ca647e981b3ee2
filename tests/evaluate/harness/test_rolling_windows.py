"""A whole text in windows: each token is scored once, and the windows are those of lm-eval's `hf`."""

import pytest

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate.harness.rolling_windows import windows_of_text
from orca_bench.evaluate.request_encoding import HarnessEncoding

TEXT = "The cat sleeps on the mat. The dog runs in the park. The bird sings in the tree."


@pytest.mark.parametrize("window_tokens", [1, 2, 3, 7, 16, 4096])
def test_each_token_is_scored_once_after_as_much_context_as_fits(mini, window_tokens):
    encoding = HarnessEncoding(tokenizers.load_tokenizer(mini["mini:tokenizer"]), window_tokens)
    prefix_id, token_ids = encoding.encode_text(TEXT)
    windows = windows_of_text(encoding, TEXT)
    assert [id_ for window in windows for id_ in window.token_ids[window.scored_start :]] == token_ids
    assert windows[0].token_ids[0] == prefix_id == encoding.tokenizer.bos_id and windows[0].scored_start == 1
    assert all(len(window.token_ids) - 1 <= window_tokens for window in windows)
    assert len(windows) == -(-len(token_ids) // window_tokens)
    # All windows but a first that holds the whole text are full: the last one reaches back.
    assert all(len(window.token_ids) - 1 == window_tokens for window in windows[1:])


def test_a_text_without_tokens_has_no_windows(byte_fallback, mini):
    encoding = HarnessEncoding(tokenizers.load_tokenizer(mini["mini:tokenizer"]), 8)
    encoding.uses_bos = False
    assert windows_of_text(encoding, "") == []


def test_a_window_without_a_place_for_a_token_is_refused(mini):
    with pytest.raises(UserError, match="a context window of 0 tokens"):
        windows_of_text(HarnessEncoding(tokenizers.load_tokenizer(mini["mini:tokenizer"]), 0), TEXT)
