"""Records to token ids and loss mask, and the file that holds them."""

from dataclasses import replace

import numpy as np
import pytest
from encoded_records import encode_record

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.train.example_encoding import (
    EncodedExamples,
    encode_records,
    encoding_key,
    load_encoded_examples,
    save_encoded_examples,
)
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


def test_encoded_records_are_read_again_while_nothing_has_changed(tokenizer, tmp_path):
    encoded, report = encode_records(RECORDS, tokenizer, 60)
    key = encoding_key(RECORDS, tokenizer, 60)
    save_encoded_examples(tmp_path / "t.npz", encoded, report, key)
    again, its_report = load_encoded_examples(tmp_path / "t.npz", key)
    assert its_report == report and again.records.tolist() == [0, 1]
    assert all(np.array_equal(getattr(encoded, name), getattr(again, name)) for name in vars(encoded))
    assert EncodedExamples.load(tmp_path / "t.npz").ids.dtype == np.int32


def test_what_tokens_are_computed_from_is_their_key(tokenizer, sentencepiece_models):
    keys = [
        encoding_key(RECORDS, tokenizer, 200),
        encoding_key(RECORDS, tokenizer, 201),
        encoding_key(RECORDS, tokenizers.load_tokenizer(sentencepiece_models["default"]), 200),
        encoding_key(RECORDS[::-1], tokenizer, 200),
        *(
            encoding_key([replace(RECORDS[0], **{name: value}), *RECORDS[1:]], tokenizer, 200)
            for name in ("system", "instruction", "input", "response")
            for value in ("other", "S ", "\ud800")
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == encoding_key(RECORDS, tokenizer, 200)


def test_a_file_of_tokens_that_is_broken_or_of_other_records_is_passed_over(tokenizer, tmp_path):
    path, key = tmp_path / "t.npz", encoding_key(RECORDS, tokenizer, 200)
    assert load_encoded_examples(path, key) is None
    save_encoded_examples(path, *encode_records(RECORDS, tokenizer, 200), key)
    assert load_encoded_examples(path, "another") is None
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:-40], whole[:100], b"other"):
        path.write_bytes(content)
        assert load_encoded_examples(path, key) is None
    np.savez(path, ids=np.zeros(3))
    assert load_encoded_examples(path, key) is None
