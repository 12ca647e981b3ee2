"""A run goes on with the tokenizer, records and tokens that it began with, else it is refused and left as it is."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from orca_bench import recipe_file
from orca_bench.errors import UserError
from orca_bench.files import read_json, write_json_lines
from orca_bench.train import compute_prepared_run, example_encoding, held_out, prepare_run_folder, token_files
from orca_bench.train.run_folder import Run
from orca_bench.train.train_recipe import SilentTrainingDisplay, train_recipe
from recipes import RECIPE

KEYS = ("data.records=[records]",)
HELD_OUT = (*KEYS, "data.held_out=2")


def rows(name):
    return [{"system": "s", "instruction": f"{name} {number}", "response": "one two"} for number in range(8)]


@pytest.fixture
def folder(tmp_path, mini):
    """A folder with two files of records in a folder and a recipe, which is the current one."""
    (tmp_path / "records").mkdir()
    for name in ("a", "b"):
        write_json_lines(tmp_path / "records" / f"{name}.jsonl", rows(name))
    (tmp_path / "r.yaml").write_text(RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def prepare(*keys, show_message=lambda line: None):
    """Prepare the run, as the command does, and let go of it; returns whether it is continued, and the run."""
    run = Run(Path("runs/r"))
    try:
        prepared = compute_prepared_run(
            recipe_file.read_recipe_file("r.yaml", keys), run_tokens_folder=run.tokens_folder
        )
        return prepare_run_folder(prepared, run, show_message), run
    finally:
        run.unlock()


def interrupted(*keys):
    """A run that was interrupted after five steps."""
    is_continued, run = prepare(*keys)
    assert not is_continued
    (run.checkpoints_folder / "step-00000005").mkdir(parents=True)
    (run.checkpoints_folder / "latest").write_text("step-00000005")
    run.update_manifest(status="interrupted")
    return run


def content(run):
    """What must not change: recipe, manifest and tokens."""
    paths = [run.recipe_file, run.manifest_file, run.earlier_tokens_file, *sorted(run.tokens_folder.glob("*"))]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def assert_refused(run, keys, message):
    """The run is refused with this message, and nothing of it has changed."""
    before = content(run)
    with pytest.raises(UserError, match=message):
        prepare(*keys)
    assert content(run) == before


@pytest.mark.parametrize("keys", [KEYS, HELD_OUT])
def test_the_same_input_goes_on(folder, keys):
    run = interrupted(*keys)
    assert prepare(*keys)[0]
    run.update_manifest(status="interrupted", records=[])  # as of a version that did not write them down
    shutil.rmtree(run.tokens_folder)  # or they were lost
    assert prepare(*keys)[0]


def test_a_file_that_was_deleted_from_the_folder_of_records_is_named(folder):
    run = interrupted(*KEYS)
    (folder / "records" / "b.jsonl").unlink()
    assert_refused(
        run, KEYS, "^records/b.jsonl: is missing: the run in runs/r began with it; give the run another name.*--fresh"
    )


def test_a_file_that_was_added_to_the_folder_of_records_is_named(folder):
    run = interrupted(*KEYS)
    write_json_lines(folder / "records" / "c.jsonl", rows("c"))
    assert_refused(run, KEYS, "^records/c.jsonl: is new: the run in runs/r began without it; ")


def test_a_file_of_other_content_is_named(folder):
    run = interrupted(*KEYS)
    write_json_lines(folder / "records" / "b.jsonl", rows("c"))
    assert_refused(run, KEYS, "^records/b.jsonl: has changed since the run in runs/r read it; ")


def test_the_same_files_in_another_order_are_refused(folder):
    run = interrupted(*KEYS)
    run.update_manifest(records=run.manifest["records"][::-1])
    assert_refused(run, KEYS, "^data.records: these files come in another order than in the run in runs/r; ")


def test_another_encoding_of_the_same_records_is_refused(folder, monkeypatch):
    run = interrupted(*KEYS)
    monkeypatch.setattr(example_encoding, "_ENCODING_VERSION", -1)
    assert_refused(
        run, KEYS, "^data.records: these records are encoded in another way than when the run in runs/r began"
    )


def test_another_choice_of_held_out_examples_is_refused(folder, monkeypatch):
    run = interrupted(*HELD_OUT)
    monkeypatch.setattr(held_out, "_RANDOM_STREAM", (0, 1))
    assert_refused(run, HELD_OUT, "^data.held_out: these are not the examples that the run in runs/r began with; ")


@pytest.mark.parametrize("is_same", [True, False])
def test_the_tokens_of_a_run_of_an_earlier_version_are_compared(folder, is_same):
    run = interrupted(*KEYS)
    ids, starts, prompt_lengths, records = (
        np.load(run.tokens_folder / f"{name}.npy") for name in ("ids", "starts", "prompt_lengths", "records")
    )
    ids[-2] += not is_same
    offsets = np.append(starts, len(ids))
    np.savez(run.earlier_tokens_file, ids=ids, offsets=offsets, prompt_lengths=prompt_lengths, records=records)
    shutil.rmtree(run.tokens_folder)
    if is_same:
        assert prepare(*KEYS)[0] and run.tokens_folder.is_dir() and not run.earlier_tokens_file.exists()
    else:
        assert_refused(run, KEYS, "^data.records: these are not the examples that the run in runs/r began with; ")


def test_another_tokenizer_is_refused(folder):
    run = interrupted(*KEYS)
    run.update_manifest(tokenizer_sha256="0" * 64)
    assert_refused(run, KEYS, "this tokenizer is not the one that the run in runs/r began with")


def test_without_its_manifest_a_run_is_compared_by_its_tokens(folder):
    run = interrupted(*KEYS)
    run.manifest_file.unlink()
    write_json_lines(folder / "records" / "b.jsonl", rows("c"))
    assert_refused(
        run, KEYS, "^data.records: these records, or their encoding, are not those that the run in runs/r began w"
    )
    write_json_lines(folder / "records" / "b.jsonl", rows("b"))
    assert prepare(*KEYS)[0]


def full_disk(*arguments):
    raise UserError("no space")


def test_tokens_that_cannot_be_written_leave_the_recipe_and_the_splits_as_they_were(folder, monkeypatch):
    run = interrupted(*KEYS)
    other_split = (*KEYS, "train.micro_batch=1", "train.accumulation=4")
    with monkeypatch.context() as patch:
        patch.setattr(token_files, "link_token_files", full_disk)
        assert_refused(run, other_split, "no space")
    messages = []
    assert prepare(*other_split, show_message=messages.append)[0] and len(messages) == 1
    assert len(run.manifest["splits"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), "records/b.jsonl: is missing: the run in runs/r began with it; .*--fresh"),
        (
            lambda file: shutil.copy(file, file.with_name("c.jsonl")),
            "records/c.jsonl: is new: the run in runs/r began w",
        ),
        (
            lambda file: write_json_lines(file, rows("c")),
            "records/b.jsonl: has changed since the run in runs/r read it",
        ),
        (lambda file: shutil.rmtree(file.parent), "records/a.jsonl: is missing: the run in runs/r began with it"),
    ],
)
def test_a_run_that_has_ended_is_compared_by_the_same_rules(folder, change, message):
    _, run = prepare(*KEYS)
    run.model.mkdir()
    run.update_manifest(status="finished")
    recipe, display, lines = recipe_file.read_recipe_file("r.yaml", KEYS), SilentTrainingDisplay(), []
    display.message = lines.append
    assert train_recipe(recipe, Path("runs"), display=display).folder == run.folder
    assert lines == ["already trained: runs/r/model (--fresh trains again)"]
    change(folder / "records" / "b.jsonl")
    with pytest.raises(UserError, match=f"^{message}"):
        train_recipe(recipe, Path("runs"), display=display)


def test_a_checkpoint_that_cannot_be_converted_leaves_the_recipe_and_the_splits_as_they_were(folder):
    run = interrupted(*KEYS)
    for rank in (0, 1):
        name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        (run.checkpoints_folder / "step-00000005" / name).write_text("no checkpoint")
    one_process = (*KEYS, "train.processes=1", "train.micro_batch=4")
    assert_refused(run, one_process, "step-00000005: the checkpoint of 2 processes cannot be converted for 1 process")
    assert "splits" not in run.manifest
    messages = []
    assert prepare(*KEYS, show_message=messages.append)[0] and not messages


def test_a_run_without_a_checkpoint_starts_with_the_records_that_are_there_now(folder):
    is_continued, run = prepare(*KEYS)
    (folder / "records" / "b.jsonl").unlink()
    assert not is_continued and not prepare(*KEYS)[0]
    assert read_json(run.manifest_file)["examples"] == 8
