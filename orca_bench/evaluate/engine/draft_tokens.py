"""The tokens of one sequence in, a guess at the next ones out: what followed the same last tokens before (prompt look-up).

Several guessed tokens are verified in one pass, which reads weights, keys and values once for all of them; only those are kept
that greedy decoding gives. Texts of small models repeat themselves and their prompts. Its own module because it needs no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: The most tokens that are guessed at once; 0 guesses none.
MAX_DRAFT_TOKENS = 8
_MATCHED_TOKENS = 3  # last tokens that must have stood together before


class DraftTokens:
    """The guesses for one sequence. A guess gets longer while it is right, and shorter where it was wrong."""

    def __init__(self, token_ids: Iterable[int]):
        self._token_ids: list[int] = []
        self._next_index_by_tokens: dict[tuple[int, ...], int] = {}
        self._draft_length = 1
        for token_id in token_ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """The sequence has one more token."""
        if len(self._token_ids) >= _MATCHED_TOKENS:
            self._next_index_by_tokens[tuple(self._token_ids[-_MATCHED_TOKENS:])] = len(self._token_ids)
        self._token_ids.append(token_id)

    def propose(self, max_tokens: int) -> list[int]:
        """The guessed next tokens, at most `max_tokens`; none where the last tokens have not stood together before."""
        start = self._next_index_by_tokens.get(tuple(self._token_ids[-_MATCHED_TOKENS:]))
        if start is None:
            return []
        return self._token_ids[start : start + max(0, min(self._draft_length, MAX_DRAFT_TOKENS, max_tokens))]

    def note_result(self, draft: Sequence[int], accepted_count: int) -> None:
        """Set the length of the next guess from how many tokens of this one were right: twice as long after all, else so many."""
        if draft:
            self._draft_length = (
                min(2 * self._draft_length, MAX_DRAFT_TOKENS)
                if accepted_count == len(draft)
                else max(1, accepted_count)
            )
