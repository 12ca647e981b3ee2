"""The token ids of prompts in, the text that each token adds to those before it out.

Many prompts begin alike: what an earlier one has in common with a new one is not decoded again. Its own module because it
remembers prompts, and an answer's text needs no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.evaluate.engine.prefix_tree import shared_prefix_length
from orca_bench.tokenizers import Tokenizer
from orca_bench.tokenizers.streaming import TextStream

_MAX_PROMPTS = 16
_MAX_TOKENS = 2**16  # of all prompts that are remembered
_STATE_INTERVAL_TOKENS = 32


@dataclass(frozen=True)
class _DecodedPrompt:
    """A prompt, the text of each token, and the states of the stream before each multiple of `_STATE_INTERVAL_TOKENS`."""

    token_ids: tuple[int, ...]
    texts: list[str]
    streams: list[TextStream]


class PromptTexts:
    """The texts of prompts' tokens; for one thread at a time."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        #: The one that was used last at the end.
        self._prompts: OrderedDict[tuple[int, ...], _DecodedPrompt] = OrderedDict()

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each token adds to those before it; together they are what `decode` gives."""
        token_ids = tuple(token_ids)
        texts, streams = self._shared_beginning(token_ids)
        stream = streams[-1].copy() if streams else TextStream(self._tokenizer)
        for position in range(len(texts), len(token_ids)):
            if position % _STATE_INTERVAL_TOKENS == 0 and position // _STATE_INTERVAL_TOKENS == len(streams):
                streams.append(stream.copy())
            texts.append(stream.push(token_ids[position]))
        self._remember(_DecodedPrompt(token_ids, texts, streams))
        return [*texts[:-1], texts[-1] + stream.end()] if texts else []

    def _shared_beginning(self, token_ids: tuple[int, ...]) -> tuple[list[str], list[TextStream]]:
        """The texts up to the last state that a prompt shares with one that is remembered, and the states up to there."""
        longest, source = 0, None
        for prompt in self._prompts.values():
            length = shared_prefix_length(prompt.token_ids, token_ids)
            if length > longest:
                longest, source = length, prompt
        if source is None:
            return [], []
        self._prompts.move_to_end(source.token_ids)
        streams = source.streams[: longest // _STATE_INTERVAL_TOKENS + 1]
        return source.texts[: (len(streams) - 1) * _STATE_INTERVAL_TOKENS], streams

    def _remember(self, prompt: _DecodedPrompt) -> None:
        self._prompts[prompt.token_ids] = prompt
        self._prompts.move_to_end(prompt.token_ids)
        while (
            len(self._prompts) > _MAX_PROMPTS
            or sum(len(prompt.token_ids) for prompt in self._prompts.values()) > _MAX_TOKENS
        ):
            self._prompts.popitem(last=False)
