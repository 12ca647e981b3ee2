"""What travels through lm-evaluation-harness: a request on its way to the model, and the answer on its way back.

lm-eval hands `Instance`s to a model, and the model's responses to filters, tasks and samples, without changing either.
`RequestInstance` is an instance that carries our request; `TextResponse`, `ScoreResponse` and `WholeTextResponse` are what
lm-eval expects of a model, a string, a pair and a number, and carry our answer. So no request has to be looked up by its text.
Its own module because the model and the tasks share it and do not depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from lm_eval.api.instance import Instance

from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.evaluate.harness.generation_arguments import read_generation_arguments
from orca_bench.evaluate.protocols import Answer, Request

#: What a model gives back for one instance: ours, or that of any model of lm-eval.
Response = str | tuple[float, bool] | float


@dataclass
class RequestInstance(Instance):
    """An instance that carries the request that it was made of."""

    request: Request = field(kw_only=True)


class _WithAnswer:
    """What the responses have in common: the whole answer, of which they are copied and pickled."""

    answer: Answer

    def __reduce__(self) -> tuple[type[Self], tuple[Answer]]:
        """How the response is copied and pickled: from its answer."""
        return type(self), (self.answer,)


class TextResponse(str, _WithAnswer):
    """A generated text, as lm-eval expects it, with the whole answer."""

    def __new__(cls, answer: Answer) -> Self:
        """The response of an answer whose value is a text."""
        response = super().__new__(cls, answer.text)
        response.answer = answer
        return response


class ScoreResponse(tuple[float, bool], _WithAnswer):
    """(log-probability in nats, whether it is greedy), as lm-eval expects it, with the whole answer."""

    def __new__(cls, answer: Answer) -> Self:
        """The response of an answer whose value is a log-probability."""
        response = super().__new__(cls, (answer.log_probability, bool(answer.is_greedy)))
        response.answer = answer
        return response


class WholeTextResponse(float, _WithAnswer):
    """The log-probability of a whole text in nats, as lm-eval expects it, with the whole answer."""

    def __new__(cls, answer: Answer) -> Self:
        """The response of an answer whose value is a log-probability."""
        response = super().__new__(cls, answer.log_probability)
        response.answer = answer
        return response


def request_of(instance: Instance, max_new_tokens: int) -> Request:
    """The request of an instance: the one that it carries, or, of lm-eval's own tasks, the one that its arguments are.

    `max_new_tokens` is the limit of a text where the instance says none. A whole text that is scored is the continuation of an
    empty context. Raises UserError for arguments of a generation that are not served.
    """
    if isinstance(instance, RequestInstance):
        return instance.request
    if instance.request_type == "loglikelihood_rolling":
        return Request("", instance.args[0])
    context, continuation_or_options = instance.args
    if instance.request_type == "loglikelihood":
        return Request(context, continuation_or_options)
    arguments = read_generation_arguments(continuation_or_options, max_new_tokens)
    return Request(context, stop_strings=arguments.stop_strings, max_new_tokens=arguments.max_new_tokens)


def token_choice_of(instance: Instance, defaults: TokenChoice) -> TokenChoice | None:
    """The rule of the next token of an instance's text, None where it is the likeliest; raises UserError as `request_of`."""
    if isinstance(instance, RequestInstance):
        return None
    return read_generation_arguments(instance.args[1], 1, defaults).token_choice


def generation_options(request: Request) -> dict[str, Any]:
    """How a text is to be generated, as lm-eval's models read it."""
    return {"until": list(request.stop_strings), "do_sample": False, "max_gen_toks": request.max_new_tokens}


def answer_of(response: Response) -> Answer:
    """The answer of a response: the one that it carries, or, of another model of lm-eval, all that the response says."""
    if isinstance(response, _WithAnswer):
        return response.answer
    if isinstance(response, str | float):
        return Answer(response)
    log_probability, greedy = response
    return Answer(float(log_probability), bool(greedy))
