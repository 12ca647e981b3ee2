"""A conversation: its turns in the prompt, answers that are stopped, a full window, and turns that become records."""

import itertools
import json

import pytest

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.conversation import Conversation
from orca_bench.serve.record_file import RecordFile
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.text_generation import Generator
from orca_bench.train.record_files import RecordReader

SAMPLING = Sampling(seed=1, max_new_tokens=8)


@pytest.fixture(scope="module")
def generator(tiny_model):
    return Generator(ModelFolder(str(tiny_model)))


@pytest.fixture
def conversation(generator):
    return Conversation(generator, "Be brief.", SAMPLING)


def test_an_answer_follows_the_turns_before_it(conversation, generator):
    first = "".join(conversation.answer("Where?", "a pond"))
    assert conversation.turns == [prompt.Turn("Where?", "a pond", first.rstrip())]
    second = "".join(conversation.answer("And why?"))
    earlier_turns = [prompt.Turn("Where?", "a pond", first.rstrip())]
    assert second == "".join(generator.answer("Be brief.", "And why?", None, SAMPLING, earlier_turns))
    assert second != "".join(generator.answer("Be brief.", "And why?", None, SAMPLING))
    text = f"### System:\nBe brief.\n\n### User:\nWhere?\n\n### Input:\na pond\n\n### Response:\n{first.rstrip()}"
    text += "\n\n### User:\nAnd why?\n\n### Response:\n"
    prompt_ids = generator.prompt_ids("Be brief.", "And why?", None, earlier_turns)
    assert prompt_ids == [*generator.tokenizer.prefix, *generator.tokenizer.encode(text)]


def test_what_was_read_of_a_stopped_answer_stays(conversation):
    whole = "".join(conversation.answer("Where?"))
    assert conversation.last_record("m")["was_cut"], "it reached its greatest length"
    conversation.forget()
    pieces = conversation.answer("Where?")
    beginning = "".join(itertools.islice(pieces, 2))
    pieces.close()
    assert whole.startswith(beginning) and beginning != whole
    assert conversation.turns == [prompt.Turn("Where?", None, beginning.rstrip())]


def test_a_question_that_is_stopped_before_its_answer_is_no_turn(conversation):
    pieces = conversation.answer("Where?")
    pieces.close()
    assert conversation.turns == []
    with pytest.raises(UserError, match="there is no answer yet"):
        conversation.last_record("m")


def test_the_oldest_turns_are_forgotten_where_the_window_is_full(conversation, generator):
    question = "Where does the frog live? " * 30
    for number in range(6):
        list(conversation.answer(f"{number} {question}"))
        prompt_ids = generator.prompt_ids("Be brief.", question, None, conversation.turns[:-1])
        assert len(prompt_ids) + SAMPLING.max_new_tokens <= generator.window
    assert conversation.forgotten_count > 0
    numbers = [turn.instruction[0] for turn in conversation.turns]
    assert numbers == [str(number) for number in range(conversation.forgotten_count, 6)]


def test_a_question_that_fills_the_window_alone_is_refused_and_changes_nothing(conversation):
    list(conversation.answer("Where?"))
    turns = list(conversation.turns)
    with pytest.raises(UserError, match="the model's context window"):
        list(conversation.answer("word " * 3000))
    assert conversation.turns == turns and conversation.forgotten_count == 0


def test_a_record_has_the_system_message_under_which_it_was_answered(conversation):
    list(conversation.answer("Where?"))
    conversation.system = "Be long."
    assert conversation.last_record("m")["system"] == "Be brief."


def test_a_turn_is_a_record_that_training_reads(conversation, tmp_path):
    list(conversation.answer("Where?", "a pond"))
    list(conversation.answer("Why?"))
    path = tmp_path / "records" / "mine.jsonl"
    assert RecordFile(path).append(conversation.last_record("tiny")) == 1
    path.write_text(path.read_text().rstrip("\n"))  # as an editor may save it
    assert RecordFile(path).append(conversation.last_record("tiny")) == 2
    records = list(RecordReader([str(path)]))
    assert [(record.system, record.instruction, record.input) for record in records] == [("Be brief.", "Why?", "")] * 2
    assert records[0].response == conversation.turns[-1].response
    assert {json.loads(line)["teacher"] for line in path.read_text().splitlines()} == {"tiny"}
