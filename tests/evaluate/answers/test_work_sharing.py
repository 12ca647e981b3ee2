"""Work handed out over processes: every piece once, nobody idle at the end, errors and deaths survived."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from torch.distributed import TCPStore

from orca_bench.errors import NotFinite, OutOfTime, UserError
from orca_bench.evaluate.answers import work_sharing
from orca_bench.evaluate.answers.work_sharing import Helper, Mailbox, WorkerPool


class Pieces:
    """Squares, each of which takes its time."""

    def __init__(self, seconds, kept=(), broken=None):
        self.seconds, self.known, self.broken = seconds, dict(kept), broken
        self.computed, self.written, self.received = [], {}, []

    def __len__(self):
        return len(self.seconds)

    def cached(self, number):
        return self.known.get(number)

    def work_item(self, number):
        return [number, self.seconds[number], number == self.broken]

    def compute(self, number):
        self.computed.append(number)
        try:
            return square(self.work_item(number))
        except UserError as error:
            raise self.name_error(number, error) from None

    def save(self, number, answers):
        self.written[number] = answers

    def receive(self, number, answers):
        self.received.append(number)
        self.save(number, answers)

    def name_error(self, number, error):
        return UserError(f"piece {number}: {error.what}", hint=error.hint)


def square(piece):
    number, seconds, broken = piece
    if broken:
        raise UserError("cannot", hint="mend it")
    time.sleep(seconds)
    return [number * number]


def member(compute=square):
    """A helper in a thread, at the other end of a pipe."""
    ours, theirs = multiprocessing.Pipe()
    threading.Thread(target=work_sharing.answer, args=(theirs, compute), daemon=True).start()
    return Helper(ours)


def team(size):
    return WorkerPool([member() for _ in range(size - 1)])


def test_every_piece_is_done_once_and_the_first_has_all_answers():
    first = team(3)
    for _ in range(2):  # a second round begins anew
        work = Pieces([0.02] * 21)
        assert first.share(work) == WorkerPool().share(Pieces([0] * 21)) == [[n * n] for n in range(21)]
        assert sorted(work.computed + work.received) == list(range(21)) and work.computed and work.received
        assert work.written == {n: [n * n] for n in range(21)}


def test_one_who_has_a_long_piece_is_not_given_another():
    work = Pieces([0.5] + [0.02] * 12)
    team(2).share(work)
    assert len(work.computed if 0 in work.computed else work.received) <= 3


def test_what_an_earlier_run_kept_is_not_handed_out():
    work = Pieces([0.01] * 8, kept={n: [n * n] for n in range(5)})
    assert team(2).share(work) == [[n * n] for n in range(8)]
    assert sorted(work.computed + work.received) == [5, 6, 7]
    done = Pieces([0] * 3, kept={n: [n] for n in range(3)})
    assert team(2).share(done) == [[0], [1], [2]] and not done.computed + done.received


@pytest.mark.parametrize("broken", range(4))
def test_what_cannot_be_computed_is_raised_in_the_first_with_its_piece(broken):
    with pytest.raises(UserError, match=f"piece {broken}: cannot; mend it"):
        team(2).share(Pieces([0.1] + [0.01] * 5, broken=broken))


def test_a_request_that_is_not_finite_keeps_its_number_on_the_way():
    def compute(piece):
        raise NotFinite(7, float("nan"))

    ours, theirs = multiprocessing.Pipe()
    threading.Thread(target=work_sharing.answer, args=(theirs, compute), daemon=True).start()
    ours.send([1])
    error = work_sharing._read_error(ours.recv()["error"])
    assert isinstance(error, NotFinite) and error.number == 7


def test_a_helper_that_fails_otherwise_is_said_to_and_its_share_is_done_by_the_others():
    def compute(piece):
        raise ValueError("a device is lost")

    first = WorkerPool([member(compute), member()])
    lines, work = [], Pieces([0.05] * 8)
    first.say = lines.append
    assert first.share(work) == [[n * n] for n in range(8)]
    assert lines == ["a helper process failed (ValueError: a device is lost); the others do its share"]
    assert len(first.helpers) == 1 and first.share(Pieces([0] * 3)) == [[0], [1], [4]]


def die(connection, code):
    connection.recv()
    os.kill(os.getpid(), -code) if code < 0 else os._exit(code)


@pytest.mark.parametrize(("code", "ending"), [(9, "ended with exit code 9"), (-9, "was ended by signal 9")])
def test_the_share_of_a_helper_that_died_is_done_by_the_others(code, ending):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=die, args=(theirs, code))
    process.start()
    theirs.close()
    first = WorkerPool([Helper(ours, process), member()])
    lines = []
    first.say = lines.append
    assert first.share(Pieces([0.3] * 12)) == [[n * n] for n in range(12)]
    assert lines == [f"a helper process {ending}; the others do its share"]


def test_out_of_time_what_was_begun_is_kept_and_each_command_computes_something():
    first, work = team(2), Pieces([0.05] * 40)
    over = time.monotonic() + 0.2
    first.expired = lambda: time.monotonic() > over
    with pytest.raises(OutOfTime):
        first.share(work)
    done = work.computed + work.received
    assert 0 < len(done) < 40 and sorted(work.written) == sorted(done)
    alone, work = WorkerPool(), Pieces([0] * 3)
    alone.expired = lambda: True
    with pytest.raises(OutOfTime):
        alone.share(work)
    assert work.computed == [0]
    for later in (alone, first):  # as for the next task, even if it has a single piece
        work = Pieces([0])
        with pytest.raises(OutOfTime):
            later.share(work)
        assert work.computed == []
    assert alone.share(Pieces([])) == []


def test_a_launchers_store_carries_pieces_and_answers_and_ends_with_its_process():
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    other = TCPStore("127.0.0.1", store.port, 2, is_master=False)
    ours, theirs = Mailbox(store, "1/pieces", "1/answers"), Mailbox(other, "1/answers", "1/pieces")
    thread = threading.Thread(target=work_sharing.answer, args=(theirs, square))
    thread.start()
    assert WorkerPool([Helper(ours)]).share(Pieces([0.02] * 6)) == [[n * n] for n in range(6)]
    ours.send(None)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def apart(tmp_path_factory, command_in):
    return command_in(tmp_path_factory.mktemp("apart"))


def words(tiny_model, mini, out, *more):
    return ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--out", out, *more]


def answers(path):
    lines = path.with_suffix(".questions.jsonl").read_text().splitlines()
    return [answer for line in map(json.loads, lines) for answer in line["answers"]]


def test_processes_and_torchrun_give_the_answers_of_one_process(apart, tiny_model, mini):
    tasks = ["--tasks", "arc_challenge,drop", "--limit", 50]  # ARC's 50 questions are two portions
    alone = apart(*words(tiny_model, mini, "one/r.json", *tasks))
    assert alone.returncode == 0, alone.stderr
    two = apart(*words(tiny_model, mini, "two/r.json", *tasks, "--processes", 2))
    assert two.returncode == 0, two.stderr
    assert "ended with exit code" not in two.stderr and "Traceback" not in two.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.run(
        [*torchrun, "-m", "orca_bench", *map(str, words(tiny_model, mini, "run/r.json", *tasks))],
        cwd=apart.folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("ARC-Challenge") == alone.stdout.count("ARC-Challenge")
    expected = answers(apart.folder / "one" / "r.json")
    for folder in ("two", "run"):
        for mine, theirs in zip(answers(apart.folder / folder / "r.json"), expected, strict=True):
            assert mine == theirs if isinstance(mine, str) else mine == pytest.approx(theirs, abs=1e-4)


def test_options_that_do_not_go_together_are_refused(apart, tiny_model, mini):
    eval_ = words(tiny_model, mini, "no/r.json")
    assert "give 1 or more" in apart.refused(*eval_, "--processes", 0)
    assert "run by one process" in apart.refused(*eval_, "--device-map", "auto", "--processes", 2)
    assert "not an option of --engine hf" in apart.refused(*eval_, "--base-url", "http://x/v1")
    assert "needs a server" in apart.refused(*eval_, "--engine", "api")


def test_a_model_that_is_spread_and_offloaded_gives_its_own_answers(tiny_model, tmp_path):
    """Accelerate's hooks bring each layer from disk: the same log-probabilities, texts and weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from orca_bench.evaluate.engine import tree_engine
    from orca_bench.evaluate.request_encoding import Ids
    from orca_bench.models import model_identity

    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "disk"}
    places |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    spread = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation="sdpa", device_map=places, offload_folder=tmp_path
    )
    engine, whole = tree_engine.TreeEngine(spread), tree_engine.load(str(tiny_model))[0]
    assert engine.check() < 1e-4
    assert model_identity.weights(spread) == model_identity.weights(whole.model)
    sequences = [Ids([1, 5, 9, n], 2) for n in range(10, 20)]
    for mine, theirs in zip(engine.log_likelihoods(sequences), whole.log_likelihoods(sequences), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    prompts = [[1, 5], [1, 7, 9]]
    assert engine.generate_ids(prompts, lambda n, ids: False, 5) == whole.generate_ids(prompts, lambda n, ids: False, 5)


def test_device_map_auto_is_taken_by_the_command(apart, tiny_model, mini):
    done = apart(*words(tiny_model, mini, "map/r.json", "--tasks", "truthful_qa", "--limit", 5, "--device-map", "auto"))
    assert done.returncode == 0, done.stderr


def helpers_of(parent):
    """The helper processes that a process has started so far."""
    helpers = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                helpers.append(child)
    return helpers


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_helpers_open_no_port_and_end_with_the_first_process_whatever_ends_it(apart, tiny_model, mini, number):
    process = apart.start(*words(tiny_model, mini, f"end-{number}/r.json", "--processes", 2, "--limit", 200))
    deadline = time.monotonic() + 200
    while not (helpers := helpers_of(process.pid)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    assert process.poll() is None, process.communicate()
    ports = [c for p in [psutil.Process(process.pid), *helpers] for c in p.net_connections() if c.status == "LISTEN"]
    assert helpers and not ports
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(helpers, timeout=10)
    assert not alive
