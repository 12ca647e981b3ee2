"""Processes of a launcher that differ, or do not come, end all of them at the start with the same line."""

import threading
from datetime import timedelta

import pytest
import torch

from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.train import process_comparison

RECIPE = {"name": "r", "model": {"base": "somewhere"}, "data": {"records": ["records.jsonl"]}}
FACTS = process_comparison.own_facts(Recipe.model_validate(RECIPE))


def compare(*facts_by_rank, world_size=None, seconds=60.0):
    """What each rank raises, and rank 0's messages."""
    from torch.distributed import HashStore

    store, errors, messages = HashStore(), [None] * len(facts_by_rank), []

    def check(rank):
        size, timeout = world_size or len(facts_by_rank), timedelta(seconds=seconds)
        try:
            process_comparison.check_same_in_all(
                store, rank, size, f"node-{rank}", facts_by_rank[rank], timeout, messages.append
            )
        except UserError as error:
            errors[rank] = str(error)

    threads = [threading.Thread(target=check, args=(rank,)) for rank in range(len(facts_by_rank))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors, messages


def test_equal_processes_go_on():
    assert compare(FACTS, FACTS, FACTS) == ([None] * 3, [])


@pytest.mark.parametrize("name", ["orca-bench", "torch", "deepspeed", "transformers", "Python", "the device"])
def test_a_process_with_another_version_is_named_with_both_versions(name):
    errors, _ = compare(FACTS, FACTS, FACTS | {name: "0.1"})
    assert errors[0] == errors[1] == errors[2]
    assert errors[0].startswith(f"rank 2 on node-2 differs from rank 0 on node-0: {name} 0.1 (rank 0: {FACTS[name]}); ")


def test_the_versions_are_those_of_the_libraries():
    assert FACTS["torch"] == torch.__version__ and FACTS["the device"] in ("a GPU", "the CPU")


def test_a_process_with_another_recipe_is_named_with_the_keys_that_differ():
    other = Recipe.model_validate(RECIPE | {"train": {"lr": 1e-3}, "data": {"records": ["other.jsonl"]}})
    errors, _ = compare(FACTS, process_comparison.own_facts(other))
    assert "data.records ['other.jsonl'] (rank 0: ['records.jsonl']), train.lr 0.001 (rank 0: " in errors[0]


def test_an_orca_bench_that_compares_other_things_differs():
    earlier = {name: value for name, value in FACTS.items() if name != "the device"} | {"orca-bench": "0.0"}
    errors, _ = compare(FACTS, earlier)
    assert (
        f"orca-bench 0.0 (rank 0: {FACTS['orca-bench']})" in errors[1] and "the device missing (rank 0: " in errors[1]
    )


def test_a_process_that_does_not_come_is_named_after_a_notice(monkeypatch):
    monkeypatch.setattr(process_comparison, "_NOTICE_S", 0.2)
    monkeypatch.setattr(process_comparison, "_READ_TIMEOUT_S", 0.5)
    errors, messages = compare(FACTS, FACTS, world_size=4, seconds=1.0)
    assert messages == ["waiting for ranks 2, 3 of 4, 1 s at most"]
    assert errors[0] == errors[1] and errors[0].startswith("ranks 2, 3 of 4 did not come within 1 s; ")
