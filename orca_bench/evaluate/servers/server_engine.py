"""Token ids in, answers out, by a server: any OpenAI-compatible completions endpoint that gives log-probabilities.

The server gets token ids, never strings, so that it scores exactly the tokens of the protocol. A log-likelihood is requested as
lm-eval's `local-completions` does it: the prompt echoed, one more token, the log-probabilities of all. The servers of vLLM,
SGLang and llama-cpp-python can do that; OpenAI's own no longer can, llama.cpp's never could. `check` finds out what a server
cannot do before an evaluation starts; `difference_sentences` lists what it does otherwise than the engine in this process.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine_interface import (
    GeneratedText,
    LogLikelihood,
    ReportComputedCount,
    ignore_computed_count,
)
from orca_bench.evaluate.request_encoding import Encoding, GenerationPrompt, ScoredSequence, cut_at_stop_strings
from orca_bench.evaluate.servers.completions_client import Endpoint, RequestRefused

if TYPE_CHECKING:
    from openai.types import CompletionChoice

_PROBE_TOKENS = 16  # of the probe's prompt, and of its answer; half a server's window each where that is less
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

_T = TypeVar("_T")


@dataclass(frozen=True)
class ServerProbe:
    """A server's answer to a fixed request, which tells models apart.

    `log_probability` is a log-probability in nats, None where the server is not asked to score; `generated_text` is then what
    it generates.
    """

    log_probability: float | None
    generated_text: str | None


class ServerEngine:
    """An `Engine` that asks a completions server, with `max_concurrent_requests` at a time.

    See `Endpoint` for `base_url`, the model and `timeout_s`. `window_tokens` is the server's context window, None where it is
    not known. `sampling_options` are what each request sends besides temperature 0. `returns_text_tokens` is whether the server
    returns the tokens of a text, which is needed where the first are discarded; `check` sets both.
    """

    def __init__(
        self,
        base_url: str,
        served_model_name: str | None = None,
        max_concurrent_requests: int = 16,
        timeout_s: float = 600.0,
    ):
        self._endpoint = Endpoint(base_url, served_model_name, timeout_s)
        self.max_concurrent_requests = max_concurrent_requests
        self.served_model_name, self.redacted_url, self.window_tokens = (
            self._endpoint.model_name,
            self._endpoint.redacted_url,
            self._endpoint.window_tokens,
        )
        self.sampling_options: dict[str, Any] = {}
        self.returns_text_tokens = False

    def close(self) -> None:
        """Cancel the requests that are under way."""
        self._endpoint.close()

    def check(self, needs_scores: bool = True, stop_ids: Sequence[int] = ()) -> ServerProbe:
        """Find out which parameters the server takes, and with `needs_scores` whether it can score token ids.

        A text is to end at any of `stop_ids`, where the server takes such a parameter. Raises UserError where the server cannot
        answer.
        """
        for extension_options in _EXTENSION_OPTIONS_TO_TRY:
            stop_options = {"stop_token_ids": list(stop_ids)} if stop_ids else {}
            self.sampling_options = _GREEDY_OPTIONS | (
                {"extra_body": extension_options | stop_options} if extension_options else {}
            )
            try:
                self._endpoint.run(self._complete([1, 2], is_first_request=True, max_tokens=1))
                break
            except RequestRefused as error:  # a parameter that it does not know, perhaps
                if error.status_code not in (400, 422) or not extension_options:
                    raise
        probe_tokens = min(_PROBE_TOKENS, max(2, self.window_tokens // 2)) if self.window_tokens else _PROBE_TOKENS
        prompt_ids = list(range(1, probe_tokens + 1))
        try:
            choice = self._endpoint.run(
                self._complete(prompt_ids, is_first_request=True, max_tokens=probe_tokens, logprobs=1)
            )
            self.returns_text_tokens = choice.logprobs is not None and bool(choice.logprobs.tokens)
        except RequestRefused:
            choice = self._endpoint.run(self._complete(prompt_ids, is_first_request=True, max_tokens=probe_tokens))
        if not needs_scores:
            return ServerProbe(None, choice.text)
        # Several, because a token that the server adds in front cannot be noticed where it leaves out an end of text.
        sequences = [
            ScoredSequence(probe_ids, 1)
            for probe_ids in (prompt_ids, prompt_ids[1:4], prompt_ids[4:])
            if len(probe_ids) > 1
        ]
        return ServerProbe(self.log_likelihoods(sequences)[0].log_probability, None)

    @property
    def difference_sentences(self) -> list[str]:
        """Sentences for the result: what this server does otherwise than the engine in this process."""
        sentences = [
            "a text ends where a stop string first appears; in process the leaderboard protocol looks for it in the last "
            "tokens only",
            "which further tokens end a text, and in which precision it computes, is the server's own setting",
        ]
        if "extra_body" not in self.sampling_options:
            sentences.append(
                "the server takes neither top_k nor a repetition penalty with a request: where its own defaults (vLLM takes "
                "them from generation_config.json) are others than none, texts are not plainly greedy"
            )
        if self.window_tokens is None:
            sentences.append("the server does not tell its context window: that of the model folder is taken")
        return sentences

    def log_likelihoods(
        self, sequences: Sequence[ScoredSequence], report_computed: ReportComputedCount = ignore_computed_count
    ) -> list[LogLikelihood]:
        """See `Engine`; sent in the order of their ids, so that a server with a prefix cache can use it."""
        sorted_indices = sorted(range(len(sequences)), key=lambda n: sequences[n].token_ids)
        token_counts = prefix_tree.count_new_tokens([sequences[index] for index in sorted_indices])
        answers_by_index = self._answer_all(
            sorted_indices, lambda index: self._log_likelihood(index, sequences[index]), token_counts, report_computed
        )
        return [answers_by_index[index] for index in range(len(sequences))]

    def generate(
        self,
        prompts: Sequence[GenerationPrompt],
        stops_by_prompt: Sequence[Sequence[str]],
        encoding: Encoding,
        report_computed: ReportComputedCount = ignore_computed_count,
    ) -> list[GeneratedText]:
        """See `Engine`.

        The server ends a text at a stop string. The encoding's own rule may look for it in the last tokens only, but cuts the
        text at its first occurrence all the same.
        """
        sorted_indices = sorted(range(len(prompts)), key=lambda i: prompts[i].token_ids)
        answers_by_index = self._answer_all(
            sorted_indices,
            lambda index: self._generate(prompts[index], stops_by_prompt[index], encoding),
            [1] * len(sorted_indices),
            report_computed,
        )
        return [answers_by_index[index] for index in range(len(prompts))]

    def _answer_all(
        self,
        sorted_indices: Sequence[int],
        compute_answer: Callable[[int], Awaitable[_T]],
        computed_counts: Iterable[int],
        report_computed: ReportComputedCount,
    ) -> dict[int, _T]:
        """The answer to each number, requested in order; the first that fails cancels the others."""
        answers_by_index: dict[int, _T] = {}

        async def answer_one(index: int, computed_count: int, semaphore: asyncio.Semaphore) -> None:
            async with semaphore:
                answers_by_index[index] = await compute_answer(index)
            report_computed(computed_count)

        async def answer_all() -> None:
            semaphore = asyncio.Semaphore(self.max_concurrent_requests)
            tasks = [
                asyncio.ensure_future(answer_one(i, computed_count, semaphore))
                for i, computed_count in zip(sorted_indices, computed_counts, strict=True)
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

        self._endpoint.run(answer_all())
        return answers_by_index

    async def _log_likelihood(self, index: int, sequence: ScoredSequence) -> LogLikelihood:
        prompt_ids = sequence.token_ids
        choice = await self._complete(prompt_ids, max_tokens=1, echo=True, logprobs=1)
        logprobs = choice.logprobs
        logprobs_by_token = list(logprobs.token_logprobs or []) if logprobs else []
        # A server may leave out the token that it generated where that ends the text.
        omits_last_token = len(logprobs_by_token) == len(prompt_ids) and choice.finish_reason == "stop"
        if not (len(logprobs_by_token) == len(prompt_ids) + 1 or omits_last_token) or any(
            logprob is None for logprob in logprobs_by_token[1 : len(prompt_ids)]
        ):
            raise self._echo_error(len(prompt_ids), len(logprobs_by_token))
        scored_positions = range(sequence.scored_start, len(prompt_ids))
        summed_logprob = math.fsum(logprobs_by_token[position] for position in scored_positions)
        if not math.isfinite(summed_logprob):
            raise NotFinite(index, summed_logprob)
        top_logprobs_by_token = (logprobs.top_logprobs if logprobs else None) or []
        greedy = all(
            logprobs_by_token[position] >= max((top_logprobs_by_token[position] or {"": math.inf}).values())
            for position in scored_positions
            if top_logprobs_by_token
        )
        return LogLikelihood(summed_logprob, bool(top_logprobs_by_token) and greedy)

    def _echo_error(self, sent_count: int, echoed_count: int) -> UserError:
        hint = "the server must take token ids, and know `echo` with `logprobs`"
        if echoed_count == sent_count + 2:
            hint = "the server, or what stands before it, adds a token in front (a BOS?) to ids that are complete"
        return UserError(
            f"{sent_count} token ids were sent and {echoed_count} log-probabilities came back, {sent_count + 1} expected",
            where=self.redacted_url,
            hint=hint,
        )

    async def _generate(
        self, prompt: GenerationPrompt, stop_strings: Sequence[str], encoding: Encoding
    ) -> GeneratedText:
        completion_options: dict[str, Any] = {"stop": list(stop_strings)} if stop_strings else {}
        if prompt.discarded_token_count:
            completion_options["logprobs"] = 1  # returns the tokens one by one, of which the first are discarded
        choice = await self._complete(prompt.token_ids, max_tokens=prompt.max_new_tokens, **completion_options)
        stop_strings = [*stop_strings, encoding.tokenizer.eos_text]
        hit_token_limit = None if choice.finish_reason is None else choice.finish_reason == "length"
        # A server that decodes after the prompt has the space that SentencePiece takes from a text's first word.
        full_text = choice.text.removeprefix(" ")
        if not prompt.discarded_token_count:
            return GeneratedText(cut_at_stop_strings(full_text, stop_strings), None, hit_token_limit)
        if choice.logprobs is None or choice.logprobs.tokens is None:
            raise UserError(
                "the server does not tell the tokens of a text", where=self.redacted_url, hint="`logprobs` is needed"
            )
        discarded_text = "".join(choice.logprobs.tokens[: prompt.discarded_token_count])
        text = cut_at_stop_strings(choice.text[len(discarded_text) :].removeprefix(" "), stop_strings)
        return GeneratedText(text, cut_at_stop_strings(full_text, stop_strings), hit_token_limit)

    async def _complete(
        self, prompt_ids: list[int], is_first_request: bool = False, **options: Any
    ) -> CompletionChoice:
        """The one choice of a completion; see `Endpoint.complete`."""
        completion = await self._endpoint.complete(prompt_ids, is_first_request, **self.sampling_options, **options)
        prompt_tokens = getattr(completion.usage, "prompt_tokens", None)
        if prompt_tokens not in (None, 0, len(prompt_ids)):
            raise UserError(
                f"{len(prompt_ids)} token ids were sent and the server counts a prompt of {prompt_tokens}",
                where=self.redacted_url,
                hint="the server, or what stands before it, adds tokens (a BOS?) or makes others of them",
            )
        return completion.choices[0]
