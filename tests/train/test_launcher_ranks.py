"""Processes of a launcher, as threads, that meet, see whether they share the folder of runs, and pass on how they end."""

import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from orca_bench import launcher_environment
from orca_bench.child_processes import find_free_port
from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.train import launcher_ranks, process_comparison
from orca_bench.train.launcher_ranks import LaunchedRanks, join_ranks
from orca_bench.train.run_folder import Run

RECIPE = Recipe.model_validate({"name": "r", "model": {"base": "somewhere"}, "data": {"records": ["records.jsonl"]}})


@pytest.fixture
def join(monkeypatch):
    """`join(runs, work)`: each thread joins with its run and does `work(rank, ranks)`; what each rank raised."""
    this_thread, store = threading.local(), HashStore()
    monkeypatch.setattr(launcher_environment, "rank", lambda: this_thread.rank)
    monkeypatch.setattr(launcher_environment, "local_rank", lambda: 0)  # each on a machine of its own
    monkeypatch.setattr(launcher_environment, "open_store", lambda *_, **__: store)
    monkeypatch.setattr(launcher_ranks, "_FILES_TIMEOUT_S", 0.5)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")

    def start(runs, work=lambda rank, ranks: None):
        monkeypatch.setenv("WORLD_SIZE", str(len(runs)))
        errors = [None] * len(runs)

        def take_part(rank):
            this_thread.rank = rank
            try:
                with join_ranks(runs[rank], RECIPE, print) as ranks:
                    work(rank, ranks)
            except (Exception, KeyboardInterrupt) as error:
                errors[rank] = error

        threads = [threading.Thread(target=take_part, args=(rank,)) for rank in range(len(runs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

    return start


def test_the_others_get_the_run_when_the_first_has_prepared_it(join, tmp_path):
    run, seen_names = Run(tmp_path / "runs" / "r"), []

    def work(rank, ranks):
        if rank == 0:
            run.folder.mkdir()
            run.update_manifest(name="r")
            ranks.announce_prepared_run(run)
        else:
            ranks.wait_for_prepared_run(run)
            seen_names.append(run.manifest["name"])

    assert join([run] * 3, work) == [None] * 3
    assert seen_names == ["r", "r"]
    assert [path.name for path in run.folder.parent.iterdir()] == ["r"]  # nothing of the check is left


def test_a_machine_that_does_not_share_the_folder_of_runs_ends_all_at_the_start(join, tmp_path):
    run, other = Run(tmp_path / "runs" / "r"), Run(tmp_path / "another disk" / "r")
    first_error, other_error = join([run, other], lambda rank, ranks: pytest.fail("they share no folder"))
    assert "does not see there what the launcher's first process has written" in str(other_error)
    assert str(first_error).startswith("rank 1 on ") and str(other_error) in str(first_error)
    assert "--runs" in str(first_error) and isinstance(first_error, UserError)
    assert not list(run.folder.parent.iterdir())


def test_an_error_before_the_run_is_prepared_is_that_of_all(join, tmp_path):
    def work(rank, ranks):
        if rank == 0:
            raise UserError("no such records", where="data.records")
        raise ranks.watch.wait_for_failure(60).error()

    first_error, *other_errors = join([Run(tmp_path / "runs" / "r")] * 3, work)
    assert str(first_error) == "data.records: no such records"
    for error in other_errors:
        assert str(error).startswith("rank 0 on ") and str(error).endswith(": data.records: no such records")


def test_ctrl_c_at_one_machine_ends_the_others(join, tmp_path):
    def work(rank, ranks):
        if rank == 0:
            raise KeyboardInterrupt
        raise ranks.watch.wait_for_failure(60).error()

    errors = join([Run(tmp_path / "runs" / "r")] * 2, work)
    assert isinstance(errors[0], KeyboardInterrupt) and str(errors[1]).endswith(": interrupted")


@pytest.mark.parametrize("consequence", [KeyboardInterrupt(), RuntimeError("Connection reset by peer")])
def test_a_process_that_is_ended_because_of_another_one_names_that_one(join, tmp_path, consequence):
    """As where torchrun ends a process by SIGTERM, or the store of another machine is gone."""

    def work(rank, ranks):
        raise consequence if rank == 0 else UserError("the disk is full")

    first_error, other_error = join([Run(tmp_path / "runs" / "r")] * 2, work)
    assert str(first_error).startswith("rank 1 on ") and str(first_error).endswith(": the disk is full")
    assert str(other_error) == "the disk is full"


def test_a_machine_that_does_not_answer_whether_it_sees_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher_ranks, "_FILES_TIMEOUT_S", 0.2)
    with pytest.raises(UserError, match="rank 1 has not answered whether it sees what is written there"):
        launcher_ranks._check_shared_folder(HashStore(), 0, 2, UnbrokenWatch(), Run(tmp_path / "runs" / "r"))


#: The first rank, whose training hangs after another one was lost: its arguments are the run's folder.
ENDED_PROCESS = """
import sys, pathlib
from orca_bench.train import launcher_ranks
from orca_bench.train.peer_watch import Failure
from orca_bench.train.run_folder import Run
launcher_ranks._end_process(Run(pathlib.Path(sys.argv[1])), Failure("rank 1 on node-1 was lost"))
"""


def test_a_process_whose_training_hangs_says_in_the_manifest_that_it_failed(tmp_path):
    run = Run(tmp_path / "r")
    run.folder.mkdir()
    run.update_manifest(status="prepared")
    words = [sys.executable, "-c", ENDED_PROCESS, str(run.folder)]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 1 and process.stderr == "failed: rank 1 on node-1 was lost\n"
    assert run.status == "failed"


class UnbrokenWatch:
    """A watch of processes of which none is lost."""

    def wait_for_failure(self, timeout_s):
        time.sleep(timeout_s / 10)


def test_a_run_that_another_machine_sees_as_it_was_before_is_refused_in_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher_ranks, "_PREPARATION_TIMEOUT", timedelta(seconds=0.3))
    monkeypatch.setattr(launcher_ranks, "_FILES_TIMEOUT_S", 0.3)

    ranks, run, stale = LaunchedRanks(HashStore(), UnbrokenWatch()), Run(tmp_path / "r"), Run(tmp_path / "stale")
    with pytest.raises(UserError, match="the launcher's first process has ended"):
        ranks.wait_for_prepared_run(run)
    for each, status in ((run, "prepared"), (stale, "finished")):
        each.folder.mkdir()
        each.update_manifest(status=status)
    ranks.announce_prepared_run(run)
    ranks.wait_for_prepared_run(run)
    for other in (Run(tmp_path / "another disk" / "r"), stale):
        with pytest.raises(UserError, match="does not see there what the launcher's first process has written.*--runs"):
            ranks.wait_for_prepared_run(other)


def test_a_first_process_that_cannot_be_reached_is_one_line(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    port = find_free_port()
    monkeypatch.setenv("MASTER_PORT", str(port))
    with pytest.raises(UserError, match=f"MASTER_ADDR 127.0.0.1:{port}: cannot reach the other processes"):
        launcher_environment.open_store(timedelta(seconds=1), waits_for_all=False)


def test_a_rank_that_never_comes_is_named_by_the_store_of_the_first(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(find_free_port()))
    store = launcher_environment.open_store(timedelta(seconds=5), waits_for_all=False)
    with pytest.raises(UserError, match="rank 1 of 2 did not come within 1 s"):
        process_comparison.check_same_in_all(store, 0, 2, "node-0", {}, timedelta(seconds=1), print)
