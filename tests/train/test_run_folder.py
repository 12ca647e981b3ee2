"""A run's folder: one writer at a time, moved aside and never deleted, continued only where its numbers stay the same."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from orca_bench import recipe_file
from orca_bench.child_processes import Lifeline
from orca_bench.errors import UserError
from orca_bench.recipe import MAY_CHANGE_MARK, MAY_SPLIT_MARK, Recipe, Train
from orca_bench.train import divergence
from orca_bench.train import run_folder as run_module
from orca_bench.train.checkpoint_files import CheckpointManifest, newest_checkpoint
from orca_bench.train.run_folder import Run, newest_finished_run
from orca_bench.train.train_recipe import is_recipe_trained

RECIPE = {
    "name": "r",
    "model": {"base": "somewhere", "tokenizer": "tokenizer.model"},
    "data": {"records": ["records.jsonl"]},
}


def recipe(**train) -> Recipe:
    return Recipe.model_validate(RECIPE | {"train": train})


def start(run, new_recipe, show_message=lambda line: None) -> bool:
    """Open a run's folder and write its recipe; whether it is continued."""
    is_continued = run.open_for_training(new_recipe, show_message)
    run.write_recipe(new_recipe, is_continued, show_message)
    return is_continued


@pytest.fixture
def run(tmp_path):
    """A run that was interrupted, with a checkpoint, a result and an answer of an evaluation."""
    run = Run(tmp_path / "runs" / "r")
    start(run, recipe())
    run.update_manifest(
        status="interrupted", orca_bench="0", records=[{"name": "records.jsonl", "rows": 3, "sha256": None}]
    )
    for name in ("checkpoints/step-00000005/x.pt", "results/orca.json", "results/answers.sqlite"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text(name)
    (run.checkpoints_folder / "latest").write_text("step-00000005")
    run._lock.release()
    return Run(run.folder)


@contextmanager
def elsewhere(line: str, **environment):
    """Another process that has run this line, which may use `run`, and still lives."""
    script = f"import sys, pathlib; from orca_bench.train.run_folder import Run; run = Run(pathlib.Path(sys.argv[1])); {line}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            script + "; print('ready', flush=True); sys.stdin.readline()",
            environment.pop("folder"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_writer_is_refused_and_told_who_the_first_is(run):
    with elsewhere("run.lock()", folder=run.folder) as process:
        for write in (run.lock, lambda: run.open_for_training(recipe()), run.move_aside):
            with pytest.raises(UserError, match=rf"another process \({process.pid} on .*\) trains this run"):
                write()
        assert Run(run.folder).status == "interrupted"  # reading is free
    run.lock()  # the lock of a killed process is none
    run.lock()


def test_training_processes_whose_command_was_killed_keep_others_out(run, monkeypatch):
    monkeypatch.setattr(run_module, "_CHILD_EXIT_TIMEOUT_S", 0.3)
    with (
        Lifeline(run.process_purpose) as lifeline,
        elsewhere("pass", folder=run.folder, **lifeline.environment) as process,
        pytest.raises(UserError, match=rf"training processes of an earlier command still run \({process.pid}\)"),
    ):
        Run(run.folder).lock()
    Run(run.folder).open_for_training(recipe())


def test_what_a_link_names_is_one_run(run, tmp_path):
    (tmp_path / "link").symlink_to(run.folder)
    assert Run(tmp_path / "link").process_purpose == run.process_purpose


def test_a_run_moves_aside_with_all_that_is_in_it(run):
    for number in (1, 2):
        aside = run.move_aside()
        assert aside == run.folder.with_name(f"r.old-{number}") and not run.folder.exists()
        assert (aside / "manifest.json").is_file()
        start(run, recipe())
        run.update_manifest(status="failed", orca_bench="0")
        with pytest.raises(UserError, match="another process"):
            Run(run.folder).lock()  # the new folder is locked too
    results = run.folder.with_name("r.old-1") / "results"
    assert {path.name for path in results.iterdir()} == {"orca.json", "answers.sqlite"}


def test_nothing_is_moved_where_there_is_nothing(tmp_path):
    assert Run(tmp_path / "absent").move_aside() is None
    (tmp_path / "empty").mkdir()
    assert Run(tmp_path / "empty").move_aside() is None


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "years of work"},
        {"results/orca.json": "{}"},
        {"manifest.json": '{"name": "of another program"}', "recipe.yaml": "flour: 500 g"},
        {"manifest.json": "[1]"},
        {"manifest.json": "half of {"},
        {"recipe.yaml": "name: [r"},
    ],
)
def test_a_folder_that_is_no_run_is_left_as_it_is(tmp_path, files):
    for name, text in files.items():
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).write_text(text)
    with pytest.raises(UserError, match="is not a run"):
        Run(tmp_path / "r").move_aside()
    assert {str(p.relative_to(tmp_path / "r")): p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("broken", ["recipe.yaml", "manifest.json"])
def test_a_run_with_one_broken_file_is_still_one(run, broken):
    (run.folder / broken).write_text("half of {")
    assert run.move_aside() is not None


def test_keys_that_change_no_number_may_change_and_are_written_down(run):
    changed = recipe(checkpoint_every=7, export_every=3, max_loss=50.0)
    assert run.has_recipe(changed) and start(run, changed)
    assert recipe_file.read_recipe_file(run.recipe_file) == changed


def test_every_other_key_has_to_stay_and_a_new_key_does_so_by_itself(run):
    free = {name for name, field in Train.model_fields.items() if MAY_CHANGE_MARK in field.metadata}
    exports = {"export_every", "export_dtype", "export_shard_gb"}
    watching = {"held_out_every", "keep_best", "spike_factor", "trackers", "max_loss"}
    assert free == {"checkpoint_every", "keep_checkpoints"} | watching | exports
    others = {
        "epochs": 9, "max_steps": 9, "global_batch": 9, "packing": "none", "lr": 9.0,
        "betas": [0.1, 0.2], "eps": 9.0, "weight_decay": 9.0, "grad_clip": 9.0, "warmup_ratio": 0.9,
        "warmup_min_steps": 9, "warmup": "linear", "precision": "fp32", "zero_stage": 1, "offload": "cpu",
        "gradient_checkpointing": False, "seed": 9, "lora": {"rank": 4, "alpha": 8.0},
    }  # fmt: skip
    split = {name for name, field in Train.model_fields.items() if MAY_SPLIT_MARK in field.metadata}
    assert split == {"micro_batch", "accumulation", "processes"}
    assert set(others) | free | split == set(Train.model_fields), "a new key: decide whether it may change"
    for key, value in others.items():
        with pytest.raises(UserError, match=rf"holds a run of another recipe \(train.{key}(\.\w+)? was"):
            run.check_same_recipe(recipe(**{key: value}))
    other_model = Recipe.model_validate(RECIPE | {"model": {"base": "elsewhere"}})
    with pytest.raises(UserError, match=r"model.base was 'somewhere', now 'elsewhere'"):
        run.open_for_training(other_model)
    with pytest.raises(UserError, match=r"data.max_length was 1024, now 512"):
        run.check_same_recipe(
            Recipe.model_validate(RECIPE | {"data": {"records": ["records.jsonl"], "max_length": 512}})
        )


def test_the_same_batch_may_be_split_otherwise_and_a_message_says_so_once(run):
    other_split, messages = recipe(processes=2, micro_batch=4, accumulation=2), []
    assert run.has_recipe(other_split) and start(run, other_split, messages.append)
    assert messages == [
        "the work is split otherwise from here on (train.micro_batch was 2, now 4; train.accumulation was 1, now 2; "
        "train.processes was 8, now 2): the same to rounding"
    ]
    assert start(run, other_split, messages.append) and len(messages) == 1
    changes = ["train.micro_batch was 2, now 4", "train.accumulation was 1, now 2", "train.processes was 8, now 2"]
    assert run.manifest["splits"] == [{"step": 5, "changes": changes}]
    assert recipe_file.read_recipe_file(run.recipe_file) == other_split


def kill(*arguments):
    raise KeyboardInterrupt


def test_a_split_is_recorded_once_where_a_command_was_killed_before_it_wrote_the_recipe(run, monkeypatch):
    other_split = recipe(processes=2, micro_batch=4, accumulation=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "write_text", kill)
        start(run, other_split)
    assert start(run, other_split) and len(run.manifest["splits"]) == 1
    assert start(run, recipe()) and start(run, other_split)  # there and back
    assert [len(entry["changes"]) for entry in run.manifest["splits"]] == [3, 3, 3]


def test_a_run_without_a_manifest_goes_on_from_its_checkpoint(run):
    run.manifest_file.unlink()
    assert run.status == "new" and run.open_for_training(recipe())


def test_a_damaged_checkpoint_is_named_before_a_run_goes_on(run):
    newest = run.checkpoints_folder / "step-00000010"
    newest.mkdir()
    (newest / "manifest.json").write_text("{")
    whole_manifest = CheckpointManifest(step=5, processes=2, parameters={}, files={})
    (run.checkpoints_folder / "step-00000005" / "manifest.json").write_text(whole_manifest.model_dump_json())
    messages = []
    assert run.open_for_training(recipe(), messages.append)
    assert messages == [
        f"{newest} is damaged (its manifest.json cannot be read): it is now damaged-step-00000010, and training goes on from "
        "step-00000005"
    ]


def test_a_run_is_identified_by_its_whole_recipe_whatever_file_gave_the_keys(run, tmp_path):
    (tmp_path / "base.yaml").write_text(recipe(lr=0.5).to_yaml(), encoding="utf-8")
    lr = recipe().train.lr
    (tmp_path / "same.yaml").write_text(f"extends: base.yaml\ntrain: {{lr: {lr}}}\n", encoding="utf-8")
    same, other = (recipe_file.read_recipe_file(tmp_path / name) for name in ("same.yaml", "base.yaml"))
    assert run.has_recipe(same) and start(run, same)
    assert "extends" not in run.recipe_file.read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"another recipe \(train.lr was"):
        run.check_same_recipe(other)


