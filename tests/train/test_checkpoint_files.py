"""Checkpoints as files: whole, damaged, half-written, of another model, and how many stay."""

import hashlib
import os
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.train import checkpoint_files
from orca_bench.train.checkpoint_files import CheckpointManifest, FileEntry, mark_whole, newest_checkpoint
from orca_bench.train.run_survey import removable_checkpoints, remove_checkpoints, survey_checkpoints

CONTENTS = {f"rank_{rank}_{part}_states.pt": os.urandom(300) for rank in range(2) for part in ("model", "optim")}


def manifest_of(step):
    entries = {name: FileEntry(bytes=300, sha256=hashlib.sha256(text).hexdigest()) for name, text in CONTENTS.items()}
    return CheckpointManifest(step=step, processes=2, parameters={"w": [2, 3]}, files=entries)


def write(folder, step):
    """The files of a checkpoint, not yet marked as whole."""
    checkpoint_folder = checkpoint_files.temporary_folder(folder, step)
    checkpoint_folder.mkdir(parents=True)
    for name, text in CONTENTS.items():
        (checkpoint_folder / name).write_bytes(text)
    return checkpoint_folder


@pytest.fixture
def folder(tmp_path):
    """A run's checkpoints after 5, 10 and 15 steps."""
    for step in (5, 10, 15):
        mark_whole(write(tmp_path / "checkpoints", step), manifest_of(step))
    return tmp_path / "checkpoints"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def set_aside(folder):
    messages = []
    checkpoint_files.set_damaged_aside(folder, messages.append)
    return messages


def test_what_is_not_yet_marked_is_no_checkpoint(folder):
    write(folder, 20)
    assert newest_checkpoint(folder).name == "step-00000015" and not set_aside(folder)
    assert checkpoint_files.newest_checkpoint_step(folder) == 15
    assert (folder / "latest").read_text() == "step-00000015"
    mark_whole(folder / ".step-00000020.tmp", manifest_of(20))
    assert newest_checkpoint(folder).name == (folder / "latest").read_text() == "step-00000020"
    assert (
        newest_checkpoint(folder / "absent") is None and checkpoint_files.newest_checkpoint_step(folder / "absent") == 0
    )


def test_a_checkpoint_that_was_renamed_before_a_kill_counts_without_latest(folder):
    (folder / "latest").write_text("step-00000010")  # the kill came between the new name and this file
    assert newest_checkpoint(folder).name == "step-00000015"
    checkpoint_files.remove_incomplete_checkpoints(folder)
    assert newest_checkpoint(folder).name == "step-00000015"


def truncate(checkpoint):
    os.truncate(checkpoint / "rank_1_optim_states.pt", 200)


def lose_a_rank(checkpoint):
    for path in checkpoint.glob("rank_1_*"):
        path.unlink()


def flip_a_bit(checkpoint):
    path = checkpoint / "rank_0_model_states.pt"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def break_manifest(checkpoint):
    (checkpoint / "manifest.json").write_text('{"step": 15')


