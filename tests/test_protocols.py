"""What is sent: the order, the draws, the texts, and the token ids, which are those of training."""

import random

import pytest

from orca_bench import prompt
from orca_bench import tokenizer as tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate import protocols, rows
from orca_bench.evaluate.model import OrcaLM, cut, load_engine
from orca_bench.evaluate.tasks import SUITE
from orca_bench.train.encode import encode_record
from orca_bench.train.records import Record

BY_NAME = {task.name: task for task in SUITE}


@pytest.fixture(scope="module")
def lm(tiny_model):
    engine, tokenizer = load_engine(str(tiny_model))
    return OrcaLM(engine, tokenizer, "separate")


def documents(mini, name, limit=None, system="S"):
    task = BY_NAME[name]
    return protocols.Orca(system).documents(task, rows.load(task, mini["mini:benchmarks"]), limit)


def test_order_and_draws_come_from_one_generator_seeded_42(mini):
    task = BY_NAME["arc_challenge"]
    read = rows.load(task, mini["mini:benchmarks"])
    generator = random.Random(42)
    order = list(range(len(read.asked)))
    generator.shuffle(order)
    for document, number in zip(documents(mini, "arc_challenge", 10), order, strict=False):
        shown = generator.sample(read.pool, 25)
        context = "".join(task.example(row) + "\n\n" for row in shown) + task.question(read.asked[number])
        assert document.row_number == number
        assert document.requests[0].context == prompt.render("S", context)


def test_a_limit_takes_the_first_of_the_order(mini):
    everything, some = documents(mini, "gsm8k"), documents(mini, "gsm8k", 7)
    assert some == everything[:7]


def test_mmlu_has_a_task_a_subject_with_its_first_five_examples(mini):
    found = documents(mini, "mmlu", 3)
    assert [d.task for d in found] == [
        f"mmlu_{s}" for s in ("elementary_mathematics", "formal_logic", "global_facts") for _ in range(3)
    ]
    dev = [r for r in rows.load(BY_NAME["mmlu"], mini["mini:benchmarks"]).pool if r["subject"] == "formal_logic"]
    context = found[3].requests[0].context
    places = [context.index(BY_NAME["mmlu"].example(row)) for row in dev]
    assert places == sorted(places) and "about formal logic.\n\n" in context


@pytest.mark.parametrize("task", [t.name for t in SUITE])
def test_what_evaluation_scores_is_what_training_would_train_on(mini, lm, task):
    for document in documents(mini, task, 5):
        for request in document.requests:
            head = prompt.head("S")
            instruction = request.context.removeprefix(head).removesuffix("\n\n### Response:\n")
            trained, prompt_length = encode_record(
                Record("S", instruction, "", request.continuation or "x"), lm.tokenizer, 10**6
            )
            if request.continuation is None:
                assert lm.prompt_ids(request.context, 1)[:30] == trained[:prompt_length][:30]
                continue
            sequence = lm.sequence(request.context, request.continuation)
            if len(trained) <= lm.engine.max_length:
                assert sequence.ids == trained[:-1] and sequence.start == prompt_length


def test_a_context_too_long_keeps_its_head_and_its_end(mini, lm):
    document = documents(mini, "arc_challenge", 1, system="Be brief.")[0]
    request = document.requests[0]
    lm.remember_heads([request])
    lm.take_shortened()
    window, lm.engine.max_length = lm.engine.max_length, 80
    try:
        sequence = lm.sequence(request.context, request.continuation)
    finally:
        lm.engine.max_length = window
    text = lm.tokenizer.decode(sequence.ids[: sequence.start])
    assert len(sequence.ids) == 81
    assert text.startswith(prompt.head("Be brief.")) and text.endswith("\n\n### Response:\n")
    assert lm.take_shortened() == 1 and lm.take_shortened() == 0


def test_whole_encoding_splits_as_lm_evals_hf_class(tiny_model):
    from lm_eval.models.huggingface import HFLM

    engine, tokenizer = load_engine(str(tiny_model))
    ours = OrcaLM(engine, tokenizer, "whole")
    theirs = HFLM(pretrained=str(tiny_model), device="cpu", dtype="float32", add_bos_token=True)
    for context, continuation in (
        ("Question: a b\nAnswer:", " yes"),
        ("one two ", "three"),
        ("x  ", " y  z"),
        ("a\n", "b"),
    ):
        context_ids, continuation_ids = theirs._encode_pair(context, continuation)
        sequence = ours.sequence(context, continuation)
        assert (sequence.ids, sequence.start) == (context_ids + continuation_ids, len(context_ids))


def test_a_text_is_cut_at_each_stop_in_turn():
    assert cut("a b. c\nd", ["\n", "."]) == "a b"
    assert cut("abc", []) == "abc"


def test_rows_that_are_missing_or_wrong_are_named(tmp_path):
    task = BY_NAME["gsm8k"]
    with pytest.raises(UserError, match="no such benchmarks directory"):
        rows.suite(tmp_path / "absent")
    with pytest.raises(UserError, match="the split 'test' of gsm8k is missing"):
        rows.load(task, tmp_path)
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    with pytest.raises(
        UserError, match="the split 'train' of gsm8k is missing; present: test.jsonl|present: test.jsonl"
    ):
        rows.load(task, tmp_path)
    (folder / "train.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    with pytest.raises(UserError, match="1 rows, and 5 examples"):
        rows.load(task, tmp_path)
    (folder / "test.jsonl").write_text('{"question": "q", "answer": "a"}\n{"question": "q", "anser": "a"}\n')
    with pytest.raises(UserError, match=r"test.jsonl:2: no column 'answer'.*did you mean 'anser'"):
        rows.load(task, tmp_path)
    (folder / "test.jsonl").write_text('{"question": "q", "answer": 3}\n')
    with pytest.raises(UserError, match="column 'answer' is a int"):
        rows.load(task, tmp_path)


def test_the_mini_suite_says_that_it_is_not_the_leaderboard(mini):
    suite = rows.suite(mini["mini:benchmarks"])
    assert suite.name == "mini" and not suite.comparable
    assert rows.suite(None).comparable


def test_tokenizer_of_the_model_is_sentencepiece(lm):
    assert isinstance(lm.tokenizer, tokenizers.Tokenizer)
