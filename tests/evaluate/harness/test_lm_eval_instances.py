"""What lm-eval carries for us: complete answers with plain strings and pairs, and requests with instances."""

import copy
import pickle

import pytest
from lm_eval.api.instance import Instance

from orca_bench.evaluate.harness.lm_eval_instances import (
    RequestInstance,
    ScoreResponse,
    TextResponse,
    WholeTextResponse,
    answer_of,
    generation_options,
    request_of,
)
from orca_bench.evaluate.protocols import Answer, Request

METADATA = ("task", 3, 1)


def test_a_response_is_what_lm_eval_expects_and_carries_the_answer() -> None:
    text = Answer("five", full_text="four five", hit_token_limit=True)
    response = TextResponse(text)
    assert response == "five" and answer_of(response) is text
    score = Answer(-2.5, is_greedy=True)
    log_probability, greedy = ScoreResponse(score)
    assert (log_probability, greedy) == (-2.5, True) and answer_of(ScoreResponse(score)) is score


def test_another_models_response_is_an_answer_of_which_no_more_is_known() -> None:
    assert answer_of("five") == Answer("five")
    assert answer_of((-2.5, False)) == Answer(-2.5, False)


@pytest.mark.parametrize(
    "response",
    [
        TextResponse(Answer("five", hit_token_limit=True)),
        ScoreResponse(Answer(-2.5, True)),
        WholeTextResponse(Answer(-9.0)),
    ],
)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda response: pickle.loads(pickle.dumps(response))])
def test_a_copy_of_a_response_carries_the_answer_too(response, duplicate):
    other = duplicate(response)
    assert type(other) is type(response) and other == response and other.answer == response.answer


def test_an_instance_that_carries_a_request_is_that_request() -> None:
    request = Request("context", stop_strings=("a", "b"), fixed_prefix_characters=3, max_new_tokens=7)
    arguments = (request.context, generation_options(request))
    instance = RequestInstance("generate_until", {}, arguments, 0, metadata=METADATA, request=request)
    assert request_of(instance, 256) is request and instance.doc_id == 3
    assert instance.args[1] == {"until": ["a", "b"], "do_sample": False, "max_gen_toks": 7}


def test_an_instance_of_lm_evals_own_task_is_read_by_its_arguments() -> None:
    pair = Instance("loglikelihood", {}, ("context", " a"), 0, metadata=METADATA)
    assert request_of(pair, 256) == Request("context", " a")
    text = Instance("generate_until", {}, ("context", {"until": "stop"}), 0, metadata=METADATA)
    assert request_of(text, 9) == Request("context", stop_strings=("stop",), max_new_tokens=9)
    limited = Instance("generate_until", {}, ("context", {"until": ["x"], "max_gen_toks": 4}), 0, metadata=METADATA)
    assert request_of(limited, 9) == Request("context", stop_strings=("x",), max_new_tokens=4)
