"""`/v1/chat/completions` by openai's client: the prompt of training, and the answers of `orca-bench chat`."""

import openai
import pytest
from waiting import PATIENCE_S

from orca_bench import prompt
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator
from orca_bench.system_messages import SYSTEM_MESSAGES


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def generator(tiny_model):
    return Generator(ModelFolder(str(tiny_model)))


def user(text):
    return {"role": "user", "content": text}


def test_a_conversation_is_answered_as_the_terminal_answers_it(client, generator):
    sampling = {"temperature": 0.7, "top_p": 0.9, "seed": 4}
    extra = {"top_k": 20}
    first = client.chat.completions.create(model="model", messages=[user("Where?")], extra_body=extra, **sampling)
    text = first.choices[0].message.content
    same = Sampling(0.7, 0.9, 20, 24, seed=4)
    assert text == "".join(generator.answer(SYSTEM_MESSAGES[5], "Where?", None, same))
    messages = [
        {"role": "system", "content": "Be brief."},
        user("Where?"),
        first.choices[0].message,  # as it came
        user([{"type": "text", "text": "And "}, {"type": "text", "text": "why?"}]),
        {"role": "input", "content": "A pond."},
    ]
    second = client.chat.completions.create(model="model", messages=messages, extra_body=extra, **sampling)
    turns = [prompt.Turn("Where?", None, text.rstrip())]
    expected = "".join(generator.answer("Be brief.", "And why?", "A pond.", same, turns))
    assert second.choices[0].message.content == expected


def test_a_developer_message_is_a_system_message(server):
    system_request, developer_request = (
        {"model": "model", "messages": [{"role": role, "content": "Be brief."}, user("Where?")]}
        for role in ("system", "developer")
    )
    assert server.post("/page/prompt", **developer_request).json()["text"] == prompt.render("Be brief.", "Where?")
    answers = [server.post("/v1/chat/completions", **request) for request in (system_request, developer_request)]
    assert answers[0].json()["choices"] == answers[1].json()["choices"]


def test_the_second_turn_uses_what_was_computed_for_the_first(client, server):
    messages = [user("Where is the ship that left the harbour at noon, and who sang to the gulls until dusk?")]
    first = client.chat.completions.create(model="model", messages=messages)
    messages += [first.choices[0].message, user("Why?")]
    second = client.chat.completions.create(model="model", messages=messages)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 16


def test_tools_that_a_client_offers_change_nothing(client):
    options = {"model": "model", "messages": [user("Where?")], "max_tokens": 10}
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
    offered = {"tools": [tool], "tool_choice": "auto", "parallel_tool_calls": True}
    plain, with_tools = (client.chat.completions.create(**options, **more) for more in ({}, offered))
    assert with_tools.choices[0].message.content == plain.choices[0].message.content
    assert with_tools.usage.prompt_tokens == plain.usage.prompt_tokens
    assert not with_tools.choices[0].message.tool_calls


def test_a_stream_has_the_tokens_and_their_log_probabilities(client):
    options = {"model": "model", "messages": [user("Where?")], "logprobs": True, "top_logprobs": 2, "max_tokens": 10}
    whole = client.chat.completions.create(**options).choices[0]
    assert "".join(token.token for token in whole.logprobs.content) == whole.message.content
    assert all(token.logprob == pytest.approx(token.top_logprobs[0].logprob) for token in whole.logprobs.content), (
        "greedy"
    )
    assert all(token.top_logprobs[0].token == token.token for token in whole.logprobs.content)
    assert all(len(token.top_logprobs) == 2 for token in whole.logprobs.content)
    text, tokens, role = "", [], None
    for event in client.chat.completions.create(**options, stream=True):
        (choice,) = event.choices
        role = choice.delta.role or role
        text += choice.delta.content or ""
        tokens += choice.logprobs.content
    assert (text, role, choice.finish_reason) == (whole.message.content, "assistant", whole.finish_reason)
    assert [token.token for token in tokens] == [token.token for token in whole.logprobs.content]


@pytest.mark.parametrize(
    ("roles", "parameter"),
    [
        (["user", "system"], "messages.1.role"),
        (["system", "system", "user"], "messages.1.role"),
        (["system", "developer", "user"], "messages.1.role"),
        (["user", "developer"], "messages.1.role"),
        (["system", "user", "user"], "messages.2.role"),
        (["assistant"], "messages.0.role"),
        (["input"], "messages.0.role"),
        (["user", "user"], "messages.1.role"),
        (["user", "input", "input"], "messages.2.role"),
        (["user", "assistant"], "messages"),
        (["system"], "messages"),
    ],
)
def test_messages_in_an_order_that_no_prompt_has_are_refused(server, roles, parameter):
    messages = [{"role": role, "content": "x"} for role in roles]
    error = server.post("/v1/chat/completions", model="model", messages=messages).json()["error"]
    assert error["param"] == parameter and (
        "cannot stand there" in error["message"] or "last message" in error["message"]
    )


def test_an_answer_is_as_long_as_the_window_has_place(server, tokenizer):
    question = "a" * 900
    answer = server.post("/v1/chat/completions", model="model", messages=[user(question)], max_tokens=5000).json()
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["total_tokens"] == 1024
    message = server.refusal("/v1/chat/completions", model="model", messages=[user(question * 2)])
    assert "the model's context window 1024" in message
