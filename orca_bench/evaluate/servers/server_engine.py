"""Token ids in, answers out, by a server: any that gives log-probabilities of a prompt, by its own API.

The server gets token ids, never strings, so that it scores exactly the tokens of the protocol. vLLM and SGLang are asked by their
documented APIs, any other server by the completions API of OpenAI. `check` finds out what a server cannot do, and proves that its
log-probabilities are those of the tokens they stand for, before an evaluation starts; `difference_sentences` lists what it does
otherwise than the engine in this process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine_interface import (
    GeneratedText,
    LogLikelihood,
    ReportComputedCount,
    ignore_computed_count,
)
from orca_bench.evaluate.request_encoding import Encoding, GenerationPrompt, ScoredSequence, cut_at_stop_strings
from orca_bench.evaluate.servers import request_order, server_kinds
from orca_bench.evaluate.servers.alignment import check_alignment, check_tokenizer_by_texts
from orca_bench.evaluate.servers.completions_api import CompletionsApi
from orca_bench.evaluate.servers.completions_client import Endpoint, RequestRefused
from orca_bench.evaluate.servers.prefix_cache_counters import CachedTokens, read_counters
from orca_bench.evaluate.servers.server_api import ServerApi
from orca_bench.evaluate.servers.sglang_api import SglangApi
from orca_bench.evaluate.servers.vllm_api import OrcaBenchApi, VllmApi
from orca_bench.tokenizers import Tokenizer

_PROBE_TOKENS = 16  # of the probe's prompt, and of its answer; half a server's window each where that is less

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
    """An `Engine` that asks a server, with `max_concurrent_requests` at a time.

    See `Endpoint` for `base_url`, the model and `timeout_s`. `window_tokens` is the server's context window, None where it is
    not known. `kind` is which program it is, `sampling_options` are what each request sends besides temperature 0, and
    `cache_use` counts what it had in its prefix cache. `returns_text_tokens` is whether the server returns the tokens of a text,
    which is needed where the first are discarded; `check` sets it and `sampling_options`.
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
        self._api = _api_for(self._endpoint)
        self.kind, self.cache_use = self._api.kind, self._api.cache_use
        self._alignment_notes: list[str] = []
        self._tokens_in_check = CachedTokens(0, 0)  # by the server's answers
        self._counters_after_check: CachedTokens | None = None  # the server's own
        self.returns_text_tokens = False

    @property
    def sampling_options(self) -> dict[str, object]:
        """What each request sends besides temperature 0."""
        return self._api.sampling_options

    @property
    def takes_stop_ids(self) -> bool:
        """Whether the tokens that end a text can be named, once `check` has found out what the server takes.

        Of vLLM, SGLang and `orca-bench serve` it is documented; llama.cpp and others take it and may do nothing with it.
        """
        documents_it = self.kind.name in (server_kinds.VLLM, server_kinds.SGLANG, server_kinds.ORCA_BENCH)
        return documents_it and "stop_token_ids" in json.dumps(self.sampling_options)

    def close(self) -> None:
        """Cancel the requests that are under way."""
        self._endpoint.close()

    def check(
        self, needs_scores: bool = True, stop_ids: Sequence[int] = (), tokenizer: Tokenizer | None = None
    ) -> ServerProbe:
        """Find out which parameters the server takes, and with `needs_scores` whether its scores are of the ids that are sent.

        A text is to end at any of `stop_ids`, where the server takes such a parameter. With a `tokenizer` the server's own is
        compared with it. Raises UserError where the server cannot answer, or answers for other tokens.
        """
        if needs_scores:
            server_kinds.check_scores_prompts(self.kind, self.redacted_url)
        if tokenizer is not None:
            self._api.vocabulary_size = tokenizer.vocab_size
        with self._endpoint.first_answer_timeout():
            self._endpoint.run(self._api.agree_on_options(stop_ids))
            probe = self._probe(needs_scores, tokenizer)
        self._tokens_in_check = self._tokens_in_answers()
        if self.cache_use.answers_with_count == 0:
            self._counters_after_check = read_counters(self.kind.name, self._endpoint.look_up)
        return probe

    def _probe(self, needs_scores: bool, tokenizer: Tokenizer | None) -> ServerProbe:
        """The answer to a fixed request; sets `returns_text_tokens` and the notes on the alignment."""
        probe_tokens = min(_PROBE_TOKENS, max(2, self.window_tokens // 2)) if self.window_tokens else _PROBE_TOKENS
        prompt_ids = list(range(1, probe_tokens + 1))
        try:
            completion = self._endpoint.run(self._api.generate(prompt_ids, probe_tokens, with_tokens=True))
            self.returns_text_tokens = bool(completion.token_texts)
        except RequestRefused:
            completion = self._endpoint.run(self._api.generate(prompt_ids, probe_tokens))
        if not needs_scores:
            if tokenizer is not None:
                self._alignment_notes = self._endpoint.run(
                    check_tokenizer_by_texts(self._api, self.redacted_url, tokenizer, self.window_tokens)
                )
            return ServerProbe(None, completion.text)
        # Several, because a token that the server adds in front cannot be noticed where it leaves out an end of text.
        sequences = [
            ScoredSequence(probe_ids, 1)
            for probe_ids in (prompt_ids, prompt_ids[1:4], prompt_ids[4:])
            if len(probe_ids) > 1
        ]
        log_probability = self.log_likelihoods(sequences)[0].log_probability
        self._alignment_notes = self._endpoint.run(
            check_alignment(self._api, self.redacted_url, prompt_ids, tokenizer, self.window_tokens)
        )
        return ServerProbe(log_probability, None)

    def describe_prefix_cache(self) -> dict[str, int | str] | None:
        """How many tokens of the prompts since `check` the server had in its prefix cache; None where it does not tell.

        `counted_by` says who counted: the `answers` to these prompts, or the `server`, which counts other users' as well.
        """
        tokens, counted_by = self._tokens_in_answers().since(self._tokens_in_check), "answers"
        if self.cache_use.answers_with_count == 0:
            counters = read_counters(self.kind.name, self._endpoint.look_up)
            if counters is None or self._counters_after_check is None:
                return None
            tokens, counted_by = counters.since(self._counters_after_check), "server"
        if tokens.prompt_tokens <= 0:
            return None
        return {**tokens._asdict(), "counted_by": counted_by}

    def _tokens_in_answers(self) -> CachedTokens:
        return CachedTokens(self.cache_use.prompt_tokens, self.cache_use.cached_tokens)

    @property
    def difference_sentences(self) -> list[str]:
        """Sentences for the result: what this server does otherwise than the engine in this process."""
        sentences = [
            "a text ends where a stop string first appears; in process the leaderboard protocol looks for it in the last "
            "tokens only",
            "which further tokens end a text, and in which precision it computes, is the server's own setting",
            *self._api.difference_sentences,
        ]
        if self.window_tokens is None:
            sentences.append("the server does not tell its context window: that of the model folder is taken")
        if self.kind.name == server_kinds.LLAMACPP:
            sentences.append(
                "llama.cpp rounds otherwise with what it computes at the same time and with what is in its cache: another run "
                "may give other texts"
            )
        return sentences + self._alignment_notes

    def log_likelihoods(
        self, sequences: Sequence[ScoredSequence], report_computed: ReportComputedCount = ignore_computed_count
    ) -> list[LogLikelihood]:
        """See `Engine`; in the order of the prefix tree, where the server can use what it has computed of a prefix."""
        new_counts = prefix_tree.new_token_counts(sequences)

        async def answer(index: int) -> LogLikelihood:
            log_likelihood = await self._log_likelihood(index, sequences[index])
            report_computed(new_counts[index])
            return log_likelihood

        return self._send_in_tree_order([sequence.token_ids for sequence in sequences], answer, is_scoring=True)

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

        async def answer(index: int) -> GeneratedText:
            text = await self._generate(prompts[index], stops_by_prompt[index], encoding)
            report_computed(1)
            return text

        return self._send_in_tree_order([prompt.token_ids for prompt in prompts], answer, is_scoring=False)

    def _send_in_tree_order(
        self, prompts: Sequence[list[int]], answer: Callable[[int], Awaitable[_T]], is_scoring: bool
    ) -> list[_T]:
        """The answers to some prompts, in their order; `answer` sends the request for the prompt at an index."""
        sorted_indices = sorted(range(len(prompts)), key=lambda index: prompts[index])
        plan = request_order.plan_requests(
            [prompts[index] for index in sorted_indices], self._waits_for_prefixes(is_scoring)
        )
        sorted_answers = self._endpoint.run(
            request_order.send_all(
                plan, lambda position: answer(sorted_indices[position]), self.max_concurrent_requests
            )
        )
        answers_by_index = dict(zip(sorted_indices, sorted_answers, strict=True))
        return [answers_by_index[index] for index in range(len(prompts))]

    def _waits_for_prefixes(self, is_scoring: bool) -> bool:
        """Whether requests that share a prefix wait until the first of them has put it into the server's cache."""
        if self.kind.name not in (server_kinds.VLLM, server_kinds.SGLANG, server_kinds.LLAMACPP):
            return False
        if is_scoring and not self._api.caches_scored_prompts:
            return False
        return not self.cache_use.is_known_to_be_off

    async def _log_likelihood(self, index: int, sequence: ScoredSequence) -> LogLikelihood:
        scores = await self._api.score(sequence.token_ids, sequence.scored_start)
        scored_positions = range(sequence.scored_start, len(sequence.token_ids))
        values = [scores.log_probabilities[position] for position in scored_positions]
        summed_logprob = math.fsum(math.nan if value is None else value for value in values)
        if not math.isfinite(summed_logprob):
            raise NotFinite(index, summed_logprob)
        tops = [scores.top_log_probabilities[position] for position in scored_positions]
        is_greedy = all(
            value is not None and top is not None and value >= top for value, top in zip(values, tops, strict=True)
        )
        return LogLikelihood(summed_logprob, is_greedy)

    async def _generate(
        self, prompt: GenerationPrompt, stop_strings: Sequence[str], encoding: Encoding
    ) -> GeneratedText:
        discards = prompt.discarded_token_count > 0
        stop_strings = [*stop_strings, *encoding.end_strings]
        completion = await self._api.generate(
            prompt.token_ids, prompt.max_new_tokens, stop_strings, with_tokens=discards
        )
        stop_strings = [*stop_strings, encoding.tokenizer.eos_text]
        # A server that decodes after the prompt has the space that SentencePiece takes from a text's first word.
        full_text = completion.text.removeprefix(" ")
        if not discards:
            return GeneratedText(cut_at_stop_strings(full_text, stop_strings), None, completion.hit_token_limit)
        if completion.token_texts is None:
            raise UserError(
                "the server does not tell the tokens of a text", where=self.redacted_url, hint="`logprobs` is needed"
            )
        discarded_text = "".join(completion.token_texts[: prompt.discarded_token_count])
        text = cut_at_stop_strings(completion.text[len(discarded_text) :].removeprefix(" "), stop_strings)
        return GeneratedText(text, cut_at_stop_strings(full_text, stop_strings), completion.hit_token_limit)


def _api_for(endpoint: Endpoint) -> ServerApi:
    """The API of the server's kind."""
    if endpoint.kind.name == server_kinds.SGLANG:
        return SglangApi(endpoint)
    if endpoint.kind.name == server_kinds.VLLM:
        return VllmApi(endpoint)
    if endpoint.kind.name == server_kinds.ORCA_BENCH:
        return OrcaBenchApi(endpoint)
    return CompletionsApi(endpoint)
