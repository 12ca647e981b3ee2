"""Token ids in, answers out, by llama.cpp running a GGUF file: what its users get, with its own rounding of activations.

llama.cpp is started and ended here (`models.gguf.llamacpp_server`). It gets token ids, never strings, and gives back the ids of a
text, which end here by the protocol's own rule; samplers and penalties are off. It tells the probabilities of the next token and
never those of a prompt's tokens, so that of what is scored only answers of one token can be: MMLU's letters. The other tasks are
refused before a file is loaded. Its own module because it knows what llama.cpp's server takes and nothing of processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from orca_bench import suite
from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine_interface import (
    GeneratedText,
    LogLikelihood,
    ReportComputedCount,
    generated_text,
    ignore_computed_count,
)
from orca_bench.evaluate.request_encoding import Encoding, GenerationPrompt, ScoredSequence
from orca_bench.evaluate.tasks import Task
from orca_bench.models.gguf import llamacpp_server
from orca_bench.models.gguf.gguf_file import is_gguf
from orca_bench.models.gguf.llamacpp_server import GREEDY_OPTIONS, LlamaCppEnded, LlamaCppServer, LlamaCppSettings
from orca_bench.tokenizers import Tokenizer
from orca_bench.tokenizers.probes import probe_texts

_MAX_SCORED_TOKENS = 1  # that a continuation may have
#: Of so many tokens the probabilities are listed at first, of all where the scored ones are not among them: listing the 49,152
#: of SmolLM2 takes 0.43 s, 1,000 take 0.02 s.
_LISTED_TOKENS = 1000
#: The log of the smallest float32 above 0: llama.cpp's probabilities below it are 0, and their logarithms are made up.
_SMALLEST_LOG_PROBABILITY = -149 * math.log(2)
_PROBE_TEXT_COUNT = 200
_SMALLEST_CONTEXT_TOKENS = 1024

_T = TypeVar("_T")


def check_model_and_tasks(model: str, tasks: Iterable[Task], dtype_name: str) -> None:
    """Raise UserError, with what to do instead, where llama.cpp cannot run a model, a path or hub id, or answer some tasks.

    It runs GGUF files with their own types, and cannot score answers of several tokens.
    """
    llamacpp_server.check_installed("--engine llamacpp")
    if not is_gguf(model):
        raise UserError(
            "llama.cpp runs a GGUF file, and this is none",
            where=model,
            hint="orca-bench export DIR --gguf f16 makes one of a model folder",
        )
    if dtype_name != "auto":
        raise UserError("llama.cpp computes with the file's own types", where="--dtype", hint="leave it out")
    refused_titles = [task.title for task in tasks if not task.generates_text and task.name != suite.MMLU.name]
    if refused_titles:
        raise UserError(
            "llama.cpp's server gives no log-probabilities of a prompt's tokens, and the scores of "
            f"{', '.join(refused_titles)} need them",
            where="--engine llamacpp",
            hint="--tasks mmlu,gsm8k,drop can be run by it; --engine hf computes all tasks with the file's exact weights",
        )


@contextlib.contextmanager
def _name_continuation() -> Iterator[None]:
    """Say of a llama.cpp that ends what an evaluation has of it: no answer is lost."""
    try:
        yield
    except LlamaCppEnded as error:
        hint = f"every answer before is stored, and the same command goes on from there; {error.hint}"
        raise LlamaCppEnded(error.problem, where=error.where, hint=hint) from None


class LlamaCppEngine:
    """An `Engine` that has llama.cpp run a GGUF file, with the settings of a `LlamaCppSettings`, whose context is the largest.

    The server starts with the first request, and again where a request is longer than its context, which grows to that of the
    settings; `close` ends it.
    """

    def __init__(
        self,
        gguf_path: Path,
        tokenizer: Tokenizer,
        vocabulary_size: int,
        settings: LlamaCppSettings,
    ):
        self._gguf_path, self._tokenizer, self._vocabulary_size = gguf_path, tokenizer, vocabulary_size
        self._settings = settings
        self._server: LlamaCppServer | None = None
        self._context_tokens = 0

    def close(self) -> None:
        """End llama.cpp, and with it the requests that are under way."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    @_name_continuation()
    def count_texts_with_other_ids(self) -> tuple[int, int]:
        """Of how many adversarial texts llama.cpp makes other token ids than the tokenizer here, and how many there are."""
        texts = probe_texts(_PROBE_TEXT_COUNT, seed=3)
        server = self._server_for(1)
        same_count = sum(server.has_same_ids(self._tokenizer, text, with_bos=False) for text in texts)
        return len(texts) - same_count, len(texts)

    @_name_continuation()
    def log_likelihoods(
        self, sequences: Sequence[ScoredSequence], report_computed: ReportComputedCount = ignore_computed_count
    ) -> list[LogLikelihood]:
        """See `Engine`; one context after the other, so that each finds in the cache what it shares with the one before.

        The first finds nothing: how llama.cpp rounds depends on what is in the cache, and the same requests are to have the same
        answers whatever came before. Raises UserError for a continuation of several tokens.
        """
        indices_by_context: dict[tuple[int, ...], list[int]] = {}
        sorted_indices = sorted(range(len(sequences)), key=lambda n: sequences[n].token_ids)
        new_token_counts = prefix_tree.new_token_counts(sequences)
        for index in sorted_indices:
            sequence = sequences[index]
            check_scored_tokens(len(sequence.token_ids) - sequence.scored_start)
            indices_by_context.setdefault(tuple(sequence.token_ids[: sequence.scored_start]), []).append(index)
        answers_by_index: dict[int, LogLikelihood] = {}
        server = self._server_for(max((len(context_ids) for context_ids in indices_by_context), default=0) + 1)
        for position, (context_ids, indices) in enumerate(indices_by_context.items()):
            target_ids = [sequences[index].token_ids[-1] for index in indices]
            answers = self._next_token_scores(server, context_ids, target_ids, uses_cache=position > 0)
            for index, answer in zip(indices, answers, strict=True):
                if not math.isfinite(answer.log_probability):
                    raise NotFinite(index, answer.log_probability)
                answers_by_index[index] = answer
                report_computed(new_token_counts[index])
        return [answers_by_index[index] for index in range(len(sequences))]

    @_name_continuation()
    def generate(
        self,
        prompts: Sequence[GenerationPrompt],
        stops_by_prompt: Sequence[Sequence[str]],
        encoding: Encoding,
        report_computed: ReportComputedCount = ignore_computed_count,
    ) -> list[GeneratedText]:
        """See `Engine`; as many at a time as there are slots. With one, the same prompts have the same texts at any time."""
        server = self._server_for(max((len(p.token_ids) + p.max_new_tokens for p in prompts), default=0))

        sorted_indices = sorted(range(len(prompts)), key=lambda n: prompts[n].token_ids)

        def generate_one(index: int, is_stopped: threading.Event) -> GeneratedText:
            prompt, stop_strings = prompts[index], stops_by_prompt[index]
            uses_cache = index != sorted_indices[0]  # see `log_likelihoods`
            continuation_ids = self._continuation_ids(server, prompt, stop_strings, encoding, uses_cache, is_stopped)
            return generated_text(continuation_ids, prompt, stop_strings, encoding)

        answers_by_index = self._answer_all(sorted_indices, generate_one, report_computed)
        return [answers_by_index[index] for index in range(len(prompts))]

    def _server_for(self, request_tokens: int) -> LlamaCppServer:
        """llama.cpp with room for requests of so many tokens, their texts included."""
        most_tokens = self._settings.context_tokens
        if self._server is None or self._context_tokens < min(request_tokens, most_tokens):
            self.close()
            context_tokens = max(self._context_tokens, _SMALLEST_CONTEXT_TOKENS)
            while context_tokens < request_tokens:
                context_tokens *= 2
            self._context_tokens = min(context_tokens, most_tokens)
            settings = dataclasses.replace(self._settings, context_tokens=self._context_tokens)
            self._server = LlamaCppServer.start(self._gguf_path, settings)
        return self._server

    def _next_token_scores(
        self, server: LlamaCppServer, context_ids: Sequence[int], target_ids: Sequence[int], uses_cache: bool
    ) -> list[LogLikelihood]:
        """The score of each token of `target_ids` as the one after a prompt, all from one list of probabilities."""
        for listed_count in (min(_LISTED_TOKENS, self._vocabulary_size), self._vocabulary_size):
            log_probability_by_id = server.next_token_log_probabilities(
                context_ids, self._tokenizer, listed_count, uses_cache
            )
            uses_cache = True  # where another list is needed
            if all(target_id in log_probability_by_id for target_id in target_ids):
                break
        first_id = next(iter(log_probability_by_id), None)
        return [
            LogLikelihood(_log_probability(log_probability_by_id.get(target_id, math.nan)), target_id == first_id)
            for target_id in target_ids
        ]

    def _continuation_ids(
        self,
        server: LlamaCppServer,
        prompt: GenerationPrompt,
        stop_strings: Sequence[str],
        encoding: Encoding,
        uses_cache: bool,
        is_stopped: threading.Event,
    ) -> list[int]:
        """The greedy ids after a prompt, up to where `encoding` ends them.

        llama.cpp ends a text by rules of its own: at a stop string anywhere, at any token that its file calls an end. Where the
        protocol goes on, so is it told to.
        """
        continuation_ids: list[int] = []
        while not is_stopped.is_set():
            request = GREEDY_OPTIONS | {
                "prompt": prompt.token_ids + continuation_ids,
                "n_predict": prompt.max_new_tokens - len(continuation_ids),
                "stop": list(stop_strings),
                "return_tokens": True,
                "cache_prompt": uses_cache or bool(continuation_ids),
            }
            new_ids = server.post("/completion", request).get("tokens")
            if not new_ids:
                raise UserError("llama.cpp generates no token", where=self._gguf_path)
            for token_id in new_ids:
                continuation_ids.append(token_id)
                if len(continuation_ids) >= prompt.max_new_tokens or encoding.is_finished(
                    continuation_ids, stop_strings
                ):
                    return continuation_ids
        return continuation_ids

    def _answer_all(
        self,
        sorted_indices: Sequence[int],
        compute_answer: Callable[[int, threading.Event], _T],
        report_computed: ReportComputedCount,
    ) -> dict[int, _T]:
        """The answer of each number, begun in order; where one fails, or the user interrupts, llama.cpp is ended at once."""
        answers_by_index: dict[int, _T] = {}
        is_stopped = threading.Event()
        with ThreadPoolExecutor(self._settings.slot_count, thread_name_prefix="llama.cpp") as executor:
            index_by_future = {executor.submit(compute_answer, index, is_stopped): index for index in sorted_indices}
            try:
                for future in as_completed(index_by_future):
                    answers_by_index[index_by_future[future]] = future.result()
                    report_computed(1)
            except BaseException:
                is_stopped.set()
                executor.shutdown(wait=False, cancel_futures=True)
                self.close()  # the threads are waiting for it
                raise
        return answers_by_index


