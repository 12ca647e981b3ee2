"""Records to token ids and loss mask, and the key under which they are stored."""

from dataclasses import replace

import numpy as np
import pytest
from encoded_records import encode_record

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.train import example_encoding
from orca_bench.train.example_encoding import EncodingReport, encode_records, encoding_key, records_digest
from orca_bench.train.record_files import Record


@pytest.fixture(scope="module")
def tokenizer(sentencepiece_models):
    return tokenizers.load_tokenizer(sentencepiece_models["llama"])


RECORDS = [
    Record("S", "What?", "", "The answer."),
    Record("", "Why\n\nnot?", "some input", "  Because  of </s> that.\n"),
    Record("S " * 40, "Long", "", "word " * 200),
]


def test_prompt_and_response_are_tokenized_separately(tokenizer):
    for record in RECORDS[:2]:
        ids, prompt_length = encode_record(record, tokenizer, 1000)
        prompt_ids = tokenizer.encode(prompt.render(record.system, record.instruction, record.input))
        assert ids == [tokenizer.bos_id, *prompt_ids, *tokenizer.encode(record.response), tokenizer.eos_id]
        assert prompt_length == 1 + len(prompt_ids)
    whole = prompt.render("S", "What?") + "The answer."
    assert tokenizer.encode(whole) != encode_record(RECORDS[0], tokenizer, 1000)[0][1:-1]


def test_many_records_encode_as_one_by_one(tokenizer):
    encoded, report = encode_records(RECORDS, tokenizer, 200)
    assert report.record_count == 3 and report.truncated_count == 1 and report.dropped_record_indices == []
    for number, record in enumerate(RECORDS):
        ids, prompt_length = encode_record(record, tokenizer, 200)
        assert encoded.example(number).tolist() == ids
        assert encoded.prompt_lengths[number] == prompt_length
        assert encoded.trained_token_counts[number] == len(ids) - prompt_length
    assert len(encoded.example(2)) == 200


def test_a_record_whose_response_is_cut_away_is_left_out_and_counted(tokenizer):
    encoded, report = encode_records(RECORDS, tokenizer, 60)
    assert report.dropped_record_indices == [2] and len(encoded) == 2
    with pytest.raises(UserError, match="all 1 records lose their whole response"):
        encode_records(RECORDS[2:], tokenizer, 10)


def test_chunks_give_what_all_records_give_at_once(tokenizer, monkeypatch):
    monkeypatch.setattr(example_encoding, "_RECORDS_PER_CHUNK", 2)
    records = [*RECORDS[2:], *RECORDS, *RECORDS[:2]]
    encoded, report = encode_records(iter(records), tokenizer, 60)
    assert report == EncodingReport(6, 4, [0, 3]) and encoded.records.tolist() == [1, 2, 4, 5]
    expected = [encode_record(records[number], tokenizer, 60)[0] for number in encoded.records]
    assert [encoded.example(index).tolist() for index in range(4)] == expected
    chunks = list(example_encoding.encode_in_chunks(iter(records), tokenizer, 60))
    assert [report.record_count for _, report in chunks] == [2, 2, 2]
    assert [len(examples) for examples, _ in chunks] == [1, 1, 2]


def test_a_subset_has_its_examples_in_order(tokenizer):
    encoded, _ = encode_records(RECORDS, tokenizer, 200)
    subset = encoded.subset(np.array([2, 0]))
    assert [subset.example(0).tolist(), subset.example(1).tolist()] == [
        encoded.example(2).tolist(),
        encoded.example(0).tolist(),
    ]
    assert subset.prompt_ids(1).tolist() == encode_record(RECORDS[0], tokenizer, 200)[0][: subset.prompt_lengths[1]]
    assert subset.records.tolist() == [2, 0] and subset.trained_token_counts[1] == encoded.trained_token_counts[0]
    assert len(encoded.subset(np.zeros(0, np.int64))) == 0


def test_what_tokens_are_computed_from_is_their_key(tokenizer, sentencepiece_models):
    def key(records, tokenizer, max_length):
        return encoding_key(records_digest(records).sha256, tokenizer, max_length)

    keys = [
        key(RECORDS, tokenizer, 200),
        key(RECORDS, tokenizer, 201),
        key(RECORDS, tokenizers.load_tokenizer(sentencepiece_models["default"]), 200),
        key(RECORDS[::-1], tokenizer, 200),
        key(RECORDS[:2], tokenizer, 200),
        *(
            key([replace(RECORDS[0], **{name: value}), *RECORDS[1:]], tokenizer, 200)
            for name in ("system", "instruction", "input", "response")
            for value in ("other", "S ", "\ud800")
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key(iter(RECORDS), tokenizer, 200)


def test_the_key_moves_when_what_a_record_is_encoded_to_moves(tokenizer):
    """Whoever changes how records are encoded must raise _ENCODING_VERSION, or old tokens are taken for new ones."""
    assert example_encoding._ENCODING_VERSION == 2
    encoded, _ = encode_records([Record("S", "I", "N", "R")], tokenizer, 200)
    text = "### System:\nS\n\n### User:\nI\n\n### Input:\nN\n\n### Response:\n"
    assert encoded.ids.tolist() == [
        tokenizer.bos_id,
        *tokenizer.encode(text),
        *tokenizer.encode("R"),
        tokenizer.eos_id,
    ]
