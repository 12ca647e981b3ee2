"""The completions API of OpenAI as servers of open models have it: token ids in, the prompt echoed with log-probabilities.

A log-likelihood is requested as lm-eval's `local-completions` does it: the prompt echoed, one more token, the log-probabilities
of all. llama-cpp-python and most others can do that; OpenAI's own server no longer can, llama.cpp's never could. Its own module
because vLLM's API is this one and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca_bench.errors import UserError
from orca_bench.evaluate.servers.completions_client import Endpoint, RequestRefused
from orca_bench.evaluate.servers.server_api import Completion, PrefixCacheUse, PromptScores, hit_token_limit

#: Greedy decoding with nothing in its way. vLLM takes what is not sent from the model's generation_config.json
#: (`--generation-config auto`), so everything is sent that can be: OpenAI's own parameters, …
_GREEDY_OPTIONS = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
#: … and, as far as a server takes them, those of vLLM and SGLang (repetition_penalty) and llama.cpp (repeat_penalty). An older
#: vLLM takes only -1 for "all tokens", llama-cpp-python only 0.
_NEUTRAL_EXTENSION_OPTIONS = {"min_p": 0, "repetition_penalty": 1, "repeat_penalty": 1}
_EXTENSION_OPTIONS_TO_TRY: tuple[dict[str, int], ...] = (
    {"top_k": -1} | _NEUTRAL_EXTENSION_OPTIONS,
    {"top_k": 0} | _NEUTRAL_EXTENSION_OPTIONS,
    {},
)


class CompletionsApi:
    """A `ServerApi` by the completions API alone."""

    #: Whether a scored prompt is computed from a cached prefix is not known of a server in general.
    caches_scored_prompts = False

    def __init__(self, endpoint: Endpoint):
        self._endpoint, self.kind = endpoint, endpoint.kind
        self.sampling_options: dict[str, Any] = {}
        self.cache_use = PrefixCacheUse()

    async def agree_on_options(self, stop_ids: Sequence[int]) -> None:
        """See `ServerApi`."""
        for extension_options in _EXTENSION_OPTIONS_TO_TRY:
            stop_options = {"stop_token_ids": list(stop_ids)} if stop_ids else {}
            self.sampling_options = _GREEDY_OPTIONS | (
                {"extra_body": extension_options | stop_options} if extension_options else {}
            )
            try:
                await self._complete([1, 2], is_first_request=True, max_tokens=1)
                break
            except RequestRefused as error:  # a parameter that it does not know, perhaps
                if error.status_code not in (400, 422) or not extension_options:
                    raise

    async def score(
        self, prompt: list[int] | str, scored_start: int = 1, is_first_request: bool = False
    ) -> PromptScores:
        """See `ServerApi`; all tokens of the prompt are scored."""
        completion = await self._complete(
            prompt,
            is_first_request=is_first_request,
            max_tokens=1,
            echo=True,
            logprobs=1,
            **self._scoring_options(prompt),
        )
        choice = completion.choices[0]
        logprobs = choice.logprobs
        values: list[float | None] = list(logprobs.token_logprobs or []) if logprobs else []
        tops = [max(top.values()) if top else None for top in (logprobs.top_logprobs or [])] if logprobs else []
        # Of a text only the server knows how many tokens it has.
        prompt_length = (
            len(prompt)
            if isinstance(prompt, list)
            else getattr(completion.usage, "prompt_tokens", None) or len(values) - 1
        )
        # A server may leave out the token that it generated where that ends the text; the first then has no value, as ever.
        omits_next_token = len(values) == prompt_length and choice.finish_reason == "stop" and values[:1] == [None]
        if not (len(values) == prompt_length + 1 or omits_next_token) or any(
            value is None for value in values[1:prompt_length]
        ):
            raise self._echo_error(prompt_length, len(values))
        return PromptScores(
            values[:prompt_length],
            (tops or [None] * prompt_length)[:prompt_length],
            tops[prompt_length] if len(tops) > prompt_length else None,
            self._echoed_ids(choice),
        )

    async def generate(
        self,
        prompt: list[int] | str,
        max_new_tokens: int,
        stop_strings: Sequence[str] = (),
        tells_tokens: bool = False,
        is_first_request: bool = False,
    ) -> Completion:
        """See `ServerApi`."""
        options: dict[str, Any] = {"stop": list(stop_strings)} if stop_strings else {}
        if tells_tokens:
            options["logprobs"] = 1  # returns the tokens one by one
        completion = await self._complete(
            prompt,
            is_first_request=is_first_request,
            max_tokens=max_new_tokens,
            **options,
            **(self._id_options(prompt) if tells_tokens or isinstance(prompt, str) else {}),
        )
        choice = completion.choices[0]
        logprobs = choice.logprobs
        values = list(logprobs.token_logprobs or []) if logprobs else []
        return Completion(
            choice.text,
            list(logprobs.tokens) if logprobs and logprobs.tokens is not None else None,
            self._generated_ids(choice),
            [float(value) for value in values if value is not None] or None,
            hit_token_limit(choice.finish_reason, "", self._endpoint.redacted_url),
            self._echoed_ids(choice),
            getattr(completion.usage, "prompt_tokens", None),
        )

    def _id_options(self, prompt: list[int] | str) -> dict[str, Any]:
        """What a request sends besides, for ids to be told and none to be added."""
        return {}

    def _scoring_options(self, prompt: list[int] | str) -> dict[str, Any]:
        """What a request for log-probabilities of a prompt sends besides."""
        return self._id_options(prompt)

    def _echoed_ids(self, choice: Any) -> list[int] | None:
        """The prompt's ids as the server has them; the completions API does not tell them."""
        return None

    def _generated_ids(self, choice: Any) -> list[int] | None:
        """The ids of a generated text; the completions API does not tell them."""
        return None

    def _echo_error(self, sent_count: int, echoed_count: int) -> UserError:
        hint = "the server must take token ids, and know `echo` with `logprobs`"
        if echoed_count == sent_count + 2:
            hint = "the server, or what stands before it, adds a token in front (a BOS?) to ids that are complete"
        return UserError(
            f"{sent_count} token ids were sent and {echoed_count} log-probabilities came back, {sent_count + 1} expected",
            where=self._endpoint.redacted_url,
            hint=hint,
        )

    async def _complete(self, prompt: list[int] | str, is_first_request: bool = False, **options: Any) -> Any:
        """openai's Completion, with what else the server says of it: one choice, and a prompt of as many tokens as was sent."""
        extra_body = {**self.sampling_options.get("extra_body", {}), **options.pop("extra_body", {})}
        all_options = self.sampling_options | options | ({"extra_body": extra_body} if extra_body else {})
        completion = await self._endpoint.complete(prompt, is_first_request, **all_options)
        usage = completion.usage
        prompt_tokens = getattr(usage, "prompt_tokens", None)
        if isinstance(prompt, list) and prompt_tokens not in (None, 0, len(prompt)):
            raise UserError(
                f"{len(prompt)} token ids were sent and the server counts a prompt of {prompt_tokens}",
                where=self._endpoint.redacted_url,
                hint="the server, or what stands before it, adds tokens (a BOS?) or makes others of them",
            )
        details = getattr(usage, "prompt_tokens_details", None)
        self.cache_use.add(prompt_tokens or len(prompt), getattr(details, "cached_tokens", None))
        return completion
