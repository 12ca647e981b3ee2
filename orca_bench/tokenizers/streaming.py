"""Generated token ids in, one after another; the text that each of them adds out. All pieces together are what `decode` gives.

`DecodeStream` of tokenizers 0.23.3 is made for this and does neither: it raises `InvalidPrefix` when a wrong byte follows a
character that was spelled in bytes, and what is pending at the end of a text is lost. Price: each token decodes at most some two
dozen others again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from orca_bench.tokenizers.tokenizer import Tokenizer

#: So many tokens before a new one are enough to decode it: a character has at most four bytes, each of which may be a token.
_CONTEXT_TOKENS = 8
_MAX_TOKENS = 24  # that are decoded again with each new one


class TextStream:
    """The text of one generation as it grows. A character of which bytes are missing is held back.

    With `context_ids`, tokens before the first one, the text is what they are continued with: SentencePiece takes the space
    from the first word of a text, but not from a word in its middle.
    """

    def __init__(self, tokenizer: Tokenizer, context_ids: Sequence[int] = ()):
        self._tokenizer = tokenizer
        self._token_ids = [token_id for token_id in context_ids[-_MAX_TOKENS:] if tokenizer.has_text(token_id)]
        # How many characters of these tokens were returned, or are the context's.
        self._returned_character_count = len(tokenizer.decode(self._token_ids).rstrip("\ufffd"))

    def copy(self) -> TextStream:
        """A stream that goes on from here by itself."""
        stream = copy.copy(self)
        stream._token_ids = list(self._token_ids)
        return stream

    def push(self, token_id: int) -> str:
        """Add a token; returns the text that is certain now, which may be empty."""
        if not self._tokenizer.has_text(token_id):
            return ""
        self._token_ids.append(token_id)
        if self._tokenizer.may_change(token_id):
            return ""
        decoded_text = self._tokenizer.decode(self._token_ids)
        new_text = self._new_text(decoded_text.rstrip("\ufffd"))
        return new_text + self._forget_beginning(decoded_text) if len(self._token_ids) > _MAX_TOKENS else new_text

    def end(self) -> str:
        """What was held back: nothing follows that could complete it."""
        return self._new_text(self._tokenizer.decode(self._token_ids))

    def _new_text(self, text: str) -> str:
        new_text = text[self._returned_character_count :]
        self._returned_character_count = max(self._returned_character_count, len(text))
        return new_text

    def _forget_beginning(self, decoded_text: str) -> str:
        """Keep the last tokens alone, where they are decoded without the others as with them.

        Returns what was held back of the text before them: nothing that follows completes it.
        """
        recent_ids = self._token_ids[-_CONTEXT_TOKENS:]
        recent_text = self._tokenizer.decode(recent_ids)
        if not recent_text or not decoded_text.endswith(recent_text):
            return ""
        earlier_text = decoded_text.removesuffix(recent_text)
        new_text = self._new_text(earlier_text)
        self._token_ids = recent_ids
        self._returned_character_count -= len(earlier_text)
        return new_text