def test_what_a_killed_process_left_half_written_is_cleared(run):
    for folder in (
        run.folder / ".model.123.tmp",
        run.exports_folder / ".step-5.123.tmp",
        run.exports_folder / "step-4",
    ):
        folder.mkdir(parents=True)
    (run.folder / ".tokens.npz.123.tmp").write_bytes(b"half")
    (run.checkpoints_folder / "step-00000010").mkdir()  # `latest` says step 5
    run.open_for_training(recipe())
    assert [path.name for path in run.checkpoints_folder.glob("step-*")] == ["step-00000005"]
    assert not [path for path in run.folder.rglob("*.tmp")]
    assert (run.exports_folder / "step-4").is_dir()


def test_the_newest_whole_checkpoint_is_the_one_that_latest_names(run):
    (run.checkpoints_folder / "step-00000010").mkdir()  # a save that was killed
    assert newest_checkpoint(run.checkpoints_folder).name == "step-00000005"
    (run.checkpoints_folder / "latest").write_text("step-00000010")
    assert newest_checkpoint(run.checkpoints_folder).name == "step-00000010"
    (run.checkpoints_folder / "step-00000010").rmdir()  # by a user, because it is broken
    assert newest_checkpoint(run.checkpoints_folder).name == "step-00000005"
    (run.checkpoints_folder / "latest").unlink()
    assert newest_checkpoint(run.checkpoints_folder) is None
    messages = []
    assert not run.open_for_training(recipe(), messages.append)  # nothing to continue from
    assert len(messages) == 1 and (run.checkpoints_folder / "damaged-step-00000005").is_dir()


