"""Token ids and stop rules exactly as lm-eval's `hf` class has them, by transformers' own tokenizer of the folder.

What a request of lm-eval's command line becomes must be what `lm_eval --model hf` makes of it, also where that differs from how
the model was trained: special tokens that are spelled out in a text are special (a chat template writes them), and a text that
begins with BOS gets no second one. Methods that follow lm_eval 0.4.13 name the one that they follow. Its own module because only
lm-eval's command line uses it: our protocols tokenize as `orca_bench.tokenizers` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS, GenerationPrompt, HarnessEncoding, cut_at_stop_strings
from orca_bench.tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Tokens before those of a stop string in which it is looked for, as it may be spelled in others (utils_hf.py).
_LOOKBACK_TOKENS = 2


class TransformersEncoding(HarnessEncoding):
    """lm-eval's `hf` class as an encoding.

    `transformers_tokenizer` gives the ids; `tokenizer` is the same folder's, for messages. `stop_ids` are the ids that end a text
    in `generate`. `add_bos_token` (None: as the tokenizer does), `prefix_token_id` (None: BOS, else EOS) and `think_end_token`
    (a text or an id; only what follows it is the answer) are the model arguments of these names.
    """

    def __init__(
        self,
        transformers_tokenizer: PreTrainedTokenizerBase,
        tokenizer: Tokenizer,
        window_tokens: int,
        stop_ids: Sequence[int],
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        think_end_token: str | int | None = None,
    ):
        """See the class; raises UserError where the tokenizer has neither BOS nor EOS and there is no `prefix_token_id`."""
        super().__init__(tokenizer, window_tokens)
        self._transformers_tokenizer, self._stop_ids = transformers_tokenizer, frozenset(stop_ids)
        self._add_bos_token, self._think_end_token = add_bos_token, think_end_token
        candidates = (prefix_token_id, transformers_tokenizer.bos_token_id, transformers_tokenizer.eos_token_id)
        prefix_ids = [candidate for candidate in candidates if candidate is not None]
        if not prefix_ids:
            raise UserError(
                "the tokenizer has no BOS and no EOS",
                where=tokenizer.source,
                hint="--model_args prefix_token_id=ID gives one",
            )
        #: What an empty context is, and what stands before a whole text that is scored.
        self.prefix_token_id: int = prefix_ids[0]
        self._prefix_text: str = transformers_tokenizer.decode(self.prefix_token_id)
        eos_id = transformers_tokenizer.eos_token_id
        self._eos_strings: list[str] = [] if eos_id is None else [transformers_tokenizer.decode(eos_id)]
        self._tokens_by_stop_string: dict[str, int] = {}

    def token_ids(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """The ids of a text (`HFLM.tok_encode`); `add_special_tokens` None: as `add_bos_token` or the tokenizer says."""
        if add_special_tokens is None:
            add_special_tokens = False if text.startswith(self._prefix_text) else self._add_bos_token
        return self._encode(text, add_special_tokens)

    def _encode(self, text: str, add_special_tokens: bool | None) -> list[int]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        try:
            return list(self._transformers_tokenizer.encode(text, **options))
        except (UnicodeEncodeError, TypeError):
            raise UserError(f"text with a lone surrogate cannot be encoded: {text[:40]!r}") from None

    def _context_ids(self, context: str) -> list[int]:
        return self.token_ids(context)

    def _pair_ids(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """`TemplateLM.loglikelihood` and `TemplateLM._encode_pair`."""
        if context == "":
            continuation_ids = self._encode(continuation, add_special_tokens=False)
            if continuation_ids[:1] == [self.prefix_token_id]:
                return continuation_ids[:1], continuation_ids[1:]
            return [self.prefix_token_id], continuation_ids
        context_ids = self._cached_context_ids(context.rstrip())
        if not context_ids:  # white space only, of which `hf` makes an error
            return [self.prefix_token_id], self._encode(context + continuation, add_special_tokens=False)
        return context_ids, self.token_ids(context + continuation)[len(context_ids) :]

    def _empty_context_ids(self) -> list[int]:
        return [self.prefix_token_id]

    def encode_prompt(
        self, context: str, fixed_prefix_characters: int = 0, max_new_tokens: int | None = None
    ) -> GenerationPrompt:
        """`HFLM.tok_batch_encode` of one context; see `Encoding.encode_prompt`."""
        max_new_tokens = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        self.check_max_new_tokens(max_new_tokens)
        bos_token = self._transformers_tokenizer.bos_token
        begins_with_bos = bos_token is not None and context.startswith(bos_token)
        context_ids = self._encode(context, False if begins_with_bos else self._add_bos_token)
        fitted_ids = self._fit_context(
            context,
            context_ids or self._empty_context_ids(),
            self.window_tokens - max_new_tokens,
            fixed_prefix_characters,
        )
        return GenerationPrompt(fitted_ids, max_new_tokens)

    def check_max_new_tokens(self, max_new_tokens: int, where: str | None = None) -> None:
        """Raise UserError where texts of `max_new_tokens` tokens leave no place for a context."""
        if self.window_tokens <= max_new_tokens:
            raise UserError(
                f"{max_new_tokens} new tokens do not fit a context window of {self.window_tokens}",
                where=where,
                hint="--gen_kwargs max_gen_toks=N gives texts fewer",
            )

    def is_finished(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> bool:
        """Whether the last id ends a text, or a stop string is in the last tokens (`MultiTokenEOSCriteria`)."""
        if generated_ids[-1] in self._stop_ids:
            return True
        all_stop_strings = (*stop_strings, *self._eos_strings)
        longest_lookback = max(map(self._lookback, all_stop_strings), default=1)
        # What is in the last tokens of one is in the last tokens of all: most steps decode once.
        last_text = self._transformers_tokenizer.decode(list(generated_ids[-longest_lookback:]))
        return any(
            stop_string in self._transformers_tokenizer.decode(list(generated_ids[-self._lookback(stop_string) :]))
            for stop_string in all_stop_strings
            if stop_string in last_text
        )

    def is_complete(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> bool:
        """Whether generated ids hold a whole text: they end in an id that ends it, or have a stop string."""
        if generated_ids[-1] in self._stop_ids:
            return True
        text = self._transformers_tokenizer.decode(list(generated_ids))
        return any(stop_string in text for stop_string in (*stop_strings, *self._eos_strings))

    def text(self, generated_ids: Sequence[int], stop_strings: Sequence[str]) -> str:
        """The text of generated ids, without special tokens and thoughts, up to each stop string in turn."""
        ids = list(generated_ids)
        if isinstance(self._think_end_token, int) and self._think_end_token in ids:
            ids = ids[len(ids) - ids[::-1].index(self._think_end_token) :]
        text = self._transformers_tokenizer.decode(ids, skip_special_tokens=True)
        if isinstance(self._think_end_token, int):
            text = text.lstrip()
        elif self._think_end_token:
            text = text.split(self._think_end_token)[-1].lstrip()
        return cut_at_stop_strings(text, [*stop_strings, *self._eos_strings])

    def _lookback(self, stop_string: str) -> int:
        """In how many of the last tokens a stop string is looked for."""
        if stop_string not in self._tokens_by_stop_string:
            self._tokens_by_stop_string[stop_string] = len(self._encode(stop_string, add_special_tokens=False))
        return self._tokens_by_stop_string[stop_string] + _LOOKBACK_TOKENS
