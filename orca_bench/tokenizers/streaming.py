"""Generated token ids in, one after another; the text that each of them adds out. All pieces together are what `decode` gives.

`DecodeStream` of tokenizers 0.23.3 is made for this and does neither: it raises `InvalidPrefix` when a wrong byte follows a
character that was spelled in bytes, and what is pending at the end of a text is lost.
"""

from __future__ import annotations

from orca_bench.tokenizers.tokenizer import Tokenizer


class TextStream:
    """The text of one generation as it grows. A character of which bytes are missing is held back."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._token_ids: list[int] = []
        self._returned_character_count = 0  # characters returned so far

    def push(self, token_id: int) -> str:
        """Add a token; returns the text that is certain now, which may be empty."""
        if not self._tokenizer.has_text(token_id):
            return ""
        self._token_ids.append(token_id)
        if self._tokenizer.may_change(token_id):
            return ""
        return self._new_text(self._tokenizer.decode(self._token_ids).rstrip("\ufffd"))

    def end(self) -> str:
        """What was held back: nothing follows that could complete it."""
        return self._new_text(self._tokenizer.decode(self._token_ids))

    def _new_text(self, text: str) -> str:
        new_text = text[self._returned_character_count :]
        self._returned_character_count = max(self._returned_character_count, len(text))
        return new_text
