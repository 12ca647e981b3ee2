"""Work shared by processes: every item once, nobody idle at the end, errors and deaths survived."""

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import psutil
import pytest
from torch.distributed import TCPStore
from waiting import PATIENCE_S, eventually

from orca_bench.errors import NotFinite, OutOfTime, UserError
from orca_bench.evaluate.answers import work_sharing
from orca_bench.evaluate.answers.work_sharing import Helper, StoreConnection, WorkerPool
from orca_bench.models.model_folder import ModelFolder


class Squares:
    """Work whose items are squared, each by `compute`; what happens to each is noted."""

    def __init__(self, count, cached=(), broken=None, compute=None):
        self.count, self.cache, self.broken = count, dict(cached), broken
        self.compute_item = compute or square
        self.computed, self.saved, self.received = [], {}, []

    def __len__(self):
        return self.count

    def cached(self, number):
        return self.cache.get(number)

    def work_item(self, number):
        return [number, number == self.broken]

    def compute(self, number):
        self.computed.append(number)
        try:
            return self.compute_item(self.work_item(number))
        except UserError as error:
            raise self.name_error(number, error) from None

    def save(self, number, answers):
        self.saved[number] = answers

    def receive(self, number, answers):
        self.received.append(number)
        self.save(number, answers)

    def name_error(self, number, error):
        return UserError(f"item {number}: {error.problem}", hint=error.hint)


def square(item):
    number, broken = item
    if broken:
        raise UserError("cannot", hint="mend it")
    return [number * number]


def slow_square(item):
    time.sleep(0.02)
    return square(item)


def helper(compute=square):
    """A helper in a thread, at the other end of a pipe."""
    here, there = multiprocessing.Pipe()
    threading.Thread(target=work_sharing.answer_work_items, args=(there, compute), daemon=True).start()
    return Helper(here)


def squares(count):
    return [[n * n] for n in range(count)]


def test_every_item_is_computed_once_and_the_first_process_has_all_answers():
    both = threading.Barrier(3)

    def compute(item):
        if item[0] < 3:  # the three each have one of these, and wait for one another
            both.wait(PATIENCE_S)
        return square(item)

    pool = WorkerPool([helper(compute), helper(compute)])
    for _ in range(2):  # a second round begins anew
        work = Squares(21, compute=compute)
        assert pool.share(work) == WorkerPool().share(Squares(21)) == squares(21)
        assert sorted(work.computed + work.received) == list(range(21)) and work.computed and work.received
        assert work.saved == {n: [n * n] for n in range(21)}


def test_a_process_with_a_long_item_is_not_given_another():
    others, all_others = [], threading.Event()

    def compute(item):
        if item[0] == 0:
            assert all_others.wait(PATIENCE_S)
        else:
            others.append(item[0])
            if len(others) == 12:
                all_others.set()
        return square(item)

    work = Squares(13, compute=compute)
    assert WorkerPool([helper(compute)]).share(work) == squares(13)
    assert (work.computed if 0 in work.computed else work.received) == [0]


def test_what_an_earlier_run_cached_is_not_computed():
    work = Squares(8, cached={n: [n * n] for n in range(5)})
    assert WorkerPool([helper()]).share(work) == squares(8)
    assert sorted(work.computed + work.received) == [5, 6, 7]
    cached_work = Squares(3, cached={n: [n] for n in range(3)})
    assert (
        WorkerPool([helper()]).share(cached_work) == [[0], [1], [2]] and not cached_work.computed + cached_work.received
    )


@pytest.mark.parametrize("broken", range(4))
def test_what_cannot_be_computed_is_raised_in_the_first_process_with_its_item(broken):
    with pytest.raises(UserError, match=f"item {broken}: cannot; mend it"):
        WorkerPool([helper(slow_square)]).share(Squares(6, broken=broken, compute=slow_square))


