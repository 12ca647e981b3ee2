"""`POST /v1/completions`: a body in, OpenAI's object, or the events of a stream, out.

Where a prompt is echoed, its tokens have their log-probabilities, as the evaluation computes them. The list of tokens goes on
with those that were generated, also with one that ends the text by its id, whose text is "". There is none with `max_tokens` 0,
nor where a stop text begins with the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca_bench.serve.answer_batch import AnswerBatch, AnswerEnd, AnswerPart, AnswerRequest
from orca_bench.serve.http.answer_memory import max_answer_bytes
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.http.api_objects import AnswerHeader, GeneratedAnswer, json_log_probability, usage
from orca_bench.serve.http.requests import CompletionBody
from orca_bench.serve.http.served_model import ServedModel
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.token_requests import TokenRequest, TokenScore

#: What a completion does that says nothing, as OpenAI has it.
_DEFAULT_SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=0)
_DEFAULT_MAX_TOKENS = 16


@dataclass(frozen=True)
class _ListedToken:
    """A token of OpenAI's lists; `score` is None for the first of a prompt, which nothing precedes."""

    token_id: int
    text: str
    score: TokenScore | None


@dataclass
class _Choice:
    """One answer as it grows.

    `prompt_text` and `prompt_token_texts` are empty where they are not echoed. `offset` is the length of the listed tokens.
    """

    prompt_text: str
    prompt_ids: list[int]
    prompt_token_texts: list[str]
    text: str = ""
    tokens: list[_ListedToken] = field(default_factory=list)
    offset: int = 0
    end: AnswerEnd | None = None

    def prompt_tokens(self, scores: Sequence[TokenScore | None]) -> list[_ListedToken]:
        """The tokens of the prompt with their scores."""
        fields_by_token = zip(self.prompt_ids, self.prompt_token_texts, scores, strict=True)
        return [_ListedToken(*fields) for fields in fields_by_token]


class Completion(GeneratedAnswer):
    """The answer to one request for completions; made by `prepare`."""

    def __init__(self, body: CompletionBody, model: ServedModel, choices: list[_Choice], batch: AnswerBatch):
        super().__init__(bool(body.stream), max_answer_bytes(batch.requests, bool(body.echo)))
        self._body, self._model, self._choices, self._batch = body, model, choices, batch
        self._header = AnswerHeader("cmpl", "text_completion", model.name)

    @staticmethod
    async def prepare(body: CompletionBody, model: ServedModel) -> Completion:
        """Check and encode a request; raises ApiError for what the model cannot take."""
        sampling = model.sampling(body, _DEFAULT_SAMPLING)
        model.check_answer_count(body, len(body.prompt))
        scores_prompt = bool(body.echo) and body.logprobs is not None
        stop_texts, stop_ids = tuple(body.stop or ()), frozenset(body.stop_token_ids or ())
        requests, choices = [], []
        for prompt in body.prompt:
            prompt_ids = await model.encode(prompt, body.add_special_tokens) if isinstance(prompt, str) else prompt
            model.check_prompt(prompt_ids)
            room = model.room_after(prompt_ids)
            max_tokens = min(_DEFAULT_MAX_TOKENS, room) if body.max_tokens is None else body.max_tokens
            if max_tokens > room:
                message = (
                    f"the model's context window is {model.window} tokens, and {len(prompt_ids)} of the prompt and "
                    f"{max_tokens} new ones were requested"
                )
                raise ApiError(400, message, "max_tokens", "context_length_exceeded")
            tokens = TokenRequest(prompt_ids, max_tokens, sampling, body.logprobs or 0, scores_prompt)
            requests.append(AnswerRequest(tokens, stop_texts, stop_ids, continues_prompt=True))
            prompt_text = ""
            if body.echo:
                prompt_text = prompt if isinstance(prompt, str) else await model.decode(prompt_ids)
            prompt_token_texts = await model.token_texts(prompt_ids) if scores_prompt else []
            choices += [_Choice(prompt_text, prompt_ids, prompt_token_texts) for _ in range(body.n or 1)]
        return Completion(body, model, choices, model.batch(body, requests, bool(body.echo)))

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

    def _add(self, part: AnswerPart) -> tuple[str, list[_ListedToken]]:
        """Add a part to its choice; returns the text and the tokens that it adds."""
        choice, text = self._choices[part.index], part.piece.text
        tokens = [_ListedToken(token.score.token_id, token.text, token.score) for token in part.piece.tokens]
        if part.end is not None and part.end.stop_score is not None:
            tokens.append(_ListedToken(part.end.stop_score.token_id, "", part.end.stop_score))
        if part.prompt_scores is not None:
            text, tokens = choice.prompt_text + text, [*choice.prompt_tokens(part.prompt_scores), *tokens]
        elif self._body.logprobs is None and not choice.text:  # an echo without scores comes with the first part
            text = choice.prompt_text + text
        choice.text += text
        choice.tokens += tokens
        choice.end = part.end
        return text, tokens

    def _choice_object(
        self, index: int, text: str, tokens: Sequence[_ListedToken], end: AnswerEnd | None
    ) -> dict[str, Any]:
        finish_reason = None if end is None else end.finish_reason
        has_logprobs = self._body.logprobs is not None
        choice_object: dict[str, Any] = {"index": index, "text": text, "finish_reason": finish_reason}
        choice_object["logprobs"] = self._logprobs(index, tokens) if has_logprobs else None
        if self._body.return_token_ids and end is not None:
            choice = self._choices[index]
            prompt_count = len(choice.prompt_ids) if self._body.echo and has_logprobs else 0
            token_ids = [token.token_id for token in choice.tokens[prompt_count:]]
            choice_object |= {"prompt_token_ids": choice.prompt_ids, "token_ids": token_ids}
        return choice_object

    def _logprobs(self, index: int, tokens: Sequence[_ListedToken]) -> dict[str, Any]:
        """OpenAI's lists of tokens."""
        choice = self._choices[index]
        lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            score = token.score
            lists["tokens"].append(self._token_name(token.token_id, token.text))
            lists["token_logprobs"].append(None if score is None else json_log_probability(score.log_probability))
            lists["top_logprobs"].append(None if score is None else self._likeliest(token.text, score))
            lists["text_offset"].append(choice.offset)
            choice.offset += len(token.text)
        return lists

    def _likeliest(self, text: str, score: TokenScore) -> dict[str, float]:
        """The log-probabilities of the likeliest tokens and, with its text, of the one that was scored in their place."""
        names, log_probabilities = self._model.token_names, dict[str, float]()
        for token_id, log_probability in (*score.top, (score.token_id, score.log_probability)):
            name = self._token_name(token_id, text if token_id == score.token_id else names[token_id])
            log_probabilities.setdefault(name, json_log_probability(log_probability))
        return log_probabilities

    def _token_name(self, token_id: int, text: str) -> str:
        return f"token_id:{token_id}" if self._body.return_tokens_as_token_ids else text

    def _usage(self) -> dict[str, Any]:
        """The numbers of tokens; a prompt counts once, however many answers it has."""
        return usage([choice.end for choice in self._choices if choice.end is not None], self._body.n or 1)
