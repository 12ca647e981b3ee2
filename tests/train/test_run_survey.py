"""What stands in the runs below a folder, and which checkpoints nothing needs any more."""

import json
import shutil
import time

import pytest

from orca_bench import files
from orca_bench.cli import run_cleaning
from orca_bench.errors import UserError
from orca_bench.train import checkpoint_files
from orca_bench.train.run_folder import Run, newest_finished_run
from orca_bench.train.run_survey import (
    is_being_trained,
    removable_checkpoints,
    remove_checkpoints,
    survey_checkpoints,
    survey_run,
    survey_runs,
)


def make_run(runs, name, status="interrupted", steps=(5, 10), latest=10, with_model=False, **manifest):
    """A run with a checkpoint at each of `steps`, of which `latest` is the newest whole one."""
    folder = runs / name
    for step in steps:
        (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{step:08d}" / "states.pt").write_bytes(b"1" * 1000)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "latest").write_text(f"step-{latest:08d}")
    (folder / "manifest.json").write_text(json.dumps({"status": status, "orca_bench": "0", "steps": 20} | manifest))
    (folder / "metrics.jsonl").write_text('{"step": 10, "steps": 20}\n{"step": 1')
    if with_model:
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(b"1" * 500)
    return folder


def names(paths):
    return [path.name for path in paths]


def test_status_step_and_sizes_of_a_run(tmp_path):
    run = survey_run(make_run(tmp_path, "r"))
    assert (run.name, run.status, run.step, run.step_count) == ("r", "interrupted", 10, 20)
    assert run.bytes_by_part["checkpoints"] == 2000 + len("step-00000010") and run.model_folder is None
    finished = survey_run(make_run(tmp_path, "f", "finished", with_model=True, finished=5.0))
    assert (finished.status, finished.step, finished.step_count, finished.date) == ("finished", 20, 20, 5.0)
    assert finished.bytes_by_part["model"] == 500 and finished.model_folder == tmp_path / "f" / "model"


def test_folders_without_a_manifest_are_runs_where_they_have_a_model_or_results(tmp_path):
    for name in ("a/model", "b/results", "c/other", ".d/model"):
        (tmp_path / name).mkdir(parents=True)
    assert {run.name: run.status for run in survey_runs(tmp_path)} == {"a": "model", "b": "results"}
    assert survey_runs(tmp_path / "absent") == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"status": 3}', '{"status": "finished", "finished": "x"}'])
def test_a_manifest_that_is_broken_does_not_hide_the_run(tmp_path, text):
    folder = make_run(tmp_path, "r")
    (folder / "manifest.json").write_text(text)
    assert survey_run(folder).name == "r"


def test_a_run_that_another_process_trains_is_training_and_its_checkpoints_stay(tmp_path):
    folder = make_run(tmp_path, "r")
    assert not is_being_trained(folder)
    trainer = Run(folder)
    trainer.lock()
    assert is_being_trained(folder) and survey_run(folder).status == "training"
    with pytest.raises(UserError, match="another process .* trains this run"):
        remove_checkpoints(folder, removable_checkpoints(folder))
    trainer.unlock()
    assert not is_being_trained(folder) and survey_run(folder).status == "interrupted"


def test_an_unfinished_run_keeps_the_checkpoint_that_it_continues_from(tmp_path):
    folder = make_run(tmp_path, "r", steps=(5, 10, 15), latest=10)
    assert names(removable_checkpoints(folder)) == ["step-00000005", "step-00000015"]  # 15 is half-written
    assert names(remove_checkpoints(folder, removable_checkpoints(folder))) == ["step-00000005", "step-00000015"]
    assert names((folder / "checkpoints").glob("step-*")) == ["step-00000010"]
    assert removable_checkpoints(folder) == []


def test_only_what_was_listed_is_removed_and_never_what_the_training_continues_from_by_now(tmp_path):
    folder = make_run(tmp_path, "r", steps=(5, 10, 15), latest=15)
    listed = removable_checkpoints(folder)
    assert names(listed) == ["step-00000005", "step-00000010"]
    shutil.copytree(folder / "checkpoints" / "step-00000005", folder / "checkpoints" / "step-00000002")  # not listed
    shutil.rmtree(folder / "checkpoints" / "step-00000005")
    shutil.rmtree(folder / "checkpoints" / "step-00000015")
    assert remove_checkpoints(folder, listed) == []
    finished = make_run(tmp_path, "f", "finished", with_model=True)
    listed = removable_checkpoints(finished)
    (finished / "manifest.json").write_text('{"status": "interrupted"}')  # it trains again since
    assert names(remove_checkpoints(finished, listed)) == ["step-00000005"]


