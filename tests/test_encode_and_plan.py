"""Records to ids and loss mask, ids to batches, steps to learning rates."""

import numpy as np
import pytest

from orca_bench import prompt
from orca_bench import tokenizer as tokenizers
from orca_bench.errors import UserError
from orca_bench.recipe import Train
from orca_bench.train.encode import Encoded, encode, encode_record
from orca_bench.train.plan import EMPTY, Plan, estimate_memory
from orca_bench.train.records import Record


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
        asked = tokenizer.encode(prompt.render(record.system, record.instruction, record.input))
        assert ids == [tokenizer.bos_id, *asked, *tokenizer.encode(record.response), tokenizer.eos_id]
        assert prompt_length == 1 + len(asked)
    whole = prompt.render("S", "What?") + "The answer."
    assert tokenizer.encode(whole) != encode_record(RECORDS[0], tokenizer, 1000)[0][1:-1]


def test_many_records_encode_as_one_by_one(tokenizer):
    encoded, report = encode(RECORDS, tokenizer, 200)
    assert report.records == 3 and report.cut == 1 and report.dropped == []
    for number, record in enumerate(RECORDS):
        ids, prompt_length = encode_record(record, tokenizer, 200)
        assert encoded.example(number).tolist() == ids
        assert encoded.prompt_lengths[number] == prompt_length
        assert encoded.trained[number] == len(ids) - prompt_length
    assert len(encoded.example(2)) == 200


def test_a_record_whose_response_is_cut_away_is_left_out_and_counted(tokenizer):
    encoded, report = encode(RECORDS, tokenizer, 60)
    assert report.dropped == [2] and len(encoded) == 2
    with pytest.raises(UserError, match="all 1 records lose their whole response"):
        encode(RECORDS[2:], tokenizer, 10)


def test_encoded_records_survive_the_disk(tokenizer, tmp_path):
    encoded, _ = encode(RECORDS, tokenizer, 200)
    encoded.save(tmp_path / "t.npz")
    again = Encoded.load(tmp_path / "t.npz")
    assert all(np.array_equal(getattr(encoded, k), getattr(again, k)) for k in ("ids", "offsets", "prompt_lengths"))


def plan_of(examples, **options):
    lengths = np.random.default_rng(0).integers(1, 100, examples)
    return Plan(lengths, Train(**({"global_batch": 8, "micro_batch": 2, "processes": 4} | options)))


@pytest.mark.parametrize("examples", [1, 7, 8, 21, 64])
def test_every_example_is_seen_once_an_epoch_and_only_the_last_batch_has_gaps(examples):
    plan = plan_of(examples, epochs=3)
    batches = [plan.batch(step) for step in range(plan.steps)]
    seen = np.concatenate(batches)
    assert np.array_equal(np.bincount(seen[seen != EMPTY], minlength=examples), np.full(examples, 3))
    assert all((batch != EMPTY).all() for batch in batches[:-1])
    assert plan.steps == -(-examples * 3 // 8)


def test_the_processes_share_a_batch_without_gap_or_overlap():
    for options in ({"processes": 4}, {"processes": 2, "accumulation": 2}, {"processes": 1, "micro_batch": 8}):
        plan = plan_of(64, **options)
        train = plan.train
        for step in range(plan.steps):
            rows = [plan.rows(step, a, p) for a in range(train.accumulation) for p in range(train.processes)]
            assert np.array_equal(np.concatenate(rows), plan.batch(step))
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