def test_a_request_that_is_not_finite_keeps_its_number_on_the_way():
    def compute(item):
        raise NotFinite(7, float("nan"))

    here, there = multiprocessing.Pipe()
    threading.Thread(target=work_sharing.answer_work_items, args=(there, compute), daemon=True).start()
    here.send([1])
    error = work_sharing._error_from_fields(here.recv()["error"])
    assert isinstance(error, NotFinite) and error.request_number == 7


def test_a_helper_that_fails_otherwise_is_reported_and_its_share_is_done_by_the_others():
    failure = threading.Event()

    def fail(item):
        failure.set()
        raise ValueError("a device is lost")

    def compute(item):
        assert failure.wait(PATIENCE_S)
        return square(item)

    pool = WorkerPool([helper(fail), helper(compute)])
    lines = []
    pool.show_message = lines.append
    assert pool.share(Squares(8, compute=compute)) == squares(8)
    assert lines == ["a helper process failed (ValueError: a device is lost); the others do its share"]
    assert len(pool.helpers) == 1 and pool.share(Squares(3)) == squares(3)


def die(connection, code):
    connection.recv()
    os.kill(os.getpid(), -code) if code < 0 else os._exit(code)


@pytest.mark.parametrize(("code", "ending"), [(9, "ended with exit code 9"), (-9, "was ended by signal 9")])
def test_the_share_of_a_helper_that_died_is_done_by_the_others(code, ending):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=die, args=(there, code))
    process.start()
    there.close()

    death = threading.Event()

    def compute_later(item):
        assert death.wait(PATIENCE_S)  # so that there is an item left for the one that dies
        return square(item)

    def compute(item):
        process.join(PATIENCE_S)
        death.set()
        return square(item)

    pool = WorkerPool([Helper(here, process), helper(compute_later)])
    lines = []
    pool.show_message = lines.append
    assert pool.share(Squares(12, compute=compute)) == squares(12)
    assert lines == [f"a helper process {ending}; the others do its share"]


def test_out_of_time_what_was_begun_is_saved_and_each_command_computes_something():
    pool, work = WorkerPool([helper(slow_square)]), Squares(400, compute=slow_square)
    pool.is_expired = lambda: len(work.computed) > 3
    with pytest.raises(OutOfTime):
        pool.share(work)
    items = work.computed + work.received
    assert 0 < len(items) < 400 and sorted(work.saved) == sorted(items)
    alone, work = WorkerPool(), Squares(3)
    alone.is_expired = lambda: True
    with pytest.raises(OutOfTime):
        alone.share(work)
    assert work.computed == [0]
    pool.is_expired = lambda: True
    for later in (alone, pool):  # as for the next task, even if it has a single item
        work = Squares(1)
        with pytest.raises(OutOfTime):
            later.share(work)
        assert work.computed == []
    assert alone.share(Squares(0)) == []


def test_a_launchers_store_carries_items_and_answers_and_ends_with_its_process():
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    other = TCPStore("127.0.0.1", store.port, 2, is_master=False)
    here, there = StoreConnection(store, "1/pieces", "1/answers"), StoreConnection(other, "1/answers", "1/pieces")
    thread = threading.Thread(target=work_sharing.answer_work_items, args=(there, square))
    thread.start()
    assert WorkerPool([Helper(here)]).share(Squares(6, compute=slow_square)) == squares(6)
    here.send(None)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def folder_command(tmp_path_factory, command_in):
    return command_in(tmp_path_factory.mktemp("shared_work"))


def words(tiny_model, mini, out, *more):
    return ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--out", out, *more]


def answers(path):
    lines = path.with_suffix(".questions.jsonl").read_text().splitlines()
    return [answer for line in map(json.loads, lines) for answer in line["answers"]]


