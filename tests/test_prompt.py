"""The Orca prompt, byte for byte, and the chat template that every exported model carries."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca_bench import prompt
from orca_bench.system_messages import SYSTEM_MESSAGES


@pytest.fixture(scope="module")
def plain_tokenizer(tiny_model):
    """The exported folder's tokenizer, as plain transformers loads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def card_prompt(system, instruction, input=None):
    """The prompt as the model card's example code writes it."""
    if input:
        return f"### System:\n{system}\n\n### User:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
    return f"### System:\n{system}\n\n### User:\n{instruction}\n\n### Response:\n"


@given(TEXT, TEXT, st.none() | TEXT)
def test_the_prompt_is_the_cards(system, instruction, input):
    assert prompt.render(system, instruction, input) == card_prompt(system, instruction, input)


def test_the_head_is_where_the_instruction_begins():
    assert prompt.render("S", "ask", "in").startswith(prompt.fixed_prefix("S") + "ask")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    system=TEXT,
    instruction=TEXT,
    input=st.none() | TEXT,
    earlier_turns=st.lists(st.builds(prompt.Turn, TEXT, st.none() | TEXT, TEXT), max_size=2),
)
def test_plain_transformers_renders_the_same_text_behind_bos(
    plain_tokenizer, system, instruction, input, earlier_turns
):
    turns = prompt.chat_messages(system, instruction, input, earlier_turns)
    rendered = plain_tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == "<s>" + prompt.render(system, instruction, input, earlier_turns)


def test_earlier_turns_repeat_their_blocks_after_one_system_message():
    earlier_turns = [prompt.Turn("one", None, "two"), prompt.Turn("three", "in", "four\n")]
    assert prompt.render("S", "five", None, earlier_turns) == (
        "### System:\nS\n\n### User:\none\n\n### Response:\ntwo"
        "\n\n### User:\nthree\n\n### Input:\nin\n\n### Response:\nfour\n"
        "\n\n### User:\nfive\n\n### Response:\n"
    )


def test_a_chat_without_system_message_has_an_empty_one(plain_tokenizer):
    rendered = plain_tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<s>" + prompt.render("", "hi")


def test_the_second_turn_of_such_a_chat_has_no_system_header_either(plain_tokenizer):
    turns = prompt.chat_messages("", "three", None, [prompt.Turn("one", None, "two")])[1:]
    rendered = plain_tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == "<s>" + prompt.render("", "three", None, [prompt.Turn("one", None, "two")])


def test_a_finished_turn_is_followed_by_the_next(plain_tokenizer):
    turns = [*prompt.chat_messages("S", "one"), {"role": "assistant", "content": "two"}]
    rendered = plain_tokenizer.apply_chat_template(turns, tokenize=False)
    assert rendered == "<s>" + prompt.render("S", "one") + "two"


def test_there_are_sixteen_messages_and_the_first_is_empty():
    assert sorted(SYSTEM_MESSAGES) == list(range(1, 17))
    assert SYSTEM_MESSAGES[1] == "" and all(SYSTEM_MESSAGES[i] for i in range(2, 17))
    assert SYSTEM_MESSAGES[15].count("\n") == 2
