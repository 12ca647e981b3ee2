"""Batches of examples, learning rates by step, and the estimate of memory."""

import numpy as np
import pytest

from orca_bench.recipe import Train
from orca_bench.train.batch_plan import EMPTY_PLACE, BatchPlan, estimate_memory


def plan_of(examples, **options):
    lengths = np.random.default_rng(0).integers(1, 100, examples)
    return BatchPlan(lengths, Train(**({"global_batch": 8, "micro_batch": 2, "processes": 4} | options)))


@pytest.mark.parametrize("examples", [1, 7, 8, 21, 64])
def test_every_example_is_seen_once_an_epoch_and_only_the_last_batch_has_gaps(examples):
    plan = plan_of(examples, epochs=3)
    batches = [plan.example_indices_of_step(step) for step in range(plan.step_count)]
    numbers = np.concatenate(batches)
    assert np.array_equal(np.bincount(numbers[numbers != EMPTY_PLACE], minlength=examples), np.full(examples, 3))
    assert all((batch != EMPTY_PLACE).all() for batch in batches[:-1])
    assert plan.step_count == -(-examples * 3 // 8)


def test_the_processes_share_a_batch_without_gap_or_overlap():
    for options in ({"processes": 4}, {"processes": 2, "accumulation": 2}, {"processes": 1, "micro_batch": 8}):
        plan = plan_of(64, **options)
        train = plan.train_section
        for step in range(plan.step_count):
            parts = [plan.micro_batch(step, a, p) for a in range(train.accumulation) for p in range(train.processes)]
            assert np.array_equal(np.concatenate(parts), plan.example_indices_of_step(step))
            assert np.array_equal(plan.example_indices_of_step(step), plan_of(64).example_indices_of_step(step))


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


def test_memory_is_divided_by_the_zero_stage():
    def states(**options):
        return estimate_memory(10**9, 1000, 10, 32000, Train(global_batch=16, **options), 1024).states_gib * 2**30

    assert states(zero_stage=0) == pytest.approx(16e9)
    assert states(zero_stage=1) == pytest.approx(4e9 + 12e9 / 8)
    assert states(zero_stage=2) == pytest.approx(2e9 + 14e9 / 8)
    assert states(zero_stage=3) == pytest.approx(16e9 / 8)


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