def test_processes_and_torchrun_give_the_answers_of_one_process(folder_command, tiny_model, mini):
    tasks = ["--tasks", "arc_challenge,drop", "--limit", 50]  # ARC's 50 questions are two portions
    alone = folder_command(*words(tiny_model, mini, "one/r.json", *tasks))
    assert alone.returncode == 0, alone.stderr
    two = folder_command(*words(tiny_model, mini, "two/r.json", *tasks, "--processes", 2))
    assert two.returncode == 0, two.stderr
    assert "ended with exit code" not in two.stderr and "Traceback" not in two.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.run(
        [*torchrun, "-m", "orca_bench", *map(str, words(tiny_model, mini, "run/r.json", *tasks))],
        cwd=folder_command.folder,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("ARC-Challenge") == alone.stdout.count("ARC-Challenge")
    expected = answers(folder_command.folder / "one" / "r.json")
    for folder in ("two", "run"):
        for mine, theirs in zip(answers(folder_command.folder / folder / "r.json"), expected, strict=True):
            assert mine == theirs if isinstance(mine, str) else mine == pytest.approx(theirs, abs=1e-4)


def test_options_that_do_not_go_together_are_refused(folder_command, tiny_model, mini):
    eval_ = words(tiny_model, mini, "no/r.json")
    assert "give 1 or more" in folder_command.refused(*eval_, "--processes", 0)
    assert "run by one process" in folder_command.refused(*eval_, "--device-map", "auto", "--processes", 2)
    assert "not an option of --engine hf" in folder_command.refused(*eval_, "--base-url", "http://x/v1")
    assert "needs a server" in folder_command.refused(*eval_, "--engine", "api")


def test_a_model_that_is_spread_and_offloaded_gives_its_own_answers(tiny_model, tmp_path):
    """Accelerate's hooks bring each layer from disk: the same log-probabilities, texts and weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from orca_bench.evaluate.engine import tree_engine
    from orca_bench.evaluate.request_encoding import ScoredSequence
    from orca_bench.models import model_identity

    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "disk"}
    places |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    spread = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation="sdpa", device_map=places, offload_folder=tmp_path
    )
    engine, whole = tree_engine.TreeEngine(spread), tree_engine.load_engine(ModelFolder(str(tiny_model)))
    assert engine.check_tree() < 1e-4
    assert model_identity.weights_sha256(spread) == model_identity.weights_sha256(whole.model)
    sequences = [ScoredSequence([1, 5, 9, n], 2) for n in range(10, 20)]
    for mine, theirs in zip(engine.log_likelihoods(sequences), whole.log_likelihoods(sequences), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    prompts = [[1, 5], [1, 7, 9]]
    assert engine.generate_ids(prompts, lambda n, ids: False, 5) == whole.generate_ids(prompts, lambda n, ids: False, 5)


def test_device_map_auto_is_taken_by_the_command(folder_command, tiny_model, mini):
    process = folder_command(
        *words(tiny_model, mini, "map/r.json", "--tasks", "truthful_qa", "--limit", 5, "--device-map", "auto")
    )
    assert process.returncode == 0, process.stderr


def helpers_of(parent):
    """The helper processes that a process has started so far."""
    helpers = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                helpers.append(child)
    return helpers


def cached_portions(folder):
    try:
        database = sqlite3.connect(f"file:{folder}/answers.sqlite?mode=ro", uri=True)
        return database.execute("SELECT count(*) FROM portions").fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGINT]
)
def test_helpers_open_no_port_and_end_with_the_first_process_whatever_ends_it(folder_command, tiny_model, mini, number):
    process = folder_command.start(*words(tiny_model, mini, f"end-{number}/r.json", "--processes", 2, "--limit", 200))
    eventually(
        lambda: cached_portions(folder_command.folder / f"end-{number}") or process.poll() is not None
    )  # it is at work
    assert process.poll() is None, process.communicate()
    helpers = helpers_of(process.pid)
    ports = [c for p in [psutil.Process(process.pid), *helpers] for c in p.net_connections() if c.status == "LISTEN"]
    assert helpers and not ports
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(helpers, timeout=PATIENCE_S)
    assert not alive


def test_a_launcher_without_an_address_is_one_line(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(UserError, match="cannot reach the other processes of the launcher"),
        work_sharing.launched_workers(),
    ):
        pass