REPORT = divergence.DivergenceReport("the loss is 120", 7, 120.0, 3.5, 2e-3, [5, 0, 3, 2], exceeded=True)


def test_a_run_that_diverged_says_so_and_goes_on_only_where_its_loss_is_allowed_now(run):
    run.update_manifest(status="diverged", diverged=REPORT.entry())
    with pytest.raises(
        UserError, match=r"this run diverged at step 7 \(the loss is 120\) and would again; lower train.lr"
    ):
        run.open_for_training(recipe())
    with pytest.raises(UserError, match=r"another recipe \(train.lr was"):
        run.open_for_training(recipe(lr=1e-6))
    assert run.open_for_training(recipe(max_loss=150.0))
    for loss, exceeded in ((None, False), (6.0, False)):
        run.update_manifest(diverged=REPORT.entry() | {"loss": loss, "exceeded": exceeded})
        with pytest.raises(UserError, match="diverged"):
            run.check_same_recipe(recipe(max_loss=150.0))


def test_a_diverged_run_is_never_the_newest_finished(run):
    run.model.mkdir()
    for status in ("diverged", "failed", "interrupted", "prepared"):
        run.update_manifest(status=status, finished=None)
        assert newest_finished_run(run.folder.parent) is None
    run.update_manifest(status="finished", finished=1.0)
    assert newest_finished_run(run.folder.parent).folder == run.folder


