"""A model behind the server: texts and messages in, checked token ids and requests for the scheduler out.

What a model cannot take is refused here, with the status and the words of OpenAI's API, before anything is computed. Its own
module because completions, chats and the page ask the same of a model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.serve.answer_batch import AnswerBatch, AnswerRequest
from orca_bench.serve.answer_text import TokenNames
from orca_bench.serve.batch_scheduler import BatchScheduler
from orca_bench.serve.http.answer_memory import answer_token_count
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.http.requests import Message, SamplingBody
from orca_bench.serve.prompt_texts import PromptTexts
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.token_requests import TokenRequest

#: The most tokens of all prompts that are echoed and all answers of one request together, which are in memory at once; a token
#: counts once more for each of its likeliest tokens.
MAX_REQUEST_TOKENS = 2**18

_T = TypeVar("_T")


class ServedModel:
    """A model for which clients ask by the name of its scheduler.

    `default_system` is the system message of chats that have none, `chat_sampling` what they do not say of the sampling.
    """

    def __init__(self, scheduler: BatchScheduler, default_system: str, chat_sampling: Sampling):
        self.scheduler = scheduler
        self.name, self.tokenizer, self.window = scheduler.name, scheduler.tokenizer, scheduler.window
        self.default_system, self.chat_sampling = default_system, chat_sampling
        self.created, self.token_names = int(time.time()), TokenNames(scheduler.tokenizer)
        self._prompt_texts = PromptTexts(scheduler.tokenizer)  # used in the tokenizer's thread alone
        self._tokenizer_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def encode(self, text: str, with_bos: bool = True) -> list[int]:
        """The token ids of a text, after BOS where the model has one; raises ApiError where it cannot be encoded."""
        try:
            token_ids = await self._in_tokenizer_thread(self.tokenizer.encode, text)
        except UserError as error:
            raise ApiError(400, str(error), "prompt") from error
        return [*(self.tokenizer.prefix if with_bos else []), *token_ids]

    async def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens."""
        return await self._in_tokenizer_thread(self.tokenizer.decode, token_ids)

    async def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each token adds to those before it."""
        return await self._in_tokenizer_thread(self._prompt_texts.token_texts, token_ids)

    async def _in_tokenizer_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """The result of a function: a long text does not hold up the other requests."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizer_thread, function, *arguments)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The prompt of a chat, as `orca-bench chat` writes it; raises ApiError for messages in another order.

        A system message first, if any, of role system or developer; then turns of a question, its input if it has one, and its
        answer, up to a question.
        """
        has_system = messages[0].role in ("system", "developer")
        system = messages[0].content if has_system else self.default_system
        turns: list[prompt.Turn] = []
        question: prompt.Turn | None = None
        for number, message in enumerate(messages[has_system:], start=int(has_system)):
            if message.role == "user" and question is None:
                question = prompt.Turn(message.content, None, "")
            elif message.role == "input" and question is not None and question.input is None:
                question = replace(question, input=message.content)
            elif message.role == "assistant" and question is not None:
                turns.append(replace(question, response=message.content.rstrip()))
                question = None
            else:
                raise ApiError(
                    400,
                    f"a message of role {message.role} cannot stand there: after one system (or developer) message, if "
                    "any, come user, input where there is one, and assistant, again and again",
                    f"messages.{number}.role",
                )
        if question is None:
            raise ApiError(400, "the last message must be a question, of role user or input", "messages")
        return prompt.render(system, question.instruction, question.input, turns)

    def check_prompt(self, token_ids: Sequence[int]) -> None:
        """Raise ApiError for a prompt without tokens, for ids that the model does not have, and for a prompt that is too long."""
        if not token_ids:
            raise ApiError(400, "the prompt has no token", "prompt")
        vocabulary_size = self.scheduler.vocabulary_size
        if (wrong_id := next((i for i in token_ids if not 0 <= i < vocabulary_size), None)) is not None:
            message = f"{str(wrong_id)[:30]} is no token id of this model: they run from 0 to {vocabulary_size - 1}"
            raise ApiError(400, message, "prompt")
        if len(token_ids) > self.window:
            message = f"the prompt has {len(token_ids)} tokens and the model's context window {self.window}"
            raise ApiError(400, message, "prompt", "context_length_exceeded")

    def sampling(self, body: SamplingBody, defaults: Sampling) -> Sampling:
        """How the tokens of an answer are chosen: as the request says, or else by the defaults."""

        def value_or(value: float | None, default: float) -> float:
            return default if value is None else value

        temperature = 0.0 if defaults.greedy and body.temperature is None else defaults.temperature
        temperature = value_or(body.temperature, temperature)
        return Sampling(
            temperature=temperature,
            top_p=value_or(body.top_p, defaults.top_p),
            top_k=max(0, int(value_or(body.top_k, defaults.top_k))),
            greedy=temperature == 0,
            seed=defaults.seed if body.seed is None else body.seed % 2**63,
        )

    def check_answer_count(self, body: SamplingBody, prompt_count: int) -> None:
        """Raise ApiError where `body.n` answers to each prompt are too many for one request."""
        if (body.n or 1) * prompt_count > MAX_REQUEST_TOKENS // 64:
            message = f"{body.n or 1} answers to each of {prompt_count} prompts are too many for one request"
            raise ApiError(400, f"{message}; at most {MAX_REQUEST_TOKENS // 64} can be computed at once", "n")

    def batch(self, body: SamplingBody, requests: Sequence[AnswerRequest], echoes_prompts: bool = False) -> AnswerBatch:
        """The answers to some requests, `body.n` to each, one after another; each has the next seed.

        Raises ApiError where they have more tokens, with those of prompts that are echoed, than memory should hold.
        """
        count = body.n or 1
        token_count = count * sum(
            answer_token_count(request.tokens, echoes_prompts) * (1 + request.tokens.top_count) for request in requests
        )
        if token_count > MAX_REQUEST_TOKENS:
            message = f"{count} answers to each of {len(requests)} prompts, {token_count} tokens, are too many for one request"
            message = f"{message}; at most {MAX_REQUEST_TOKENS} tokens can be computed at once, the likeliest of each included"
            raise ApiError(400, message, "n")
        requests_for_answers = [_with_seed(request, number) for request in requests for number in range(count)]
        return AnswerBatch(self.scheduler, requests_for_answers, self.scheduler.max_open)

    def room_after(self, token_ids: Sequence[int]) -> int:
        """How many tokens have place in the context window after a prompt."""
        return self.window - len(token_ids)

    @property
    def is_computing(self) -> bool:
        """Whether a request is computed or waits."""
        statistics = self.scheduler.statistics()
        return statistics.open_requests + statistics.waiting_requests > 0

    async def close(self) -> None:
        """End the scheduler, with all requests that it still has."""
        await asyncio.to_thread(self.scheduler.close)
        self._tokenizer_thread.shutdown(wait=False)


def _with_seed(request: AnswerRequest, number: int) -> AnswerRequest:
    """A request whose seed, where it has one, is a number larger."""
    sampling = request.tokens.sampling
    if sampling.seed is None or number == 0:
        return request
    tokens: TokenRequest = replace(request.tokens, sampling=replace(sampling, seed=(sampling.seed + number) % 2**63))
    return replace(request, tokens=tokens)
