"""Strings in, token ids out, and back: how a protocol's requests become what the model is fed, and its tokens an answer.

Three rules, one class each; that of protocol `chat` is in chat_encoding.py. `OrcaEncoding`: BOS + context + continuation, each
encoded alone, as in training (no BOS where the model has none). `HarnessEncoding`: context and continuation encoded together,
as today's lm-eval, after BOS where the tokenizer adds one. `LeaderboardEncoding`: the same without BOS, with the cuts and the
stop rules of the harness of Open LLM Leaderboard v1. No model is needed here, so the ids of a request can be shown, and answered
by another engine, without loading one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.errors import UserError
from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.recipe import CONTEXT_WINDOW
from orca_bench.tokenizers import Tokenizer

#: The most tokens of a generated answer where a protocol says nothing else (b281b092, models/huggingface.py, max_gen_toks).
MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class ScoredSequence:
    """One request as ids: `token_ids[i]` for i ≥ `scored_start` is scored from what stands before it."""

    token_ids: list[int]
    scored_start: int


@dataclass(frozen=True)
class GenerationPrompt:
    """What a generation starts from: ids, how many tokens it may have, and how many of its first are discarded.

    `token_choice` is the rule of its next token, None where that is the likeliest.
    """

    token_ids: list[int]
    max_new_tokens: int
    discarded_token_count: int = 0
    token_choice: TokenChoice | None = None


class Encoding(ABC):
    """One protocol's rule for a tokenizer and a context window of `window_tokens` tokens.

    `shortened_context_count` counts the contexts that were too long and lost tokens, `server_shortened_context_count` those of
    them, or besides them, that lost some to a server's window alone (`limit_pair_length`).
    """

    #: Whether a context that was cut by n tokens costs the answer its first n.
    discards_first_text_tokens = False

    #: Strings that end a text besides those of its request.
    end_strings: tuple[str, ...] = ()

    #: What stands for a context without tokens: the first of these that the tokenizer has.
    empty_context_attributes: tuple[str, ...] = ("bos_id", "eos_id")

    def __init__(self, tokenizer: Tokenizer, window_tokens: int):
        self.tokenizer, self.window_tokens = tokenizer, window_tokens
        self.shortened_context_count = self.server_shortened_context_count = 0
        self._max_pair_tokens = window_tokens + 1  # ids, of which the last is not fed
        self._last_context_and_ids: tuple[str, list[int]] | None = None  # a context and its ids

    @abstractmethod
    def _pair_ids(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The ids of a context and of its continuation, uncut."""

    @abstractmethod
    def _context_ids(self, context: str) -> list[int]:
        """The ids of a context that is generated after, uncut."""

    def _cached_context_ids(self, context: str) -> list[int]:
        """`_context_ids`, computed once for neighbouring requests with the same context: the choices of a question."""
        if self._last_context_and_ids is None or self._last_context_and_ids[0] != context:
            self._last_context_and_ids = (context, self._context_ids(context))
        return self._last_context_and_ids[1]

    def encode_pair(self, context: str, continuation: str, fixed_prefix_characters: int = 0) -> ScoredSequence:
        """The ids that are scored for one pair; at most `window_tokens` of them are fed, for the last is never fed.

        `fixed_prefix_characters` is how many characters of the context must stay. Raises UserError for a continuation that has
        no token of its own or does not fit the window.
        """
        context_ids, continuation_ids = self._pair_ids(context, continuation)
        max_context_tokens = self._room_for_context(continuation_ids, continuation)
        if max_context_tokens < len(context_ids) and self._max_pair_tokens <= self.window_tokens:
            self.server_shortened_context_count += 1
        context_ids = self._fit_context(context, context_ids, max_context_tokens, fixed_prefix_characters)
        return ScoredSequence(context_ids + continuation_ids, len(context_ids))

    def _room_for_context(self, continuation_ids: Sequence[int], continuation: str) -> int:
        """How many tokens of a context fit before a continuation; raises UserError as `encode_pair` does."""
        if not continuation_ids:
            raise UserError(f"the continuation {continuation!r} has no token of its own, so it cannot be scored")
        max_context_tokens = self._max_pair_tokens - len(continuation_ids)
        if max_context_tokens < 1:
            raise UserError(
                f"a continuation of {len(continuation_ids)} tokens does not fit the context window: {continuation[:60]!r}…"
            )
        return max_context_tokens

    def encode_text(self, text: str) -> tuple[int, list[int]]:
        """What stands before a whole text that is scored, one id, and the text's own ids; none is cut."""
        return self._empty_context_ids()[0], self._context_ids(text)

    @property
    def max_fed_tokens(self) -> int:
        """How many ids are fed at most where all but the last id of a sequence are."""
        return self._max_pair_tokens - 1

    def limit_pair_length(self, max_pair_tokens: int) -> None:
        """Let no pair have more ids than this: a server is fed the last one too and must be able to generate a token."""
        self._max_pair_tokens = min(self._max_pair_tokens, max_pair_tokens)

    def encode_prompt(
        self, context: str, fixed_prefix_characters: int = 0, max_new_tokens: int | None = None
    ) -> GenerationPrompt:
        """What a generation of at most `max_new_tokens` tokens (None: 256) starts from.

        `fixed_prefix_characters` is how many characters of the context must stay. Raises UserError where the window is too small.
        """
        max_new_tokens = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        self.check_max_new_tokens(max_new_tokens)
        context_ids = self._context_ids(context) or self._empty_context_ids()
        fitted_ids = self._fit_context(
            context, context_ids, self.window_tokens - max_new_tokens, fixed_prefix_characters
        )
        return GenerationPrompt(
            fitted_ids, max_new_tokens, len(context_ids) - len(fitted_ids) if self.discards_first_text_tokens else 0
        )

    def check_max_new_tokens(self, max_new_tokens: int, where: str | None = None) -> None:
        """Raise UserError where answers of `max_new_tokens` tokens leave no place for a context."""
        if self.window_tokens <= max_new_tokens:
            raise UserError(
                f"{max_new_tokens} new tokens do not fit a context window of {self.window_tokens}",
                where=where,
                hint="--max-new-tokens TASK=N gives a task's answers fewer",
            )

    def is_finished(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> bool:
        """Whether a generation is over; called after each token."""
        return self.is_complete(generated_ids, stop_strings)

    def is_complete(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> bool:
        """Whether generated ids hold a whole answer: they end in EOS, or have a stop string."""
        if generated_ids[-1] in self.tokenizer.stop_ids:
            return True
        text = self.tokenizer.decode(generated_ids)
        return any(stop_string in text for stop_string in stop_strings)

    def text(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> str:
        """The answer: the text of generated ids up to the first occurrence of each stop string in turn."""
        return cut_at_stop_strings(self.tokenizer.decode(generated_ids), stop_strings)

    def _empty_context_ids(self) -> list[int]:
        """The id that stands for a context without tokens."""
        candidate_ids = [getattr(self.tokenizer, attribute_name) for attribute_name in self.empty_context_attributes]
        for candidate_id in candidate_ids:
            if candidate_id is not None:
                return [candidate_id]
        raise UserError(
            "an empty context cannot be fed: the tokenizer has no BOS and no EOS", where=self.tokenizer.source
        )

    def _fit_context(
        self, context: str, context_ids: list[int], max_context_tokens: int, fixed_prefix_characters: int
    ) -> list[int]:
        """The ids of a context, cut to `max_context_tokens` of them and counted where they are more."""
        if len(context_ids) <= max_context_tokens:
            return context_ids
        self.shortened_context_count += 1
        return self._shorten(context, context_ids, max_context_tokens, fixed_prefix_characters)

    def _shorten(
        self, context: str, context_ids: list[int], max_context_tokens: int, fixed_prefix_characters: int
    ) -> list[int]:
        """The ids that stay of a context that has more than `max_context_tokens`."""
        return context_ids[-max_context_tokens:]


class OrcaEncoding(Encoding):
    """As training: BOS, prompt and response encoded apart. A prompt that is too long loses tokens after its fixed prefix."""

    def __init__(self, tokenizer: Tokenizer, window_tokens: int):
        super().__init__(tokenizer, window_tokens)
        self._tokens_by_prefix_text: dict[str, int] = {}  # text → how many tokens it has

    def _pair_ids(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self._cached_context_ids(context), self.tokenizer.encode(continuation)

    def _context_ids(self, context: str) -> list[int]:
        return [*self.tokenizer.prefix, *self.tokenizer.encode(context)]

    def _shorten(
        self, context: str, context_ids: list[int], max_context_tokens: int, fixed_prefix_characters: int
    ) -> list[int]:
        prefix_text = context[:fixed_prefix_characters]
        if prefix_text not in self._tokens_by_prefix_text:
            self._tokens_by_prefix_text[prefix_text] = len(self._context_ids(prefix_text)) if prefix_text else 0
        prefix_length = min(self._tokens_by_prefix_text[prefix_text], max_context_tokens)
        return context_ids[:prefix_length] + (
            context_ids[-(max_context_tokens - prefix_length) :] if max_context_tokens > prefix_length else []
        )


class HarnessEncoding(Encoding):
    """As lm_eval 0.4.13's `hf` class (api/model.py, models/huggingface.py): encoded together, cut from the left.

    BOS where plain transformers adds it for the tokenizer; an empty context is BOS, or EOS where there is none.
    """

    uses_bos = True

    def _pair_ids(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        # White space at the context's end belongs to the continuation. The context keeps its own ids, whether the whole
        # begins with them or not.
        context_ids = self._cached_context_ids(context.rstrip())
        if not context_ids:
            return self._empty_context_ids(), self.tokenizer.encode(context + continuation)
        return context_ids, self._context_ids(context + continuation)[len(context_ids) :]

    def _context_ids(self, context: str) -> list[int]:
        prefix_ids = self.tokenizer.prefix if self.uses_bos and self.tokenizer.adds_bos else []
        return [*prefix_ids, *self.tokenizer.encode(context)]


class LeaderboardEncoding(HarnessEncoding):
    """As `hf-causal-experimental` of lm-evaluation-harness b281b092 at batch size 1 (base.py, models/huggingface.py).

    No BOS; an empty context is EOS. Its `_model_generate` took the answer from after the *uncut* context, so that of a
    context that was cut by n tokens the answer's first n are thrown away. A stop string is looked for in the last tokens
    only, as many as it has when encoded alone.
    """

    uses_bos, discards_first_text_tokens, empty_context_attributes = False, True, ("eos_id",)

    def __init__(self, tokenizer: Tokenizer, window_tokens: int):
        super().__init__(tokenizer, window_tokens)
        self._tokens_by_stop_string: dict[str, int] = {}

    def is_finished(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> bool:
        """Whether the last token is EOS, or the last few hold a stop string."""
        if generated_ids[-1] in self.tokenizer.stop_ids:
            return True
        return any(
            stop_string in self.tokenizer.decode(generated_ids[-self._stop_string_tokens(stop_string) :])
            for stop_string in stop_strings
        )

    def text(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> str:
        """The text without special tokens, up to each stop string in turn, the spelled-out EOS last."""
        known_ids = [token_id for token_id in generated_ids if token_id != self.tokenizer.unk_id]
        return cut_at_stop_strings(self.tokenizer.decode(known_ids), [*stop_strings, self.tokenizer.eos_text])

    def _stop_string_tokens(self, stop_string: str) -> int:
        if stop_string not in self._tokens_by_stop_string:
            self._tokens_by_stop_string[stop_string] = len(self.tokenizer.encode(stop_string))
        return self._tokens_by_stop_string[stop_string]


def encoding_of_protocol(protocol_name: str, tokenizer: Tokenizer, window_tokens: int) -> Encoding:
    """The encoding of a protocol for a model whose context window is `window_tokens` tokens; not of `chat`.

    `orca` uses at most 2,048 of them, the window that the student was made with; the two others, as their harnesses do, all.
    """
    if protocol_name == "orca":
        return OrcaEncoding(tokenizer, min(window_tokens, CONTEXT_WINDOW))
    return {"leaderboard": LeaderboardEncoding, "plain": HarnessEncoding}[protocol_name](tokenizer, window_tokens)


def cut_at_stop_strings(text: str, stop_strings: Sequence[str]) -> str:
    """A generated text up to the first occurrence of each stop string in turn."""
    for stop_string in stop_strings:
        if stop_string:
            text = text.split(stop_string)[0]
    return text