def check_scored_tokens(token_count: int, answer: str = "an answer") -> None:
    """Raise UserError, which says what the `answer` is, where a continuation of so many tokens cannot be scored."""
    if token_count > _MAX_SCORED_TOKENS:
        raise UserError(
            f"{answer} has {token_count} tokens, and llama.cpp's server tells the probabilities of one",
            where="--engine llamacpp",
            hint="this model's tokenizer divides the letters of choices; --engine hf scores the file's exact weights",
        )


def difference_sentences(settings: LlamaCppSettings, differing_text_count: int, text_count: int) -> list[str]:
    """What llama.cpp does otherwise than the engine in this process, with these settings.

    Of `text_count` texts it makes other token ids of `differing_text_count`.
    """
    sentences = [
        "llama.cpp computes with the file's own weights and rounds activations as their types demand; --engine hf computes "
        "the same weights in full precision",
    ]
    if settings.cache_type != "f32" or settings.uses_flash_attention:
        flash_attention = ", flash attention where llama.cpp chooses it" if settings.uses_flash_attention else ""
        sentences.append(f"keys and values are cached as {settings.cache_type}{flash_attention}")
    if settings.slot_count > 1:
        sentences.append(
            f"{settings.slot_count} texts are generated at a time, and llama.cpp rounds otherwise with what else it computes: "
            "another run may give other texts"
        )
    if differing_text_count:
        sentences.append(
            f"llama.cpp makes other token ids of {differing_text_count} of {text_count} adversarial texts; it was sent those "
            "of the tokenizer here"
        )
    return sentences


def _log_probability(listed_value: float) -> float:
    """A listed log-probability in nats as a score; NaN stays."""
    return listed_value if math.isnan(listed_value) else max(listed_value, _SMALLEST_LOG_PROBABILITY)
