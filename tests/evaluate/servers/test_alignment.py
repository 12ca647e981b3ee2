"""A server whose log-probabilities are of other tokens is refused with the numbers, before anything is asked of it."""

import pytest

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder


@pytest.fixture
def tokenizer(tiny_model):
    return ModelFolder(str(tiny_model)).tokenizer


@pytest.mark.parametrize("fault", [None, "old", "two bos", "special", "details"])
def test_a_server_that_scores_what_it_is_sent_passes(connect, served, tokenizer, fault):
    engine = connect(served(fault)[0])
    engine.check(True, tokenizer.stop_ids, tokenizer)
    assert any("2 BOS tokens in front of a text" in line for line in engine.difference_sentences) == (
        fault == "two bos"
    )
    assert not any("rounds log-probabilities" in line for line in engine.difference_sentences)


def test_sglangs_server_passes_and_its_cache_is_counted(connect, sglang, tokenizer):
    engine = connect(sglang()[0])
    engine.check(True, tokenizer.stop_ids, tokenizer)
    assert (engine.kind.name, engine.kind.version) == ("sglang", "0.5.9")
    assert 0 < engine.cache_use.cached_tokens < engine.cache_use.prompt_tokens


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "early",
            r"position 7 of a prompt of 16 has log-probability -\d+\.\d{4}, and -\d+\.\d{4} where the first 8",
        ),
        ("late", r"token id \d+ is generated after 16 ids with log-probability -\d.*, and scored there with -\d"),
        ("first", r"position 7 of a prompt of 16 has log-probability -\d.*, and -\d.* are sent alone"),
        ("cut", r"1[62] token ids were sent and 9 log-probabilities came back, 1[73] expected"),
        ("other ids", r"1, 2, 3, 4, 5, 6, 7, 8, … were sent as token ids, and the server echoes 1, 16, 15"),
        (
            "other words",
            r"the server makes \d+ tokens of a sentence, and the model folder's tokenizer \d+; --model must be",
        ),
        ("bos", r"adds a token in front"),
        ("logits", r"the server gives \d+\.\d{4} as a log-probability, which is above 0"),
    ],
)
def test_a_server_whose_scores_are_of_other_tokens_is_refused(connect, served, tokenizer, fault, message):
    with pytest.raises(UserError, match=message):
        connect(served(fault)[0]).check(True, tokenizer.stop_ids, tokenizer)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("early", r"position 15 of a prompt of 16 has log-probability -\d.*, and -\d.* with one token more"),
        ("late", r"token id \d+ is generated after 16 ids with log-probability -\d.*, and scored there with -\d"),
        (
            "stale",
            r"positions 10 to 15 have the same log-probabilities .* with id 1 instead of 9 at position 8; .*cache",
        ),
        ("cut", r"1[62] token ids were sent and the server counts a prompt of 8"),
        ("bos", r"2 token ids were sent and the server counts a prompt of 3"),
        ("other ids", r"token id \d+ was sent at position \d+, and the server scored \d+ there"),
        ("other words", r"the server makes \d+ tokens of a sentence, and the model folder's tokenizer \d+"),
        ("silent", r"the server's answer has no log-probabilities of a prompt's tokens that can be read; is it SGLang"),
    ],
)
def test_sglangs_server_with_the_same_faults_is_refused(connect, sglang, tokenizer, fault, message):
    with pytest.raises(UserError, match=message):
        connect(sglang(fault)[0]).check(True, tokenizer.stop_ids, tokenizer)


@pytest.mark.parametrize("fault", [None, "old", "two bos", "wordless", "strings", "details"])
def test_a_server_that_only_generates_passes_with_its_own_tokenizer(connect, served, tokenizer, fault):
    connect(served(fault)[0]).check(False, tokenizer.stop_ids, tokenizer)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            None,
            r"at position 0 of a sentence the server has token id \d+, and the model folder's tokenizer \d+; --model",
        ),
        (
            "old",
            r"a sentence is continued with '.*' as text and with '.*' or '.*' or '.*' as the ids of the model folder's",
        ),
    ],
)
def test_a_server_that_only_generates_is_refused_with_another_tokenizer(
    connect, served, sentencepiece_models, fault, message
):
    with pytest.raises(UserError, match=message):
        connect(served(fault)[0]).check(False, (2,), tokenizers.load_tokenizer(sentencepiece_models["unigram"]))


def test_sglangs_server_that_only_generates_is_refused_with_another_tokenizer(connect, sglang, sentencepiece_models):
    with pytest.raises(UserError, match=r"a sentence is continued with '.*' as text and with '.*' as the ids of"):
        connect(sglang()[0]).check(False, (2,), tokenizers.load_tokenizer(sentencepiece_models["unigram"]))


@pytest.mark.parametrize("needs_scores", [True, False])
def test_a_server_that_fails_at_a_text_is_not_taken_for_one_that_takes_none(connect, served, tokenizer, needs_scores):
    with pytest.raises(UserError, match=r"the server refused \(401\): .*texts need another key"):
        connect(served("locked")[0]).check(needs_scores, tokenizer.stop_ids, tokenizer)


def test_a_server_that_tells_no_likeliest_tokens_says_that_no_answer_is_greedy(connect, served, tokenizer):
    engine = connect(served("topless")[0])
    engine.check(True, tokenizer.stop_ids, tokenizer)
    assert any("no answer counts as the greedy one" in line for line in engine.difference_sentences)


def test_log_probabilities_in_another_format_are_refused_in_one_line(connect, served, tokenizer):
    with pytest.raises(
        UserError, match="no log-probabilities of a prompt's tokens that can be read; is it a server of"
    ):
        connect(served("listed")[0]).check(True, tokenizer.stop_ids, tokenizer)


def test_a_server_that_takes_no_texts_or_rounds_says_so_in_the_result(connect, served, tokenizer):
    wordless, rounded = connect(served("wordless")[0]), connect(served("rounded")[0])
    for engine in (wordless, rounded):
        engine.check(True, tokenizer.stop_ids, tokenizer)
    assert any("the server takes no texts" in line for line in wordless.difference_sentences)
    assert any("float16, here in steps of 0.00" in line for line in rounded.difference_sentences)
