"""A sample of records has the tokens that training gives them, always the same ones, and no more records than asked for."""

import json

import pytest

from orca_bench.errors import UserError
from orca_bench.tokenizers import load_tokenizer
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import read_records
from orca_bench.train.record_sample import sample_examples


@pytest.fixture
def records_file(tmp_path, mini_records):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in mini_records[:900]), encoding="utf-8")
    return path


def test_a_sample_reaches_its_tokens_with_its_last_record_and_is_always_the_same(mini, records_file):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    sample = sample_examples([str(records_file)], tokenizer, 256, 5000)
    assert len(sample.ids) >= 5000 > len(sample.ids) - len(sample.example(len(sample) - 1))
    again = sample_examples([str(records_file)], tokenizer, 256, 5000)
    assert sample.ids.tolist() == again.ids.tolist()
    records, _ = read_records([str(records_file)])
    encoded, _ = encode_records(records, tokenizer, 256)
    examples = {tuple(encoded.example(index)) for index in range(len(encoded))}
    assert all(tuple(sample.example(index)) in examples for index in range(len(sample)))
    in_file_order = [tuple(encoded.example(index)) for index in range(len(sample))]
    assert in_file_order != [tuple(sample.example(index)) for index in range(len(sample))]


def test_all_records_are_taken_where_they_have_fewer_tokens(mini, records_file):
    assert len(sample_examples([str(records_file)], load_tokenizer(mini["mini:tokenizer"]), 4096, 10**9)) == 900


def test_what_are_no_records_is_named(mini, tmp_path):
    (tmp_path / "text.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="columns text are not those of records"):
        sample_examples([str(tmp_path / "text.jsonl")], load_tokenizer(mini["mini:tokenizer"]), 256, 100)
