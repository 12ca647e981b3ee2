"""A recipe is trained, or described, by one call; what the hub would have to give is named as such."""

import sys

import pytest
from filelock import FileLock, Timeout

from orca_bench import recipe_file
from orca_bench.errors import Interrupted, UserError
from orca_bench.mini import resolve_recipe
from orca_bench.train import run_setup
from orca_bench.train.run_folder import Run
from orca_bench.train.train_recipe import UnreachableSource, describe_training, train_recipe, write_untrained_model


@pytest.fixture
def recipe(tmp_path, mini):
    return resolve_recipe(recipe_file.read_recipe_file("mini"), mini["mini:records"].parents[1], where="mini")


def test_a_recipe_is_described_without_a_run(recipe, tmp_path):
    prepared = describe_training(recipe)
    assert prepared.plan.step_count > 0 and prepared.encoding_report.record_count >= len(prepared.examples) > 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_here_and_what_the_hub_does_not_give_are_told_apart(recipe):
    too_short = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_length": 2})})
    with pytest.raises(UserError, match="lose their whole response"):
        describe_training(too_short)
    on_hub = recipe.data.model_copy(update={"records": ["nobody/nothing"]})
    with pytest.raises(UnreachableSource, match="nobody/nothing"):
        describe_training(recipe.model_copy(update={"data": on_hub}))


@pytest.mark.parametrize(
    ("train_keys", "message"),
    [({"trackers": ["wandb"]}, "package wandb is not installed"), ({"precision": "fp16"}, "no fp16 on a CPU")],
)
def test_what_this_machine_lacks_is_refused_before_encoding_and_leaves_the_run_where_it_is(
    recipe, tmp_path, monkeypatch, train_keys, message
):
    import torch

    monkeypatch.setitem(sys.modules, "wandb", None)  # as Python marks a module that cannot be imported
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = Run(tmp_path / recipe.name)
    run.folder.mkdir()
    run.update_manifest(orca_bench="0.1", status="finished")
    cannot_be_encoded = recipe.data.model_copy(update={"max_length": 2})
    train = recipe.train.model_copy(update=train_keys)
    with pytest.raises(UserError, match=message):
        train_recipe(recipe.model_copy(update={"data": cannot_be_encoded, "train": train}), tmp_path, fresh=True)
    assert list(tmp_path.iterdir()) == [run.folder] and run.status == "finished"


@pytest.mark.parametrize("end", [None, Interrupted("stopped"), RuntimeError("diverged")])
def test_a_training_that_has_ended_gives_its_run_up_though_python_still_has_its_objects(
    recipe, tmp_path, monkeypatch, end
):
    def launch_training(run, *_):
        with pytest.raises(Timeout):
            FileLock(run.folder / ".lock", timeout=0).acquire()
        if end is not None:
            raise end

    monkeypatch.setattr(run_setup, "launch_training", launch_training)
    with pytest.raises(UserError if end is None else type(end)) as failure:  # without a training there is no model
        train_recipe(recipe, tmp_path)
    frames = [entry.frame for entry in failure.traceback]
    FileLock(tmp_path / recipe.name / ".lock", timeout=0).acquire()
    assert any(isinstance(value, Run) for frame in frames for value in frame.f_locals.values())


def test_the_untrained_model_is_the_one_that_training_starts_from(recipe, tmp_path):
    from safetensors.torch import load_file

    folder = write_untrained_model(recipe, tmp_path)
    assert folder == tmp_path / "mini-untrained" / "model"
    again = write_untrained_model(recipe, tmp_path / "again")
    first, second = (load_file(path / "model.safetensors") for path in (folder, again))
    assert first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)
    trained = recipe.model.model_copy(update={"base": "x", "random": None})
    with pytest.raises(UserError, match="starts from random weights"):
        write_untrained_model(recipe.model_copy(update={"model": trained}), tmp_path)
