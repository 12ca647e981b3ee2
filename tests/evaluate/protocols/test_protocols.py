"""What is sent: the order, the draws, the texts, and the token ids, which are those of training."""

import random

import pytest
from encoded_records import encode_record

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols, request_encoding
from orca_bench.evaluate.request_encoding import HarnessEncoding, LeaderboardEncoding, OrcaEncoding, cut_at_stop_strings
from orca_bench.evaluate.tasks import SUITE
from orca_bench.train.record_files import Record

BY_NAME = {task.name: task for task in SUITE}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return tokenizers.load_tokenizer(tiny_model)


def documents(mini, name, limit=None, system="S"):
    task = BY_NAME[name]
    return protocols.Orca(system).documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), limit)


@pytest.mark.parametrize("value", ["-1.5", True, None])
def test_what_is_no_number_is_no_log_probability(value):
    with pytest.raises(ValueError, match="log-probability"):
        _ = protocols.Answer(value).log_probability
    assert protocols.Answer(-1.5).log_probability == -1.5 and protocols.Answer(0).log_probability == 0.0


@pytest.mark.parametrize("value", [-1.5, True, None])
def test_what_is_no_string_is_no_generated_text(value):
    with pytest.raises(ValueError, match="text"):
        _ = protocols.Answer(value).text
    assert protocols.Answer("-1.5").text == "-1.5"


def test_order_and_draws_come_from_one_generator_seeded_42(mini):
    task = BY_NAME["arc_challenge"]
    rows = benchmark_rows.load_task_rows(task, mini["mini:benchmarks"])
    generator = random.Random(42)
    order = list(range(len(rows.evaluation_rows)))
    generator.shuffle(order)
    for document, number in zip(documents(mini, "arc_challenge", 10), order, strict=False):
        few_shot_examples = generator.sample(rows.few_shot_pool, 25)
        context = "".join(task.example(row) + "\n\n" for row in few_shot_examples) + task.question(
            rows.evaluation_rows[number]
        )
        assert document.row_index == number
        assert document.requests[0].context == prompt.render("S", context)


def test_a_limit_takes_the_first_of_the_order(mini):
    everything, some = documents(mini, "gsm8k"), documents(mini, "gsm8k", 7)
    assert some == everything[:7]


def test_mmlu_has_a_task_a_subject_with_its_first_five_examples(mini):
    mmlu_documents = documents(mini, "mmlu", 3)
    assert [d.part_name for d in mmlu_documents] == [
        f"mmlu_{s}" for s in ("elementary_mathematics", "formal_logic", "global_facts") for _ in range(3)
    ]
    dev = [
        r
        for r in benchmark_rows.load_task_rows(BY_NAME["mmlu"], mini["mini:benchmarks"]).few_shot_pool
        if r["subject"] == "formal_logic"
    ]
    context = mmlu_documents[3].requests[0].context
    places = [context.index(BY_NAME["mmlu"].example(row)) for row in dev]
    assert places == sorted(places) and "about formal logic.\n\n" in context


@pytest.mark.parametrize("task", [t.name for t in SUITE])
def test_what_evaluation_scores_is_what_training_would_train_on(mini, tokenizer, task):
    rule = OrcaEncoding(tokenizer, 10**6)
    for document in documents(mini, task, 5):
        for request in document.requests:
            instruction = request.context.removeprefix(prompt.fixed_prefix("S")).removesuffix("\n\n### Response:\n")
            record = Record("S", instruction, "", request.continuation or "x")
            trained, prompt_length = encode_record(record, tokenizer, 10**6)
            if request.continuation is None:
                assert (
                    rule.encode_prompt(request.context, request.fixed_prefix_characters).token_ids
                    == trained[:prompt_length]
                )
            else:
                pair = rule.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
                assert pair.token_ids == trained[:-1] and pair.scored_start == prompt_length  # all but EOS


# What breaks tokenizers: spaces that meet, markers, special tokens spelled out, headers, other scripts, bytes without a piece.
_PARTS = [
    "word",
    "The answer",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "</s>",
    "<s>",
    "<unk>",
    "▁",
    "### Response:\n",
    "é",
    "漢字",
    "🐋",
]


def test_for_random_records_the_ids_of_evaluation_are_those_of_training(sentencepiece_models, byte_level):
    """In every tokenizer: what is scored is BOS + prompt + response of training, and its mask begins where the loss does."""
    check_random_records([*sentencepiece_models.values(), byte_level])


