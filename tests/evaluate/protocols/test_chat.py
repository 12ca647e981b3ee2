"""The requests of protocol `chat`: which turns, which hashes, and what a result says of them."""

import json

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols, request_files
from orca_bench.evaluate.protocols import Chat, ChatSettings
from orca_bench.evaluate.protocols.chat import messages_of_context
from orca_bench.evaluate.tasks import SUITE
from orca_bench.results.protocol_description import ProtocolDescription

BY_NAME = {task.name: task for task in SUITE}


def documents(mini, protocol, task_name, limit=2):
    task = BY_NAME[task_name]
    return protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), limit)


@pytest.mark.parametrize("task", SUITE, ids=lambda task: task.name)
def test_few_shot_examples_are_turns_of_the_orca_protocols_questions(mini, task):
    """The same questions with the same examples: all turns together are the one turn, which is that of `orca`."""
    turns, one_turn = Chat(), Chat(settings=ChatSettings("one-turn"))
    pairs = zip(
        documents(mini, turns, task.name),
        documents(mini, one_turn, task.name),
        documents(mini, protocols.Orca("S"), task.name),
        strict=True,
    )
    for with_turns, in_one, in_orca in pairs:
        for request, other, orca in zip(with_turns.requests, in_one.requests, in_orca.requests, strict=True):
            messages = messages_of_context(request.context)
            assert [message["role"] for message in messages] == ["user", "assistant"] * task.shots + ["user"]
            (whole,) = messages_of_context(other.context)
            assert whole["role"] == "user" and f"### User:\n{whole['content']}\n\n### Response:" in orca.context
            for question, answer in zip(messages[::2], messages[1::2], strict=False):
                assert f"{question['content']} {answer['content']}\n\n" in whole["content"]
            assert whole["content"].endswith(messages[-1]["content"])
            assert request.continuation == other.continuation == orca.continuation
            assert set(request.stop_strings) <= set(orca.stop_strings)
            assert request.max_new_tokens == orca.max_new_tokens


def test_the_hash_of_requests_tells_turns_from_one_turn_and_system_messages_apart(mini):
    variants = [
        Chat(),
        Chat(settings=ChatSettings("one-turn")),
        Chat(""),
        Chat("Be brief."),
        Chat(None, {"gsm8k": 64}),
    ]
    hashes = {request_files.requests_sha256(documents(mini, protocol, "gsm8k")) for protocol in variants}
    assert len(hashes) == len(variants)
    descriptions = [ProtocolDescription.model_validate(protocol.describe()) for protocol in variants]
    for number, description in enumerate(descriptions):
        others = descriptions[:number] + descriptions[number + 1 :]
        assert all(description.differing_keys(other, {"gsm8k"}) for other in others)


def test_an_empty_system_message_is_another_chat_than_none(mini):
    with_empty = messages_of_context(documents(mini, Chat(""), "gsm8k")[0].requests[0].context)
    assert with_empty[0] == {"role": "system", "content": ""}
    without = messages_of_context(documents(mini, Chat(), "gsm8k")[0].requests[0].context)
    assert with_empty[1:] == without


def test_a_description_gives_the_protocol_again():
    settings = ChatSettings("one-turn", {"template_sha256": "0" * 64, "template_system": "Be kind."})
    for protocol in (Chat(), Chat(""), Chat("S", {"gsm8k": 7}, settings)):
        description = ProtocolDescription.model_validate(json.loads(json.dumps(protocol.describe())))
        assert protocols.protocol_of_result(description).describe() == protocol.describe()
    other = Chat(
        "S", {"gsm8k": 7}, ChatSettings("one-turn", {"template_sha256": "1" * 64, "template_system": "Be kind."})
    )
    assert description.differing_keys(ProtocolDescription.model_validate(other.describe()), {"gsm8k"}) == [
        "template_sha256"
    ]


def test_few_shot_examples_that_stand_nowhere_known_are_refused():
    """Also where a result says so, which somebody may have edited."""
    description = Chat().describe() | {"few_shot": "one-turns"}
    with pytest.raises(UserError, match="few_shot: 'one-turns' is not one of turns, one-turn"):
        protocols.protocol_of_result(ProtocolDescription.model_validate(description))
