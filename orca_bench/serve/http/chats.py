"""`POST /v1/chat/completions`: a body in, OpenAI's object, or the events of a stream, out.

The prompt is that of training, as `prompt.render` writes it. An answer ends at the header of another turn.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from orca_bench import prompt
from orca_bench.serve.answer_batch import AnswerBatch, AnswerEnd, AnswerPart, AnswerRequest
from orca_bench.serve.answer_text import ScoredToken
from orca_bench.serve.http.answer_memory import max_answer_bytes
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.http.api_objects import AnswerHeader, GeneratedAnswer, json_log_probability, usage
from orca_bench.serve.http.requests import ChatBody
from orca_bench.serve.http.served_model import ServedModel
from orca_bench.serve.token_requests import TokenRequest


class Chat(GeneratedAnswer):
    """The answer to one request of a chat; made by `prepare`."""

    def __init__(self, body: ChatBody, model: ServedModel, batch: AnswerBatch):
        super().__init__(bool(body.stream), max_answer_bytes(batch.requests, echoes_prompts=False))
        self._body, self._model, self._batch = body, model, batch
        self._ends: dict[int, AnswerEnd] = {}

    @staticmethod
    async def prepare(body: ChatBody, model: ServedModel) -> Chat:
        """Check and encode a request; raises ApiError for what the model cannot take."""
        if body.top_logprobs is not None and not body.logprobs:
            raise ApiError(400, "top_logprobs is for logprobs: true", "top_logprobs")
        prompt_ids = await model.encode(model.prompt_text(body.messages))
        model.check_prompt(prompt_ids)
        room = model.room_after(prompt_ids)
        if room < 1:
            message = f"the prompt has {len(prompt_ids)} tokens and fills the model's context window"
            raise ApiError(400, message, "messages", "context_length_exceeded")
        max_tokens = body.max_completion_tokens or body.max_tokens or model.chat_sampling.max_new_tokens
        sampling = model.sampling(body, model.chat_sampling)
        tokens = TokenRequest(prompt_ids, min(max_tokens, room), sampling, body.top_logprobs or 0)
        stop_texts = (*prompt.TURN_HEADERS, *(body.stop or ()))
        request = AnswerRequest(tokens, stop_texts, frozenset(body.stop_token_ids or ()))
        return Chat(body, model, model.batch(body, [request]))

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        texts = [""] * (self._body.n or 1)
        tokens: list[list[ScoredToken]] = [[] for _ in texts]
        async with contextlib.aclosing(self._batch.parts()) as parts:
            async for part in parts:
                texts[part.index] += part.piece.text
                tokens[part.index] += part.piece.tokens
                self._note_end(part)
        choices = [
            self._choice_object(
                index, "message", {"role": "assistant", "content": text, "refusal": None}, tokens[index]
            )
            for index, text in enumerate(texts)
        ]
        fields = AnswerHeader("chatcmpl", "chat.completion", self._model.name).fields()
        return {**fields, "choices": choices, "usage": self._usage()}

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as a stream."""
        header = AnswerHeader("chatcmpl", "chat.completion.chunk", self._model.name)
        indices_with_role: set[int] = set()
        async with contextlib.aclosing(self._batch.parts()) as parts:
            async for part in parts:
                self._note_end(part)
                delta: dict[str, Any] = {} if part.index in indices_with_role else {"role": "assistant", "content": ""}
                indices_with_role.add(part.index)
                if part.piece.text:
                    delta["content"] = part.piece.text
                is_last = part.end is not None
                choice = self._choice_object(part.index, "delta", delta, part.piece.tokens, is_last)
                yield {**header.fields(), "choices": [choice]}
        if self._body.has_usage_event:
            yield {**header.fields(), "choices": [], "usage": self._usage()}

    def _note_end(self, part: AnswerPart) -> None:
        if part.end is not None:
            self._ends[part.index] = part.end

    def _choice_object(
        self, index: int, key: str, content: dict[str, Any], tokens: Sequence[ScoredToken], is_last: bool = True
    ) -> dict[str, Any]:
        logprobs = {"content": [self._token_object(token) for token in tokens], "refusal": None}
        return {
            "index": index,
            key: content,
            "logprobs": logprobs if self._body.logprobs else None,
            "finish_reason": self._ends[index].finish_reason if is_last else None,
        }

    def _token_object(self, token: ScoredToken) -> dict[str, Any]:
        names = self._model.token_names
        named_token = _named(token.text, token.score.log_probability)
        tops = [
            named_token if token_id == token.score.token_id else _named_piece(names[token_id], value)
            for token_id, value in token.score.top
        ]
        return {**named_token, "top_logprobs": tops}

    def _usage(self) -> dict[str, Any]:
        return usage([self._ends[index] for index in sorted(self._ends)], self._body.n or 1)


def _named(text: str, log_probability: float) -> dict[str, Any]:
    return {"token": text, "logprob": json_log_probability(log_probability), "bytes": list(text.encode())}


def _named_piece(name: str, log_probability: float) -> dict[str, Any]:
    """As `_named`, with the byte itself where the name is that of a single byte, as SentencePiece spells it."""
    named_token = _named(name, log_probability)
    byte = re.fullmatch("<0x([0-9A-F]{2})>", name)
    return named_token | {"bytes": [int(byte[1], 16)]} if byte else named_token
