"""A sample of records has the tokens that training gives them, always the same ones, and no more records than asked for."""

import json
import random
from dataclasses import replace

import pytest

from orca_bench.errors import UserError
from orca_bench.tokenizers import load_tokenizer
from orca_bench.train.example_encoding import encode_records
from orca_bench.train.record_files import read_records
from orca_bench.train.record_sample import count_training_examples, sample_examples, sample_responses
from orca_bench.train.token_files import write_token_files


@pytest.fixture
def records_file(tmp_path, mini_records):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in mini_records[:900]), encoding="utf-8")
    return path


def save_run_tokens(examples, report, run_folder):
    write_token_files(run_folder / "tokens", [(examples, report)], lambda report: "key")


def test_a_sample_reaches_its_tokens_with_its_last_record_and_is_always_the_same(mini, records_file):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    sample = sample_examples(records, tokenizer, 256, 5000, "--records")
    assert len(sample.ids) >= 5000 > len(sample.ids) - len(sample.example(len(sample) - 1))
    again = sample_examples(records, tokenizer, 256, 5000, "--records")
    assert sample.ids.tolist() == again.ids.tolist()
    encoded, _ = encode_records(records, tokenizer, 256)
    examples = {tuple(encoded.example(index)) for index in range(len(encoded))}
    assert all(tuple(sample.example(index)) in examples for index in range(len(sample)))
    in_file_order = [tuple(encoded.example(index)) for index in range(len(sample))]
    assert in_file_order != [tuple(sample.example(index)) for index in range(len(sample))]


def test_all_records_are_taken_where_they_have_fewer_tokens(mini, records_file):
    records, _ = read_records([str(records_file)])
    assert len(sample_examples(records, load_tokenizer(mini["mini:tokenizer"]), 4096, 10**9, "--records")) == 900


def test_records_that_lose_every_response_are_named_by_where_they_are_from(mini, records_file):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    with pytest.raises(UserError, match=r"^--records r: all 900 records lose .* at 3 tokens; use shorter ones$"):
        sample_examples(records, tokenizer, 3, 100, "--records r")


def test_a_sample_of_responses_reaches_its_response_tokens_with_its_last_record(mini, records_file):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    order = list(records)
    counts = sample_responses(records, tokenizer, 256, 3000, "--records")[0].trained_token_counts
    assert counts.sum() >= 3000 > counts[:-1].sum()
    assert records == order and len(sample_responses(records, tokenizer, 4096, 10**9, "--records")[0]) == 900


def test_records_of_a_runs_training_are_counted_also_where_it_cut_them(mini, records_file, tmp_path):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    examples, report = encode_records(records[:100], tokenizer, 80)
    assert report.truncated_count > 0 and count_training_examples(examples, tmp_path) == 0
    save_run_tokens(examples, report, tmp_path)
    whole, _ = encode_records([*records[:100], *records[200:250]], tokenizer, 1024)
    texts = {(record.instruction, record.input, record.response) for record in records[:100]}
    again = sum((record.instruction, record.input, record.response) in texts for record in records[200:250])
    dropped = len(report.dropped_record_indices)
    assert 100 - dropped <= count_training_examples(whole, tmp_path) <= 100 - dropped + again


def test_records_of_a_runs_training_are_counted_also_where_the_sample_is_cut_shorter(mini, records_file, tmp_path):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    examples, report = encode_records(records[:100], tokenizer, 1024)
    save_run_tokens(examples, report, tmp_path)
    cut, cut_report = encode_records(records[:100], tokenizer, 80)
    assert cut_report.truncated_count > len(cut_report.dropped_record_indices)
    assert count_training_examples(cut, tmp_path) == len(cut)


def test_the_report_of_a_sample_is_of_its_records_only(mini, records_file):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    whole_lengths = sample_responses(records, tokenizer, 4096, 3000, "--records")[0].lengths
    length = int(sorted(whole_lengths)[len(whole_lengths) // 2])
    examples, report = sample_responses(records, tokenizer, length, 1000, "--records")
    assert report.record_count == len(examples) + len(report.dropped_record_indices) < 256
    shuffled_lengths = sample_responses(records, tokenizer, 4096, 10**9, "--records")[0].lengths[: report.record_count]
    assert report.truncated_count == (shuffled_lengths > length).sum() < (shuffled_lengths >= length).sum()


def test_records_without_a_response_left_are_passed_over_unless_all_are(mini, records_file):
    tokenizer = load_tokenizer(mini["mini:tokenizer"])
    records, _ = read_records([str(records_file)])
    without_response = [replace(records[0], instruction="word " * 200)] * 600
    order = [*without_response, records[0]]
    random.Random(0).shuffle(order)
    assert order.index(records[0]) >= 256  # none of the records that are encoded first has a response left
    examples, report = sample_responses([*without_response, records[0]], tokenizer, 200, 1, "--records")
    assert len(examples) == 1 and len(report.dropped_record_indices) == order.index(records[0])
    with pytest.raises(UserError, match="^--max-length: all 900 records lose .* at 3 tokens; raise it$"):
        sample_responses(records, tokenizer, 3, 100, "--max-length", "raise it")