def test_for_random_records_in_a_real_models_ids_evaluation_agrees_with_training(real_tokenizer_folder):
    check_random_records([real_tokenizer_folder])


def check_random_records(tokenizer_paths):
    generator = random.Random(7)
    for path in tokenizer_paths:
        tokenizer = tokenizers.load_tokenizer(path)
        rule = OrcaEncoding(tokenizer, 10**6)
        for _ in range(300):
            system, instruction, input, response = (
                "".join(generator.choices(_PARTS, k=generator.randint(0, 8))) for _ in range(4)
            )
            trained, prompt_length = encode_record(Record(system, instruction, input, response), tokenizer, 10**6)
            context = prompt.render(system, instruction, input)
            if tokenizer.encode(response):
                pair = rule.encode_pair(context, response)
                assert (pair.token_ids, pair.scored_start) == (trained[:-1], prompt_length), (context, response)
            assert rule.encode_prompt(context).token_ids == trained[:prompt_length]


def test_for_real_records_the_ids_of_evaluation_are_those_of_training(shared):
    import gzip
    import json

    tokenizer = tokenizers.load_tokenizer(shared / "tokenizer" / "tokenizer.model")
    rule = OrcaEncoding(tokenizer, 10**6)
    checked = 0
    with gzip.open(shared / "instructions" / "dolly" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in list(lines)[::30]:
            row = json.loads(line)
            fields = row["instruction"], row.get("context", ""), row["response"]
            trained, prompt_length = encode_record(Record("S", *fields), tokenizer, 10**6)
            pair = rule.encode_pair(prompt.render("S", fields[0], fields[1]), fields[2])
            assert (pair.token_ids, pair.scored_start) == (trained[:-1], prompt_length)
            checked += 1
    assert checked > 400


def test_a_context_too_long_keeps_its_head_and_its_end(mini, tokenizer):
    request = documents(mini, "arc_challenge", 1, system="Be brief.")[0].requests[0]
    rule = OrcaEncoding(tokenizer, 80)
    pair = rule.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
    text = tokenizer.decode(pair.token_ids[: pair.scored_start])
    assert len(pair.token_ids) == 81
    assert text.startswith(prompt.fixed_prefix("Be brief.")) and text.endswith("\n\n### Response:\n")
    assert rule.shortened_context_count == 1


PAIRS = [("Question: a b\nAnswer:", " yes"), ("one two ", "three"), ("x  ", " y  z"), ("a\n", "b"), ("wor", "d s")]


@pytest.mark.parametrize(("rule", "bos"), [(HarnessEncoding, True), (LeaderboardEncoding, False)])
def test_encoding_together_splits_as_lm_evals_hf_class(tiny_model, tokenizer, rule, bos):
    from lm_eval.models.huggingface import HFLM

    ours = rule(tokenizer, 1024)
    theirs = HFLM(pretrained=str(tiny_model), device="cpu", dtype="float32", add_bos_token=bos)
    for context, continuation in PAIRS:
        context_ids, continuation_ids = theirs._encode_pair(context, continuation)
        pair = ours.encode_pair(context, continuation)
        assert (pair.token_ids, pair.scored_start) == (context_ids + continuation_ids, len(context_ids))


def test_the_leaderboard_has_no_bos_and_an_empty_context_is_eos(tokenizer):
    rule = LeaderboardEncoding(tokenizer, 1024)
    assert (
        tokenizer.bos_id not in rule.encode_pair("a", " b").token_ids
        and tokenizer.bos_id not in rule.encode_prompt("a b").token_ids
    )
    pair = rule.encode_pair("", "word")
    assert (pair.token_ids, pair.scored_start) == ([tokenizer.eos_id, *tokenizer.encode("word")], 1)


def test_the_leaderboard_cuts_from_the_left_and_throws_as_many_tokens_of_the_answer_away(tokenizer):
    rule = LeaderboardEncoding(tokenizer, 300)
    context = "the cat saw the dog. " * 60
    ids = tokenizer.encode(context)
    start = rule.encode_prompt(context)
    assert (start.token_ids, start.discarded_token_count) == (ids[-44:], len(ids) - 44)
    pair = rule.encode_pair(context, "it ran")
    assert (
        len(pair.token_ids) == 301
        and pair.token_ids[: pair.scored_start] == tokenizer.encode(context.rstrip())[-pair.scored_start :]
    )
    assert rule.shortened_context_count == 2
    short = rule.encode_prompt("the cat")
    assert (short.token_ids, short.discarded_token_count) == (tokenizer.encode("the cat"), 0)
    assert OrcaEncoding(tokenizer, 300).encode_prompt(context).discarded_token_count == 0


def test_the_leaderboard_looks_for_a_stop_string_in_the_last_tokens_only(tokenizer):
    rule = LeaderboardEncoding(tokenizer, 300)
    ids = tokenizer.encode("so it is: the cat saw the dog")
    reach = len(tokenizer.encode(":"))
    finished = [rule.is_finished(ids[: i + 1], [":"]) for i in range(len(ids))]
    assert finished == [":" in tokenizer.decode(ids[max(0, i + 1 - reach) : i + 1]) for i in range(len(ids))]
    assert any(finished) and not finished[-1]
    assert rule.is_finished([tokenizer.eos_id], [":"]) and not rule.is_finished(ids[:1], [":"])
    assert rule.text([*ids, tokenizer.eos_id], [":", "Question"]) == "so it is"
    assert rule.text(tokenizer.encode("a </s> b"), ["."]) == "a "  # EOS spelled out ends the text, not the generation


def test_a_continuation_that_cannot_be_scored_is_refused(tokenizer):
    with pytest.raises(UserError, match="has no token of its own"):
        OrcaEncoding(tokenizer, 300).encode_pair("a", "")
    with pytest.raises(UserError, match="does not fit the context window"):
        LeaderboardEncoding(tokenizer, 20).encode_pair("a", " word" * 30)
    with pytest.raises(UserError, match="256 new tokens do not fit a context window of 200"):
        LeaderboardEncoding(tokenizer, 200).encode_prompt("a")


def test_each_protocol_has_its_window(tokenizer):
    windows = {
        name: request_encoding.encoding_of_protocol(name, tokenizer, 4096).window_tokens
        for name in ("orca", "leaderboard", "plain")
    }
    assert windows == {"orca": 2048, "leaderboard": 4096, "plain": 4096}
    assert request_encoding.encoding_of_protocol("orca", tokenizer, 1024).window_tokens == 1024


def test_a_text_is_cut_at_each_stop_in_turn():
    assert cut_at_stop_strings("a b. c\nd", ["\n", "."]) == "a b"
    assert cut_at_stop_strings("abc", []) == "abc"


def test_rows_that_are_missing_or_wrong_are_named(tmp_path):
    task = BY_NAME["gsm8k"]
    with pytest.raises(UserError, match="no such benchmarks directory"):
        benchmark_rows.read_suite(tmp_path / "absent")
    with pytest.raises(UserError, match="the split 'test' of gsm8k is missing"):
        benchmark_rows.load_task_rows(task, tmp_path)
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"question": "q", "answer": "#### 1"}\n')
    with pytest.raises(
        UserError, match="the split 'train' of gsm8k is missing; present: test.jsonl|present: test.jsonl"
    ):
        benchmark_rows.load_task_rows(task, tmp_path)
    (folder / "train.jsonl").write_text('{"question": "q", "answer": "#### 1"}\n')
    with pytest.raises(UserError, match="1 rows, and 5 examples"):
        benchmark_rows.load_task_rows(task, tmp_path)
    (folder / "test.jsonl").write_text('{"question": "q", "answer": "#### 1"}\n{"question": "q", "anser": "a"}\n')
    with pytest.raises(UserError, match=r"test.jsonl:2: no column 'answer'.*did you mean 'anser'"):
        benchmark_rows.load_task_rows(task, tmp_path)
    (folder / "test.jsonl").write_text('{"question": "q", "answer": 3}\n')
    with pytest.raises(UserError, match="column 'answer' is a int"):
        benchmark_rows.load_task_rows(task, tmp_path)


def test_the_mini_suite_says_that_it_is_not_the_leaderboard(mini):
    suite = benchmark_rows.read_suite(mini["mini:benchmarks"])
    assert suite.suite_name == "mini" and not suite.is_comparable
    assert benchmark_rows.read_suite(None).is_comparable


def test_tokenizer_of_the_model_is_sentencepiece(tokenizer):
    assert isinstance(tokenizer, tokenizers.Tokenizer)