@pytest.mark.parametrize("manifest_text", ['{"status": "fini', "[]", '"finished"', ""])
def test_a_broken_manifest_stops_its_own_run_and_no_other(run, manifest_text):
    run.model.mkdir()
    run.update_manifest(status="finished", finished=1.0)
    broken_run = Run(run.folder.parent / "broken")
    broken_run.model.mkdir(parents=True)
    broken_run.manifest_file.write_text(manifest_text)
    assert newest_finished_run(run.folder.parent).folder == run.folder
    assert broken_run.readable_manifest == {}
    with pytest.raises(UserError, match=r"broken/manifest\.json: not a JSON"):
        is_recipe_trained(broken_run, recipe())
    with pytest.raises(UserError, match="is not a run"):
        broken_run.check_is_run()


def test_a_divergence_is_told_with_step_records_rates_and_checkpoint():
    sources = [{"name": "a.jsonl", "rows": 3}, {"name": "b.jsonl", "rows": 9}]
    line = divergence.divergence_message(REPORT, sources, "runs/r/checkpoints/step-00000005")
    assert line == (
        "diverged at step 7: the loss is 120 (gradient norm 3.5, learning rate 0.002); its batch was records 1, 3 of "
        "a.jsonl, records 1, 3 of b.jsonl; the newest checkpoint, runs/r/checkpoints/step-00000005, is from before"
    )
    assert divergence.record_locations(list(range(12)), sources).endswith(
        "records 1, 2, 3, 4, 5 of b.jsonl and 4 more (all in manifest.json)"
    )
    assert "there is no checkpoint" in divergence.divergence_message(REPORT, sources, None)


@pytest.mark.parametrize(
    ("loss", "norm", "train", "message"),
    [
        (10.4, 1.0, {}, None),
        (10.4, None, {}, None),
        (99.9, 1e9, {}, None),
        (100.1, 1.0, {}, "the loss is 100.1, more than train.max_loss 100"),
        (10.4, 1.0, {"max_loss": 8.0}, "the loss is 10.4, more than train.max_loss 8"),
        (float("inf"), 1.0, {}, "the loss is inf"),
        (float("nan"), 1.0, {"precision": "fp16"}, "the loss is nan"),
        (10.4, float("inf"), {}, "the gradient norm is inf"),
        (10.4, float("nan"), {"precision": "fp32"}, "the gradient norm is nan"),
        (10.4, float("inf"), {"precision": "fp16"}, None),  # a step that DeepSpeed leaves out to find its loss scale
    ],
)
def test_what_is_a_divergence(loss, norm, train, message):
    assert divergence.step_problem(loss, norm, recipe(**train).train) == message


def test_weights_beyond_all_use_are_a_divergence_whatever_their_loss():
    assert divergence.weights_problem(900.0) is None
    assert "5e+29" in divergence.weights_problem(5e29)
    assert "inf" in divergence.weights_problem(float("inf"))
