"""A text in pieces in, the part of it before the first stop text out, piece by piece.

What may be the beginning of a stop text is held back until it is certain. Its own module because the terminal and the server
end answers by the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """The text of one answer as it grows, up to the first of some `stop_texts`, none of them empty.

    `is_stopped` says whether one has come.
    """

    def __init__(self, stop_texts: Sequence[str]):
        self._stop_texts = tuple(stop_texts)
        self._pending_text = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """Add a piece; returns the text that is certainly before a stop text, which may be empty."""
        if self.is_stopped:
            return ""
        text = self._pending_text + text
        positions = [position for stop_text in self._stop_texts if (position := text.find(stop_text)) >= 0]
        self.is_stopped = bool(positions)
        certain_length = min(positions) if positions else len(text) - self._partial_length(text)
        self._pending_text = "" if positions else text[certain_length:]
        return text[:certain_length]

    def end(self) -> str:
        """What was held back: nothing follows that could complete a stop text."""
        text, self._pending_text = self._pending_text, ""
        return text

    def _partial_length(self, text: str) -> int:
        """How many characters at the end of a text may begin a stop text."""
        longest = max((len(stop_text) for stop_text in self._stop_texts), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            ending = text[-length:]
            if any(stop_text.startswith(ending) for stop_text in self._stop_texts):
                return length
        return 0
