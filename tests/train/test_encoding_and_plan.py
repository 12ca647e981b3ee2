"""Records to ids and loss mask, ids to batches, steps to learning rates."""

from dataclasses import replace

import numpy as np
import pytest
from encoded_records import encode_record

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.recipe import Train
from orca_bench.train.batch_plan import EMPTY, Plan, estimate_memory
from orca_bench.train.example_encoding import EncodedExamples, cache_key, encode, load_cached, save
from orca_bench.train.record_files import Record


@pytest.fixture(scope="module")
def tokenizer(sentencepiece_models):
    return tokenizers.load(sentencepiece_models["llama"])


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
    encoded, report = encode(RECORDS, tokenizer, 200)
    assert report.records == 3 and report.truncated_count == 1 and report.dropped_records == []
    for number, record in enumerate(RECORDS):
        ids, prompt_length = encode_record(record, tokenizer, 200)
        assert encoded.example(number).tolist() == ids
        assert encoded.prompt_lengths[number] == prompt_length
        assert encoded.trained[number] == len(ids) - prompt_length
    assert len(encoded.example(2)) == 200


def test_a_record_whose_response_is_cut_away_is_left_out_and_counted(tokenizer):
    encoded, report = encode(RECORDS, tokenizer, 60)
    assert report.dropped_records == [2] and len(encoded) == 2
    with pytest.raises(UserError, match="all 1 records lose their whole response"):
        encode(RECORDS[2:], tokenizer, 10)


def test_encoded_records_are_read_again_while_nothing_has_changed(tokenizer, tmp_path):
    encoded, report = encode(RECORDS, tokenizer, 60)
    key = cache_key(RECORDS, tokenizer, 60)
    save(tmp_path / "t.npz", encoded, report, key)
    again, its_report = load_cached(tmp_path / "t.npz", key)
    assert its_report == report and again.records.tolist() == [0, 1]
    assert all(np.array_equal(getattr(encoded, name), getattr(again, name)) for name in vars(encoded))
    assert EncodedExamples.load(tmp_path / "t.npz").ids.dtype == np.int32


def test_what_tokens_are_computed_from_is_their_key(tokenizer, sentencepiece_models):
    keys = [
        cache_key(RECORDS, tokenizer, 200),
        cache_key(RECORDS, tokenizer, 201),
        cache_key(RECORDS, tokenizers.load(sentencepiece_models["default"]), 200),
        cache_key(RECORDS[::-1], tokenizer, 200),
        *(
            cache_key([replace(RECORDS[0], **{name: value}), *RECORDS[1:]], tokenizer, 200)
            for name in ("system", "instruction", "input", "response")
            for value in ("other", "S ", "\ud800")
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == cache_key(RECORDS, tokenizer, 200)


def test_a_file_of_tokens_that_is_broken_or_of_other_records_is_passed_over(tokenizer, tmp_path):
    path, key = tmp_path / "t.npz", cache_key(RECORDS, tokenizer, 200)
    assert load_cached(path, key) is None
    save(path, *encode(RECORDS, tokenizer, 200), key)
    assert load_cached(path, "another") is None
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:-40], whole[:100], b"other"):
        path.write_bytes(content)
        assert load_cached(path, key) is None
    np.savez(path, ids=np.zeros(3))
    assert load_cached(path, key) is None


def plan_of(examples, **options):
    lengths = np.random.default_rng(0).integers(1, 100, examples)
    return Plan(lengths, Train(**({"global_batch": 8, "micro_batch": 2, "processes": 4} | options)))


@pytest.mark.parametrize("examples", [1, 7, 8, 21, 64])
def test_every_example_is_seen_once_an_epoch_and_only_the_last_batch_has_gaps(examples):
    plan = plan_of(examples, epochs=3)
    batches = [plan.batch(step) for step in range(plan.steps)]
    numbers = np.concatenate(batches)
    assert np.array_equal(np.bincount(numbers[numbers != EMPTY], minlength=examples), np.full(examples, 3))
    assert all((batch != EMPTY).all() for batch in batches[:-1])
    assert plan.steps == -(-examples * 3 // 8)


def test_the_processes_share_a_batch_without_gap_or_overlap():
    for options in ({"processes": 4}, {"processes": 2, "accumulation": 2}, {"processes": 1, "micro_batch": 8}):
        plan = plan_of(64, **options)
        train = plan.train
        for step in range(plan.steps):
            parts = [plan.micro_batch(step, a, p) for a in range(train.accumulation) for p in range(train.processes)]
            assert np.array_equal(np.concatenate(parts), plan.batch(step))
            assert np.array_equal(plan.batch(step), plan_of(64).batch(step))


def test_epochs_have_different_orders_and_the_same_seed_the_same():
    plan = plan_of(64, epochs=2)
    first = [set(plan.batch(s)) for s in range(8)]
    assert first != [set(plan.batch(s)) for s in range(8, 16)]
    assert np.array_equal(plan.batch(3), plan_of(64, epochs=2).batch(3))
    assert not np.array_equal(plan.batch(3), plan_of(64, epochs=2, seed=1).batch(3))


@pytest.mark.parametrize("warmup", ["log", "linear"])
@pytest.mark.parametrize("examples", [24, 400])
def test_the_learning_rate_is_deepspeeds_warmup_decay(warmup, examples):
    import torch
    from deepspeed.runtime.lr_schedules import WarmupDecayLR

    plan = plan_of(examples, warmup=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=plan.train.lr)
    scheduler = WarmupDecayLR(
        optimizer,
        total_num_steps=plan.steps,
        warmup_min_lr=0,
        warmup_max_lr=plan.train.lr,
        warmup_num_steps=plan.warmup_steps,
        warmup_type=warmup,
    )
    for step in range(plan.steps):
        assert plan.learning_rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-20)
        optimizer.step()
        scheduler.step()


def test_the_cards_run_has_the_cards_number_of_steps():
    plan = Plan(np.ones(137_000, np.int64), Train())
    assert plan.steps == 25_688 and plan.warmup_steps == 2_568


def test_memory_is_divided_by_the_zero_stage():
    def states(**options):
        return estimate_memory(10**9, 1000, 10, 32000, Train(global_batch=16, **options), 1024).states * 2**30

    assert states(zero_stage=0) == pytest.approx(16e9)
    assert states(zero_stage=1) == pytest.approx(4e9 + 12e9 / 8)
    assert states(zero_stage=2) == pytest.approx(2e9 + 14e9 / 8)
    assert states(zero_stage=3) == pytest.approx(16e9 / 8)
