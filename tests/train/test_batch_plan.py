"""Batches of examples, learning rates by step, and the estimate of memory."""

import numpy as np
import pytest

from orca_bench.recipe import Train
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.micro_batches import EMPTY_PLACE


def plan_of(examples, **options):
    lengths = np.random.default_rng(0).integers(1, 100, examples)
    return BatchPlan(lengths, Train(**({"global_batch": 8, "micro_batch": 2, "processes": 4} | options)))


def passes_of_step(plan, step):
    train = plan.train_section
    passes = [plan.passes_of_process(step, rank) for rank in range(train.processes)]
    return [passes[rank][index] for index in range(train.accumulation) for rank in range(train.processes)]


@pytest.mark.parametrize("packing", ["none", "exact", "dense"])
@pytest.mark.parametrize("examples", [1, 7, 8, 21, 64])
def test_every_example_is_seen_once_an_epoch_and_only_the_last_batch_is_smaller(examples, packing):
    plan = plan_of(examples, epochs=3, packing=packing)
    batches = [plan.example_indices_of_step(step) for step in range(plan.step_count)]
    assert np.array_equal(np.bincount(np.concatenate(batches), minlength=examples), np.full(examples, 3))
    if packing != "dense":
        assert {len(batch) for batch in batches[:-1]} <= {8} and plan.step_count == -(-examples * 3 // 8)
    assert [plan.epoch(step) for step in (-1, plan.step_count - 1)] == [0, 3]


SPLITS = (
    {"processes": 4},
    {"processes": 2, "accumulation": 2},
    {"processes": 1, "micro_batch": 8},
    {"accumulation": 2},
)


@pytest.mark.parametrize("packing", ["none", "exact", "dense"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_passes_share_a_batch_without_gap_or_overlap(split, packing):
    plan = plan_of(61, **{"micro_batch": 1 if split == {"accumulation": 2} else 2} | split, packing=packing)
    assert plan.step_count == plan_of(61, packing=packing).step_count
    for step in range(plan.step_count):
        batch = plan.example_indices_of_step(step)
        assert np.array_equal(batch, plan_of(61, packing=packing).example_indices_of_step(step))
        numbers = np.concatenate(passes_of_step(plan, step))
        if packing == "none":
            assert np.array_equal(numbers, np.pad(batch, (0, 8 - len(batch)), constant_values=EMPTY_PLACE))
        else:
            assert sorted(numbers) == sorted(batch)


def test_exact_passes_have_equal_work_and_padded_ones_have_not():
    def spread(packing):
        plan = plan_of(400, packing=packing, global_batch=32, accumulation=2, micro_batch=4)
        work = [[plan.example_lengths[p].sum() for p in passes_of_step(plan, step)] for step in range(10)]
        return np.mean([np.max(w) / np.mean(w) for w in work])

    assert spread("exact") < 1.05 and spread("none") > 1.2


def test_costs_decide_what_equal_work_is():
    lengths, costs = np.array([50, 50, 10, 10]), np.array([10.0, 10.0, 50.0, 50.0])
    train = Train(global_batch=4, micro_batch=2, processes=2)
    for plan, group in ((BatchPlan(lengths, train), lengths), (BatchPlan(lengths, train, costs=costs), costs)):
        assert {float(group[p].sum()) for p in passes_of_step(plan, 0)} == {60.0}


def test_dense_rows_are_full_and_a_step_has_as_many_as_the_recipe_says():
    plan = plan_of(400, packing="dense", epochs=1)
    plan = BatchPlan(plan.example_lengths, plan.train_section, row_length=256)
    tokens = plan.example_lengths.sum()
    assert plan.step_count == pytest.approx(tokens / (8 * 256 * 0.85), abs=2)
    for step in range(plan.step_count - 1):
        for examples in passes_of_step(plan, step):
            assert 1.4 * 256 < plan.example_lengths[examples].sum() <= 2 * 256
    limited = BatchPlan(plan.example_lengths, plan.train_section.model_copy(update={"max_steps": 2}), row_length=256)
    assert limited.step_count == 2
    assert np.array_equal(limited.example_indices_of_step(1), plan.example_indices_of_step(1))


def test_epochs_have_different_orders_and_the_same_seed_the_same():
    plan = plan_of(64, epochs=2)
    first = [set(plan.example_indices_of_step(s)) for s in range(8)]
    assert first != [set(plan.example_indices_of_step(s)) for s in range(8, 16)]
    assert np.array_equal(plan.example_indices_of_step(3), plan_of(64, epochs=2).example_indices_of_step(3))
    assert not np.array_equal(plan.example_indices_of_step(3), plan_of(64, epochs=2, seed=1).example_indices_of_step(3))


@pytest.mark.parametrize("warmup", ["log", "linear"])
@pytest.mark.parametrize("examples", [24, 400])
def test_the_learning_rate_is_deepspeeds_warmup_decay(warmup, examples):
    import torch
    from deepspeed.runtime.lr_schedules import WarmupDecayLR

    plan = plan_of(examples, warmup=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=plan.train_section.lr)
    scheduler = WarmupDecayLR(
        optimizer,
        total_num_steps=plan.step_count,
        warmup_min_lr=0,
        warmup_max_lr=plan.train_section.lr,
        warmup_num_steps=plan.warmup_step_count,
        warmup_type=warmup,
    )
    for step in range(plan.step_count):
        assert plan.learning_rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-20)
        optimizer.step()
        scheduler.step()


def test_the_cards_run_has_the_cards_number_of_steps():
    plan = BatchPlan(np.ones(137_000, np.int64), Train())
    assert plan.step_count == 25_688 and plan.warmup_step_count == 2_568


def test_what_the_number_of_steps_does_to_the_recipe_is_said():
    options = {"epochs": 1, "warmup_min_steps": 1, "warmup_ratio": 0.1}
    assert plan_of(80, **options, max_steps=10).remarks() == []
    assert plan_of(80, **options, max_steps=20).remarks() == [
        "one epoch ends after 10 steps, before train.max_steps 20: raise train.epochs to train longer"
    ]
    (ends_early, long_warmup) = plan_of(5, epochs=1, max_steps=20, warmup_min_steps=10, lr=2e-5).remarks()
    assert ends_early.startswith("one epoch ends after 1 step, before train.max_steps 20: ")
    assert long_warmup == (
        "warm-up takes 10 steps, and the run has 1 step: the learning rate does not reach train.lr 2e-05; "
        "lower train.warmup_min_steps or train.warmup_ratio"
    )
