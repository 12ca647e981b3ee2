"""Held-out examples are the seed's choice, and no prompt of theirs is trained on."""

import contextlib

import numpy as np
import pytest

from orca_bench import recipe_file
from orca_bench.errors import UserError
from orca_bench.files import write_json_lines
from orca_bench.train import compute_prepared_run, prepare_run_folder
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.held_out import split_examples
from orca_bench.train.run_folder import Run
from orca_bench.train.token_files import load_run_examples
from recipes import RECIPE


def examples_of(prompts, responses=None):
    """Examples of these prompts; a response is [9] unless others are named."""
    responses = responses or [[9]] * len(prompts)
    lengths = np.array([len(p) + len(r) for p, r in zip(prompts, responses, strict=True)])
    return EncodedExamples(
        np.concatenate([np.array([*p, *r], np.int32) for p, r in zip(prompts, responses, strict=True)]),
        np.cumsum(lengths) - lengths,
        lengths,
        np.array([len(p) for p in prompts], np.int32),
        np.arange(len(prompts), dtype=np.int32),
    )


DIFFERENT = examples_of([[1, number] for number in range(200)])


def test_every_example_is_trained_or_held_out_and_the_seed_decides():
    split = split_examples(DIFFERENT, 200, 20, seed=0)
    assert len(split.held_out) == 20 and split.duplicate_count == 0
    assert sorted([*split.training, *split.held_out]) == list(range(200))
    assert split.held_out.tolist() == split_examples(DIFFERENT, 200, 20, seed=0).held_out.tolist()
    assert split.held_out.tolist() != split_examples(DIFFERENT, 200, 20, seed=1).held_out.tolist()
    assert split.held_out.tolist() not in (list(range(20)), list(range(180, 200)))
    assert np.all(np.diff(split.held_out) > 0) and np.all(np.diff(split.training) > 0)


def test_more_held_out_examples_include_the_fewer():
    fewer, more = (set(split_examples(DIFFERENT, 200, count, seed=0).held_out) for count in (20, 40))
    assert fewer < more


def test_a_record_without_an_example_changes_the_choice_of_one_at_most():
    chosen = split_examples(DIFFERENT, 200, 20, seed=0).held_out
    without = DIFFERENT.subset(np.array([index for index in range(200) if index != chosen[3]]))
    records = without.records[split_examples(without, 200, 20, seed=0).held_out]
    assert len(set(records) - set(chosen)) == 1 and chosen[3] not in records


def test_nothing_is_held_out_by_default():
    split = split_examples(DIFFERENT, 200, 0, seed=0)
    assert split.training.tolist() == list(range(200)) and len(split.held_out) == split.duplicate_count == 0


def test_examples_with_the_prompt_of_a_held_out_one_are_neither_trained_nor_held_out():
    prompts = [[1, number // 2] for number in range(40)]  # each prompt twice
    responses = [[9, number] for number in range(40)]
    split = split_examples(examples_of(prompts, responses), 40, 5, seed=0)
    held_out_prompts = {prompts[index][1] for index in split.held_out}
    assert not held_out_prompts & {prompts[index][1] for index in split.training}
    assert len(split.held_out) == 5 and split.duplicate_count == 40 - 5 - len(split.training) > 0


def test_a_prompt_that_only_begins_like_a_held_out_one_is_trained():
    examples = examples_of([[1, 2], [1, 2, 3]], [[3, 4], [4]])  # the same ids, parted elsewhere
    split = split_examples(examples, 2, 1, seed=0)
    assert len(split.training) == 1 and split.duplicate_count == 0


@pytest.mark.parametrize("count", [200, 201, 10**9])
def test_as_many_as_there_are_cannot_be_held_out(count):
    with pytest.raises(
        UserError, match="^data.held_out: .* of 200 examples cannot be held out: none is left to train on"
    ):
        split_examples(DIFFERENT, 200, count, seed=0)


def test_records_of_one_prompt_cannot_be_parted():
    examples = examples_of([[1, 2]] * 5)
    with pytest.raises(
        UserError, match="^data.held_out: no example is left to train on: every other one has the prompt"
    ):
        split_examples(examples, 5, 2, seed=0)


@pytest.fixture
def folder(tmp_path, mini):
    """A folder with 40 records of 20 prompts and a recipe, which is the current one."""
    rows = [{"system": "s", "instruction": f"i {n // 2}", "response": f"one {n}"} for n in range(40)]
    write_json_lines(tmp_path / "records.jsonl", rows)
    (tmp_path / "r.yaml").write_text(RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_a_run_holds_examples_out_and_says_how_many(folder):
    recipe = recipe_file.read_recipe_file("r.yaml", ("data.held_out=6",))
    prepared, run = compute_prepared_run(recipe), Run(folder / "runs" / "r")
    prepare_run_folder(prepared, run)
    run.unlock()
    examples, split = load_run_examples(run.tokens_folder, run.earlier_tokens_file), prepared.prepared_examples.split
    assert len(examples.held_out) == 6 and split.duplicate_count > 0
    assert examples.training.records.tolist() == split.training.tolist() == prepared.examples.records.tolist()
    assert prepared.plan.example_count == len(examples.training) == 40 - 6 - split.duplicate_count
    manifest = run.manifest
    assert (manifest["examples"], manifest["held_out"]) == (len(examples.training), 6)
    assert manifest["held_out_duplicates"] == split.duplicate_count
    assert manifest["tokens"] == examples.training.lengths.sum() < len(examples.training.ids)


def test_the_choice_is_the_same_for_every_split_over_processes_and_cut(folder):
    others = ("train.processes=1", "train.micro_batch=4"), ("data.max_length=200",), ("train.lr=1e-4",)
    choices = [
        compute_prepared_run(
            recipe_file.read_recipe_file("r.yaml", ("data.held_out=6", *other))
        ).prepared_examples.held_out.records.tolist()
        for other in ((), *others, ("train.seed=1",))
    ]
    assert choices[0] == choices[1] == choices[2] == choices[3] != choices[4]


def test_the_command_says_what_is_held_out_and_refuses_too_many(folder, command_in):
    orca = command_in(folder)
    process = orca("train", "r.yaml", "-o", "data.held_out=6", "--dry-run")
    assert "6 examples held out of training; " in process.stdout
    assert "more, with the same prompt as one of them, left out of training too" in process.stdout
    assert "held out" not in orca("train", "r.yaml", "--dry-run").stdout
    assert "data.held_out: 40 of 40 examples cannot be held out" in orca.refused(
        "train", "r.yaml", "-o", "data.held_out=40", "--dry-run"
    )
    assert "data.held_out" in orca.refused("train", "r.yaml", "-o", "data.held_out=-1", "--dry-run")
