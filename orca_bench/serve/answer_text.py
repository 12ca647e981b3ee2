"""The tokens of one answer in, one after another, pieces of its text with the tokens that each is made of out.

A piece has whole characters and ends before the first stop text; the texts of its tokens, together, are the piece. Its own module
because the scheduler knows token ids alone, and the answers of HTTP texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orca_bench.serve.stop_texts import StopTexts
from orca_bench.serve.token_requests import TokenScore
from orca_bench.tokenizers import Tokenizer
from orca_bench.tokenizers.streaming import TextStream


@dataclass(frozen=True)
class ScoredToken:
    """A token and the text that it adds to what is before it; empty where its character is not whole yet."""

    text: str
    score: TokenScore


@dataclass(frozen=True)
class TextPiece:
    """The next part of an answer, and its tokens; both may be empty."""

    text: str = ""
    tokens: list[ScoredToken] = field(default_factory=list)


class AnswerText:
    """One answer as it grows. `context_ids` are tokens before it, whose text it continues; see `TextStream`."""

    def __init__(self, tokenizer: Tokenizer, stop_texts: Sequence[str] = (), context_ids: Sequence[int] = ()):
        self._stream, self._stop_texts = TextStream(tokenizer, context_ids), StopTexts(stop_texts)
        self._waiting_tokens: list[tuple[int, ScoredToken]] = []  # with the position in the text after each
        self._received_count = self._returned_count = 0  # characters

    @property
    def is_stopped(self) -> bool:
        """Whether a stop text has come."""
        return self._stop_texts.is_stopped

    def push(self, score: TokenScore) -> TextPiece:
        """Add a token."""
        token_text = self._stream.push(score.token_id)
        self._received_count += len(token_text)
        self._waiting_tokens.append((self._received_count, ScoredToken(token_text, score)))
        return self._piece(self._stop_texts.push(token_text), is_end=self.is_stopped)

    def end(self) -> TextPiece:
        """What was held back: nothing follows."""
        rest = "" if self.is_stopped else self._stream.end()
        if rest and self._waiting_tokens:
            self._received_count += len(rest)
            last_token = self._waiting_tokens[-1][1]
            self._waiting_tokens[-1] = (self._received_count, replace(last_token, text=last_token.text + rest))
        return self._piece(self._stop_texts.push(rest) + self._stop_texts.end(), is_end=True)

    def _piece(self, text: str, is_end: bool) -> TextPiece:
        """The text that is certain, with the tokens that lie in it; at the end, also those that have no text.

        The last token before a stop text may have a part of it, which is cut off.
        """
        start, self._returned_count = self._returned_count, self._returned_count + len(text)
        count = sum(end <= self._returned_count for end, _ in self._waiting_tokens)
        if not is_end:
            # The last tokens without a text may be the bytes of a character that is not whole.
            while count and not self._waiting_tokens[count - 1][1].text:
                count -= 1
        elif count < len(self._waiting_tokens) and self._start_of(count) < self._returned_count:
            count += 1
        tokens = [token for _, token in self._waiting_tokens[:count]]
        if is_end and tokens:
            excess = sum(len(token.text) for token in tokens) - (self._returned_count - self._first_start(start))
            tokens[-1] = replace(tokens[-1], text=tokens[-1].text[: len(tokens[-1].text) - max(0, excess)])
        del self._waiting_tokens[:count]
        return TextPiece(text, tokens)

    def _start_of(self, index: int) -> int:
        """The position in the text at which a waiting token begins."""
        end, token = self._waiting_tokens[index]
        return end - len(token.text)

    def _first_start(self, default: int) -> int:
        return self._start_of(0) if self._waiting_tokens else default


class TokenNames:
    """What single tokens are called in an answer: their texts within a text, or as the tokenizer's file spells them."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._context_ids = tokenizer.encode("a")
        self._names: dict[int, str] = {}

    def __getitem__(self, token_id: int) -> str:
        if token_id not in self._names:
            stream = TextStream(self._tokenizer, self._context_ids)
            text = stream.push(token_id) + stream.end()
            is_text = text and "\ufffd" not in text
            self._names[token_id] = text if is_text else self._tokenizer.spelling(token_id) or f"<{token_id}>"
        return self._names[token_id]