def lose_manifest(checkpoint):
    (checkpoint / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "rank_1_optim_states.pt has 200 bytes, and manifest.json says 300"),
        (lose_a_rank, "rank_1_model_states.pt is not there"),
        (flip_a_bit, "the content of rank_0_model_states.pt has changed"),
        (break_manifest, "its manifest.json cannot be read"),
        (lose_manifest, "it has no manifest.json"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(folder, damage, reason):
    damage(folder / "step-00000015")
    checkpoint_files.remove_incomplete_checkpoints(folder)
    (message,) = set_aside(folder)
    assert message == (
        f"{folder}/step-00000015 is damaged ({reason}): it is now damaged-step-00000015, and training goes on from "
        "step-00000010"
    )
    assert newest_checkpoint(folder).name == "step-00000010"
    assert names(folder / "damaged-step-00000015")  # still there
    assert not set_aside(folder)


def test_only_checkpoints_newer_than_the_one_that_is_taken_are_read(folder):
    truncate(folder / "step-00000005")
    assert not set_aside(folder)
    lose_a_rank(folder / "step-00000015")
    flip_a_bit(folder / "step-00000010")
    with pytest.raises(UserError, match=r"step-00000015: the checkpoint is damaged \(rank_1_model.*--fresh"):
        set_aside(folder)
    assert names(folder) == ["latest", "step-00000005", "step-00000010", "step-00000015"]


def test_damage_that_can_be_seen_without_reading_is_seen_by_those_that_do_not_read(folder):
    truncate(folder / "step-00000015")
    assert newest_checkpoint(folder).name == "step-00000010"
    flip_a_bit(folder / "step-00000010")
    assert newest_checkpoint(folder).name == "step-00000010"


def test_only_a_folder_in_which_no_checkpoint_has_a_manifest_is_of_a_version_before_it(folder):
    for step in (5, 10):
        lose_manifest(folder / f"step-{step:08d}")
    truncate(folder / "step-00000015")
    assert newest_checkpoint(folder) is None
    lose_manifest(folder / "step-00000015")
    (folder / "latest").write_text("step-00000010")
    assert newest_checkpoint(folder).name == "step-00000010" and not set_aside(folder)
    checkpoint_files.remove_incomplete_checkpoints(folder)
    assert names(folder) == ["latest", "step-00000005", "step-00000010"]


def test_a_checkpoint_of_an_earlier_version_is_named_where_the_only_ones_with_a_manifest_are_damaged(folder):
    mark_whole(write(folder, 20), manifest_of(20))
    for step in (5, 10):
        lose_manifest(folder / f"step-{step:08d}")
    for step in (15, 20):
        flip_a_bit(folder / f"step-{step:08d}")
    hint = (
        r"put its files back, delete step-00000015, step-00000020 to go on from step-00000010 \(which has no manifest"
    )
    with pytest.raises(UserError, match=rf"/step-00000020: the checkpoint is damaged .* whole; {hint}.*--fresh"):
        set_aside(folder)
    for step in (15, 20):
        shutil.rmtree(folder / f"step-{step:08d}")
    checkpoint_files.remove_incomplete_checkpoints(folder)
    assert not set_aside(folder) and newest_checkpoint(folder).name == "step-00000010"


@pytest.mark.parametrize("latest", [None, b"\xff\xfe", b"", b"global_step15"])
def test_checkpoints_of_an_earlier_version_are_set_aside_where_latest_names_none(folder, latest):
    for step in (5, 10, 15):
        lose_manifest(folder / f"step-{step:08d}")
    (folder / "latest").unlink()
    if latest is not None:
        (folder / "latest").write_bytes(latest)
    checkpoint_files.remove_incomplete_checkpoints(folder)
    messages = set_aside(folder)
    assert len(messages) == 3 and messages[0] == (
        f"{folder}/step-00000015 may be half-written (it has no manifest.json, and the file latest names no checkpoint): "
        "it is now damaged-step-00000015, and training starts over"
    )
    assert not newest_checkpoint(folder) and not set_aside(folder)
    assert [names(folder / f"damaged-step-{step:08d}") for step in (5, 10, 15)] == [sorted(CONTENTS)] * 3


def test_other_names_are_no_checkpoints_and_stay_as_they_are(folder):
    other_names = ["copy-of-step-00000015", "damaged-step-00000010.bak", "step-00000020.bak", "step-0000020", "step-x"]
    for name in other_names:
        shutil.copytree(folder / "step-00000010", folder / name)
    (folder / "step-00000020.tar").write_text("an archive")
    (folder / "step-00000025").write_text("a file")
    before = names(folder)
    assert checkpoint_files.newest_checkpoint_step(folder) == 15 and not set_aside(folder)
    assert [summary.path.name for summary in survey_checkpoints(folder.parent)] == [
        f"step-{step:08d}" for step in (5, 10, 15)
    ]
    lose_a_rank(folder / "step-00000015")
    assert len(set_aside(folder)) == 1
    checkpoint_files.remove_incomplete_checkpoints(folder)
    checkpoint_files.remove_old_checkpoints(folder, 1)
    gone = {"step-00000005", "step-00000015"}
    assert names(folder) == sorted({*before, "damaged-step-00000015"} - gone)


def test_checkpoints_after_more_steps_than_eight_digits_are_the_newest(folder):
    for step in (99_999_990, 100_000_000):
        mark_whole(write(folder, step), manifest_of(step))
    assert checkpoint_files.newest_checkpoint_step(folder) == 100_000_000
    checkpoint_files.remove_old_checkpoints(folder, 1)
    assert names(folder) == ["latest", "step-100000000"]


def test_the_newest_few_stay_and_a_kill_while_others_are_removed_leaves_no_half_ones(folder, monkeypatch):
    removed = []
    monkeypatch.setattr(checkpoint_files.shutil, "rmtree", lambda path, **_: removed.append(path.name))  # killed here
    checkpoint_files.remove_old_checkpoints(folder, 2)
    assert names(folder) == [".step-00000005.removed.tmp", "latest", "step-00000010", "step-00000015"]
    assert set(removed) == {".step-00000005.removed.tmp"}
    monkeypatch.undo()
    checkpoint_files.remove_old_checkpoints(folder, 1)
    assert names(folder) == [".step-00000005.removed.tmp", "latest", "step-00000015"]


def test_a_checkpoint_of_the_same_step_is_replaced(folder):
    checkpoint_folder = write(folder, 15)
    (checkpoint_folder / "more").write_text("1")
    mark_whole(checkpoint_folder, manifest_of(15))
    assert (folder / "step-00000015" / "more").is_file()
    assert names(folder) == ["latest", "step-00000005", "step-00000010", "step-00000015"]


def test_damaged_checkpoints_are_listed_as_removable(folder):
    truncate(folder / "step-00000015")
    set_aside(folder)
    reasons = {
        summary.path.name: (summary.is_removable, summary.reason) for summary in survey_checkpoints(folder.parent)
    }
    assert reasons == {
        "damaged-step-00000015": (True, "it is damaged"),
        "step-00000005": (True, "a newer checkpoint is there"),
        "step-00000010": (False, "the training continues from it"),
    }


def test_the_undamaged_checkpoint_stays_where_newer_ones_have_other_content(folder):
    for step in (10, 15):
        flip_a_bit(folder / f"step-{step:08d}")
    assert {summary.path.name: summary.is_removable for summary in survey_checkpoints(folder.parent)} == {
        "step-00000005": False,
        "step-00000010": True,
        "step-00000015": True,
    }
    remove_checkpoints(folder.parent, removable_checkpoints(folder.parent))
    assert names(folder) == ["latest", "step-00000005"]
    flip_a_bit(folder / "step-00000005")
    assert not any(summary.is_removable for summary in survey_checkpoints(folder.parent))


def test_damaged_checkpoints_of_a_finished_run_are_listed_before_they_are_removed(folder):
    truncate(folder / "step-00000015")
    set_aside(folder)
    (folder.parent / "model").mkdir()
    (folder.parent / "manifest.json").write_text('{"status": "finished"}')
    (folder / "copy").mkdir()  # the user's own
    listed = [summary.path.name for summary in survey_checkpoints(folder.parent) if summary.is_removable]
    assert listed == ["damaged-step-00000015", "step-00000005", "step-00000010"]
    assert [path.name for path in remove_checkpoints(folder.parent, removable_checkpoints(folder.parent))] == listed
    assert names(folder) == ["copy", "latest"]


@pytest.mark.parametrize(
    ("shapes", "difference"),
    [
        ({"w": [2, 3]}, None),
        ({"w": [3, 2]}, "w has shape [2, 3] there and [3, 2] in the model"),
        ({"w": [2, 3], "v": [1]}, "it has no v"),
        ({}, "it has w, which the model has not"),
    ],
)
def test_how_the_parameters_of_a_checkpoint_differ_is_said(shapes, difference):
    assert checkpoint_files.parameter_difference({"w": [2, 3]}, shapes) == difference
