"""The completions API of OpenAI as servers of open models have it: token ids in, the prompt echoed with log-probabilities.

A log-likelihood is requested as lm-eval's `local-completions` does it: the prompt echoed, one more token, the log-probabilities
of all. llama-cpp-python and most others can do that; OpenAI's own server no longer can, llama.cpp's never could. Its own module
because vLLM's API is this one and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca_bench.errors import UserError
from orca_bench.evaluate.servers.completions_client import RequestRefused
from orca_bench.evaluate.servers.server_api import Completion, Prompt, PromptScores, ServerApi, as_text, top_values_of

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


class CompletionsApi(ServerApi):
    """A server by the completions API alone; whether it computes a scored prompt from a cached prefix is not known."""

    _format_hint = "is it a server of the completions API of OpenAI (/v1/completions)?"

    @property
    def difference_sentences(self) -> list[str]:
        """See `ServerApi`."""
        if "extra_body" in self.sampling_options:
            return []
        return [
            "the server takes neither top_k nor a repetition penalty with a request: where its own defaults (vLLM takes "
            "them from generation_config.json) are others than none, texts are not plainly greedy"
        ]

    async def agree_on_options(self, stop_ids: Sequence[int]) -> None:
        """See `ServerApi`."""
        for extension_options in _EXTENSION_OPTIONS_TO_TRY:
            stop_options = {"stop_token_ids": list(stop_ids)} if stop_ids else {}
            self.sampling_options = _GREEDY_OPTIONS | (
                {"extra_body": extension_options | stop_options} if extension_options else {}
            )
            try:
                await self._complete([1, 2], max_tokens=1)
                break
            except RequestRefused as error:  # a parameter that it does not know, perhaps
                if error.status_code not in (400, 422) or not extension_options:
                    raise

    async def score(self, prompt: Prompt, scored_start: int = 1) -> PromptScores:
        """See `ServerApi`; all tokens of the prompt are scored."""
        completion = await self._complete(prompt, max_tokens=1, echo=True, logprobs=1, **self._scoring_options(prompt))
        choice = completion.choices[0]
        with self._parsing("log-probabilities of a prompt's tokens"):
            values = _token_values(choice)
            top_entries = (choice.logprobs.top_logprobs or []) if choice.logprobs else []
            top_values = [max(map(float, entry.values())) if entry else None for entry in top_entries]
            # Of a text only the server knows how many tokens it has.
            prompt_length = len(prompt) if isinstance(prompt, list) else _prompt_tokens(completion) or len(values) - 1
            missing_count = values[1:prompt_length].count(None)
            # A server may leave out the token that it generated where that ends the text; the first then has no value, as ever.
            omits_next_token = len(values) == prompt_length and choice.finish_reason == "stop" and values[:1] == [None]
            if missing_count or not (len(values) == prompt_length + 1 or omits_next_token):
                raise self._echo_error(prompt_length, len(values) - missing_count)
            return PromptScores(
                values[:prompt_length],
                top_values_of(top_values, prompt_length),
                top_values[prompt_length] if len(top_values) > prompt_length else None,
                self._echoed_ids(choice),
            )

    async def generate(
        self, prompt: Prompt, max_new_tokens: int, stop_strings: Sequence[str] = (), with_tokens: bool = False
    ) -> Completion:
        """See `ServerApi`."""
        options: dict[str, Any] = {"stop": list(stop_strings)} if stop_strings else {}
        if with_tokens:
            options["logprobs"] = 1  # returns the tokens one by one
        if with_tokens or isinstance(prompt, str):
            options |= self._id_options(prompt)
        completion = await self._complete(prompt, max_tokens=max_new_tokens, **options)
        choice = completion.choices[0]
        with self._parsing("text with its tokens"):
            token_texts = choice.logprobs.tokens if choice.logprobs else None
            return Completion(
                as_text(choice.text),
                None if token_texts is None else list(map(as_text, token_texts)),
                self._generated_ids(choice),
                [value for value in _token_values(choice) if value is not None] or None,
                self._hit_token_limit(choice.finish_reason),
                self._echoed_ids(choice),
                _prompt_tokens(completion),
            )

    def _id_options(self, prompt: Prompt) -> dict[str, Any]:
        """What a request sends besides, so that the server returns ids and adds none to the prompt."""
        return {}

    def _scoring_options(self, prompt: Prompt) -> dict[str, Any]:
        """What a request for log-probabilities of a prompt sends besides."""
        return self._id_options(prompt)

    def _echoed_ids(self, choice: Any) -> list[int] | None:
        """The prompt's ids as the server has them; the completions API has no field for them."""
        return None

    def _generated_ids(self, choice: Any) -> list[int] | None:
        """The ids of a generated text; the completions API has no field for them."""
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

    async def _complete(self, prompt: Prompt, **options: Any) -> Any:
        """openai's Completion, with what else the server says of it: one choice, and a prompt of as many tokens as was sent."""
        extra_body = {**self.sampling_options.get("extra_body", {}), **options.pop("extra_body", {})}
        all_options = self.sampling_options | options | ({"extra_body": extra_body} if extra_body else {})
        completion = await self._endpoint.complete(prompt, **all_options)
        details = getattr(getattr(completion, "usage", None), "prompt_tokens_details", None)
        self._count_prompt(prompt, _prompt_tokens(completion), getattr(details, "cached_tokens", None))
        return completion


def _prompt_tokens(completion: Any) -> int | None:
    """How many tokens the server counts in the prompt; None where it does not count, which some say with a 0."""
    token_count = getattr(getattr(completion, "usage", None), "prompt_tokens", None)
    return token_count if isinstance(token_count, int) and token_count > 0 else None


def _token_values(choice: Any) -> list[float | None]:
    """The log-probabilities of a choice's tokens, in nats; None where the server has none."""
    values = (choice.logprobs.token_logprobs or []) if choice.logprobs else []
    return [None if value is None else float(value) for value in values]
