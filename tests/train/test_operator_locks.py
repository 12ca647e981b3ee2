"""A training that was killed while DeepSpeed compiled does not keep the next one waiting for ever."""

import os
import subprocess
import sys

import pytest
from waiting import PATIENCE_S

from orca_bench.train import operator_locks
from orca_bench.train.operator_locks import extensions_folder, remove_abandoned_locks


def locked(tmp_path, name="deepspeed_shm_comm"):
    lock = tmp_path / "py311_cpu" / name / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    return lock


def test_a_lock_that_nobody_uses_is_removed(tmp_path):
    locks = [locked(tmp_path, "cpu_adam"), locked(tmp_path)]
    assert sorted(remove_abandoned_locks(tmp_path, 0)) == locks and not any(lock.exists() for lock in locks)
    assert remove_abandoned_locks(tmp_path / "absent", 0) == []


def test_a_lock_in_whose_folder_a_compiler_runs_stays(tmp_path):
    lock = locked(tmp_path)
    compiler = subprocess.Popen([sys.executable, "-c", "input()"], cwd=lock.parent, stdin=subprocess.PIPE)
    try:
        assert remove_abandoned_locks(tmp_path, 0) == [] and lock.exists()
    finally:
        compiler.communicate(b"\n", timeout=PATIENCE_S)
    assert remove_abandoned_locks(tmp_path, 0) == [lock]


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_lock_that_its_owner_removes_is_no_longer_waited_for(tmp_path, monkeypatch, is_made_again):
    lock = locked(tmp_path)

    def owner_removes(_folder):
        lock.unlink()
        if is_made_again:
            lock.touch()
            os.utime(lock, (1, 1))
        return False

    monkeypatch.setattr(operator_locks, "_is_in_use", owner_removes)  # called after the lock was looked at
    assert remove_abandoned_locks(tmp_path, 10_000) == [] and lock.exists() == is_made_again


@pytest.mark.long
def test_a_training_removes_the_lock_of_a_killed_one_and_compiles_anew(tmp_path, mini, command):
    folder = tmp_path / "extensions"
    lock = folder / "cpu_adam" / "lock"  # as torch leaves it where its process is killed while it compiles
    lock.parent.mkdir(parents=True)
    lock.touch()
    words = ["train", "mini", "-o", "train.max_steps=1", "-o", "train.offload=cpu", "--runs", "runs"]
    process = command.process(*words, env={"TORCH_EXTENSIONS_DIR": str(folder)})
    assert process.returncode == 0, process.stdout + process.stderr
    assert not lock.exists() and list(folder.glob("*/*.so"))


def test_the_folder_is_that_of_torch(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert extensions_folder() == tmp_path
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    assert extensions_folder().name == "torch_extensions"
