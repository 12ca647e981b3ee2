"""Ids, ends and texts as lm-eval's `hf` has them, where no task of the parity test shows them."""

import pytest
from lm_eval.models.utils import postprocess_generated_text
from transformers import AutoTokenizer

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate.harness.transformers_encoding import TransformersEncoding


@pytest.fixture(scope="module")
def encoding_of(byte_level):
    """Makes encodings of the byte-level BPE with a window of 40 tokens."""

    def make(window_tokens=40, stop_ids=(), **options):
        tokenizer = AutoTokenizer.from_pretrained(byte_level)
        return TransformersEncoding(
            tokenizer, tokenizers.load_tokenizer(byte_level), window_tokens, stop_ids, **options
        )

    return make


def test_an_answer_is_what_follows_the_last_thought(encoding_of):
    plain = encoding_of()
    thought, answer = "I think. The dog is here.", " The cat sleeps.\nMore"
    eot_id = plain.token_ids("<|eot_id|>", add_special_tokens=False)
    (eot_id,) = eot_id
    ids = [*plain.token_ids(thought, False), eot_id, *plain.token_ids(answer, False)]
    assert encoding_of(think_end_token=eot_id).text(ids, ["\n"]) == "The cat sleeps."
    assert encoding_of(think_end_token=eot_id).text(ids[:3], ["\n"]) == plain.text(ids[:3], ["\n"]).lstrip()
    text = plain.text(ids, [])
    expected = postprocess_generated_text(text, ["\n"], "here.")
    assert encoding_of(think_end_token="here.").text(ids, ["\n"]) == expected == "The cat sleeps."


def test_a_text_ends_at_an_id_of_the_model_or_a_stop_string_in_whatever_tokens(encoding_of):
    encoding = encoding_of(stop_ids=[7])
    assert encoding.is_finished([5, 7], []) and encoding.is_complete([5, 7], [])
    assert not encoding.is_finished([7, 5], []) and not encoding.is_complete([7, 5], [])
    ids = [id_ for character in "go on. Q: A" for id_ in encoding.token_ids(character, False)]  # one token a character
    finished = [encoding.is_finished(ids[:length], ["never", "Q:"]) for length in range(1, len(ids) + 1)]
    assert finished.index(True) == "go on. Q: A".index("Q:") + 1
    assert encoding.text(ids, ["never", "Q:"]) == "go on. "


def test_the_spelled_out_eos_ends_a_text(encoding_of):
    encoding = encoding_of()
    ids = encoding.token_ids("yes<|end_of_text|>no", False)
    assert encoding.is_finished(ids[:-1], []) and encoding.is_complete(ids, []) and encoding.text(ids, []) == "yesno"


def test_white_space_as_a_context_follows_the_prefix_token(encoding_of):
    encoding = encoding_of(add_bos_token=False)
    sequence = encoding.encode_pair("  ", "cat")
    assert (
        sequence.token_ids == [encoding.prefix_token_id, *encoding.token_ids("  cat", False)]
        and sequence.scored_start == 1
    )


def test_what_cannot_be_encoded_is_refused(encoding_of, byte_level):
    encoding = encoding_of()
    with pytest.raises(UserError, match="lone surrogate"):
        encoding.encode_pair("a", "\ud800")
    with pytest.raises(UserError, match="40 new tokens do not fit a context window of 40; --gen_kwargs"):
        encoding.encode_prompt("a", max_new_tokens=40)
    with pytest.raises(UserError, match="has no token of its own"):
        encoding.encode_pair("a", "")
    tokenizer = AutoTokenizer.from_pretrained(byte_level)
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(UserError, match="no BOS and no EOS; --model_args prefix_token_id"):
        TransformersEncoding(tokenizer, tokenizers.load_tokenizer(byte_level), 40, [])