def test_the_files_of_checkpoints_are_hashed_once(tmp_path, monkeypatch):
    folder = tmp_path / "r"
    for step in (5, 10):
        checkpoint_folder = checkpoint_files.temporary_folder(folder / "checkpoints", step)
        checkpoint_folder.mkdir(parents=True)
        (checkpoint_folder / "states.pt").write_bytes(b"1" * 1000)
        entry = checkpoint_files.FileEntry(bytes=1000, sha256=files.file_sha256(checkpoint_folder / "states.pt"))
        manifest = checkpoint_files.CheckpointManifest(
            step=step, processes=1, parameters={}, files={"states.pt": entry}
        )
        checkpoint_files.mark_whole(checkpoint_folder, manifest)
    (folder / "manifest.json").write_text('{"status": "interrupted"}')
    paths = []
    monkeypatch.setattr(checkpoint_files, "file_sha256", lambda path: paths.append(path) or files.file_sha256(path))
    plan = run_cleaning.plan_cleaning([folder])
    removed_items, removal_errors = run_cleaning.remove(plan)
    assert names(item.path for item in removed_items) == ["step-00000005"] and not removal_errors
    assert paths == [folder / "checkpoints" / "step-00000010" / "states.pt"]


def reasons(folder):
    return {int(checkpoint.path.name[5:]): checkpoint.reason for checkpoint in survey_checkpoints(folder)}


def test_why_a_checkpoint_goes_or_stays(tmp_path):
    folder = make_run(tmp_path, "r", steps=(5, 10, 20), latest=10)
    assert reasons(folder) == {
        5: "a newer checkpoint is there",
        10: "the training continues from it",
        20: "it is not whole",
    }
    (folder / "checkpoints" / "latest").unlink()
    assert set(reasons(folder).values()) == {"no checkpoint is known to be whole"}
    (folder / "checkpoints" / "latest").write_text("step-00000003")  # before the first
    assert set(reasons(folder).values()) == {"no checkpoint is known to be whole"}
    finished = make_run(tmp_path, "f", "finished", with_model=True)
    assert reasons(finished) == {5: "the run is finished", 10: "the run is finished"}


ODD_NUMBERS = ("abc", [1], {}, True, None, float("nan"), float("inf"), 1e300, -1e300, 10**400, 1.5)


@pytest.mark.parametrize("status", ["finished", "interrupted", ["finished"], 3])
@pytest.mark.parametrize("odd", ODD_NUMBERS, ids=lambda odd: str(odd)[:12])
def test_a_manifest_with_an_odd_value_is_a_run_without_that_value(tmp_path, odd, status):
    folder = make_run(tmp_path, "r", status=status, with_model=True, finished=odd, seconds=odd, parameters=odd)
    manifest = json.loads((folder / "manifest.json").read_text()) | {"steps": odd}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": odd, "steps": odd}))
    run = survey_run(folder)
    assert run.step is None and run.step_count is None and isinstance(run.status, str)
    time.localtime(run.date)
    other = make_run(tmp_path, "s", "finished", with_model=True, finished=10.0)
    assert newest_finished_run(tmp_path).folder in (folder, other)


def test_an_unfinished_run_whose_newest_checkpoint_is_not_known_keeps_all(tmp_path):
    folder = make_run(tmp_path, "r")
    (folder / "checkpoints" / "latest").unlink()
    assert removable_checkpoints(folder) == []


def test_a_finished_run_keeps_its_model_and_no_checkpoint(tmp_path):
    folder = make_run(tmp_path, "r", "finished", with_model=True)
    assert len(remove_checkpoints(folder, removable_checkpoints(folder))) == 2
    assert not (folder / "checkpoints").exists() and (folder / "model" / "model.safetensors").is_file()
    without_model = make_run(tmp_path, "s", "finished")
    assert names(removable_checkpoints(without_model)) == ["step-00000005"]


def test_a_broken_manifest_does_not_make_a_checkpoint_removable_that_may_be_needed(tmp_path):
    folder = make_run(tmp_path, "r", with_model=True)
    (folder / "manifest.json").write_text("{")
    assert names(removable_checkpoints(folder)) == ["step-00000005"]
