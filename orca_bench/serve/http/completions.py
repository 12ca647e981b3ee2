"""`POST /v1/completions`: a body in, OpenAI's object, or the events of a stream, out.

Where a prompt is echoed, its tokens have their log-probabilities, as the evaluation computes them. The list of tokens goes on
with those that were generated, also with one that ends the text by its id, whose text is "". There is none with `max_tokens` 0,
nor where a stop text begins with the first.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca_bench.serve.answer_batch import AnswerBatch, AnswerEnd, AnswerPart, AnswerRequest
from orca_bench.serve.answer_text import ScoredToken
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.http.api_objects import AnswerHeader, json_log_probability, usage
from orca_bench.serve.http.requests import CompletionBody
from orca_bench.serve.http.served_model import ServedModel
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.token_requests import TokenRequest, TokenScore

#: What a completion does that says nothing, as OpenAI has it.
_DEFAULT_SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=0)
_DEFAULT_MAX_TOKENS = 16


@dataclass
class _Choice:
    """One answer as it grows; `offset` is the length of the text so far."""

    prompt_text: str
    prompt_ids: list[int]
    prompt_token_texts: list[str]
    text: str = ""
    tokens: list[ScoredToken] = field(default_factory=list)
    offset: int = 0
    end: AnswerEnd | None = None


class Completion:
    """The answer to one request for completions; made by `prepare`."""

    def __init__(self, body: CompletionBody, model: ServedModel, choices: list[_Choice], batch: AnswerBatch):
        self._body, self._model, self._choices, self._batch = body, model, choices, batch
        self._header = AnswerHeader("cmpl", "text_completion", model.name)

    @staticmethod
    async def prepare(body: CompletionBody, model: ServedModel) -> Completion:
        """Check and encode a request; raises ApiError for what the model cannot take."""
        sampling = model.sampling(body, _DEFAULT_SAMPLING)
        model.check_answer_count(body, len(body.prompt))
        requests, choices = [], []
        for each in body.prompt:
            prompt_ids = await model.encode(each, body.add_special_tokens) if isinstance(each, str) else each
            model.check_prompt(prompt_ids)
            room = model.room_after(prompt_ids)
            max_tokens = min(_DEFAULT_MAX_TOKENS, room) if body.max_tokens is None else body.max_tokens
            if max_tokens > room:
                message = (
                    f"the model's context window is {model.window} tokens, and {len(prompt_ids)} of the prompt and "
                    f"{max_tokens} new ones were requested"
                )
                raise ApiError(400, message, "max_tokens", "context_length_exceeded")
            scores_prompt = bool(body.echo) and body.logprobs is not None
            tokens = TokenRequest(prompt_ids, max_tokens, sampling, body.logprobs or 0, scores_prompt)
            stop_texts, stop_ids = tuple(body.stop or ()), frozenset(body.stop_token_ids or ())
            requests.append(AnswerRequest(tokens, stop_texts, stop_ids, continues_prompt=True))
            text = each if isinstance(each, str) else model.tokenizer.decode(prompt_ids) if body.echo else ""
            prompt_token_texts = await model.token_texts(prompt_ids) if scores_prompt else []
            choices += [_Choice(text, prompt_ids, prompt_token_texts) for _ in range(body.n or 1)]
        return Completion(body, model, choices, model.batch(body, requests))

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        async with contextlib.aclosing(self._batch.parts()) as parts:
            async for part in parts:
                self._add(part)
        choice_objects = [
            self._choice_object(index, choice.text, choice.tokens, choice.end)
            for index, choice in enumerate(self._choices)
        ]
        return {**self._header.fields(), "choices": choice_objects, "usage": self._usage()}

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as a stream."""
        async with contextlib.aclosing(self._batch.parts()) as parts:
            async for part in parts:
                text, tokens = self._add(part)
                if text or tokens or part.end is not None:
                    choice_object = self._choice_object(part.index, text, tokens, part.end)
                    yield {**self._header.fields(), "choices": [choice_object]}
        if self._body.has_usage_event:
            yield {**self._header.fields(), "choices": [], "usage": self._usage()}

    def _add(self, part: AnswerPart) -> tuple[str, list[ScoredToken]]:
        """Add a part to its choice; returns the text and the tokens that it adds."""
        choice = self._choices[part.index]
        text, tokens = part.piece.text, part.piece.tokens
        if part.end is not None and part.end.stop_score is not None:
            tokens = [*tokens, ScoredToken("", part.end.stop_score)]
        is_first = not choice.text and not choice.tokens
        if self._body.echo and is_first and (part.prompt_scores is not None or self._body.logprobs is None):
            text = choice.prompt_text + text
            if part.prompt_scores is not None:
                first_score = TokenScore(choice.prompt_ids[0], math.nan)  # nothing precedes it
                tokens = [
                    *(
                        ScoredToken(*pair)
                        for pair in zip(
                            choice.prompt_token_texts, [s or first_score for s in part.prompt_scores], strict=True
                        )
                    ),
                    *tokens,
                ]
        choice.text += text
        choice.tokens += tokens
        choice.end = part.end
        return text, tokens

    def _choice_object(
        self, index: int, text: str, tokens: Sequence[ScoredToken], end: AnswerEnd | None
    ) -> dict[str, Any]:
        finish_reason = None if end is None else end.finish_reason
        has_logprobs = self._body.logprobs is not None
        choice_object: dict[str, Any] = {"index": index, "text": text, "finish_reason": finish_reason}
        choice_object["logprobs"] = self._logprobs(index, tokens) if has_logprobs else None
        if self._body.return_token_ids and end is not None:
            choice = self._choices[index]
            prompt_count = len(choice.prompt_ids) if self._body.echo and has_logprobs else 0
            token_ids = [token.score.token_id for token in choice.tokens[prompt_count:]]
            choice_object |= {"prompt_token_ids": choice.prompt_ids, "token_ids": token_ids}
        return choice_object

    def _logprobs(self, index: int, tokens: Sequence[ScoredToken]) -> dict[str, Any]:
        """OpenAI's lists of tokens; the first one of a text has no log-probability."""
        choice, names = self._choices[index], self._model.token_names
        as_ids = bool(self._body.return_tokens_as_token_ids)
        lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            score = token.score
            is_scored = not math.isnan(score.log_probability)  # as of the first token, which nothing precedes
            top: dict[str, float] = {}
            for token_id, value in (*score.top, (score.token_id, score.log_probability)):
                text = token.text if token_id == score.token_id else names[token_id]
                top.setdefault(f"token_id:{token_id}" if as_ids else text, json_log_probability(value))
            lists["tokens"].append(f"token_id:{score.token_id}" if as_ids else token.text)
            lists["token_logprobs"].append(json_log_probability(score.log_probability) if is_scored else None)
            lists["top_logprobs"].append(top if is_scored else None)
            lists["text_offset"].append(choice.offset)
            choice.offset += len(token.text)
        return lists

    def _usage(self) -> dict[str, Any]:
        """The numbers of tokens; a prompt counts once, however many answers it has."""
        return usage([choice.end for choice in self._choices if choice.end is not None], self._body.n or 1)
