"""What travels through lm-evaluation-harness: a request on its way to the model, and the answer on its way back.

lm-eval hands `Instance`s to a model, and the model's responses to filters, tasks and samples, without changing either.
`RequestInstance` is an instance that carries our request; `TextResponse` and `ScoreResponse` are what lm-eval expects of a
model, a string and a pair, and carry our answer. So no request has to be looked up by its text. Its own module because
the model and the tasks share it and do not depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from lm_eval.api.instance import Instance

from orca_bench.evaluate.protocols import Answer, Request

#: What a model gives back for one instance: ours, or that of any model of lm-eval.
Response = str | tuple[float, bool]


@dataclass
class RequestInstance(Instance):
    """An instance that carries the request that it was made of."""

    request: Request = field(kw_only=True)


class TextResponse(str):
    """A generated text, as lm-eval expects it, with the whole answer."""

    answer: Answer

    def __new__(cls, answer: Answer) -> Self:
        """The response of an answer whose value is a text."""
        response = super().__new__(cls, answer.text)
        response.answer = answer
        return response

    def __reduce__(self) -> tuple[type[Self], tuple[Answer]]:
        """How the response is copied and pickled: from its answer."""
        return type(self), (self.answer,)


class ScoreResponse(tuple[float, bool]):
    """(log-probability in nats, whether it is greedy), as lm-eval expects it, with the whole answer."""

    answer: Answer

    def __new__(cls, answer: Answer) -> Self:
        """The response of an answer whose value is a log-probability."""
        response = super().__new__(cls, (answer.log_probability, bool(answer.is_greedy)))
        response.answer = answer
        return response

    def __reduce__(self) -> tuple[type[Self], tuple[Answer]]:
        """How the response is copied and pickled: from its answer."""
        return type(self), (self.answer,)


def request_of(instance: Instance, max_new_tokens: int) -> Request:
    """The request of an instance: the one that it carries, or, of lm-eval's own tasks, the one that its arguments are.

    `max_new_tokens` is the limit of a text where the instance says none.
    """
    if isinstance(instance, RequestInstance):
        return instance.request
    context, continuation_or_options = instance.args
    if instance.request_type == "loglikelihood":
        return Request(context, continuation_or_options)
    stop_value: str | list[str] = continuation_or_options.get("until") or []
    stop_strings = (stop_value,) if isinstance(stop_value, str) else tuple(stop_value)
    return Request(
        context, stop_strings=stop_strings, max_new_tokens=continuation_or_options.get("max_gen_toks", max_new_tokens)
    )


def generation_options(request: Request) -> dict[str, Any]:
    """How a text is to be generated, as lm-eval's models read it."""
    return {"until": list(request.stop_strings), "do_sample": False, "max_gen_toks": request.max_new_tokens}


def answer_of(response: Response) -> Answer:
    """The answer of a response: the one that it carries, or, of another model of lm-eval, all that the response says."""
    if isinstance(response, TextResponse | ScoreResponse):
        return response.answer
    if isinstance(response, str):
        return Answer(response)
    log_probability, greedy = response
    return Answer(float(log_probability), bool(greedy))
