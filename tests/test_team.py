"""Work handed out over processes: every piece once, nobody idle at the end, errors and deaths survived."""

import json
import subprocess
import sys
import threading
import time

import pytest
from torch.distributed import TCPStore

from orca_bench.errors import UserError
from orca_bench.evaluate.team import Alone, Team


class Pieces:
    """Squares, each of which takes its time."""

    def __init__(self, seconds, kept=(), broken=None):
        self.seconds, self.known, self.broken = seconds, dict(kept), broken
        self.computed, self.written, self.received = [], {}, []

    def __len__(self):
        return len(self.seconds)

    def kept(self, place):
        return self.known.get(place)

    def compute(self, place):
        if place == self.broken:
            raise UserError("cannot", where=f"piece {place}", hint="mend it")
        time.sleep(self.seconds[place])
        self.computed.append(place)
        return [place * place]

    def keep(self, place, answers):
        self.written[place] = answers

    def receive(self, place, answers):
        self.received.append(place)
        self.written[place] = answers


def team(size, processes=()):
    store = TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
    others = [Team(TCPStore("127.0.0.1", store.port, size, is_master=False), rank, size) for rank in range(1, size)]
    return Team(store, 0, size, processes), others


def together(first, others, works):
    """Let every member share; returns what the first one got."""
    threads = [threading.Thread(target=other.share, args=[work]) for other, work in zip(others, works[1:], strict=True)]
    for thread in threads:
        thread.start()
    try:
        return first.share(works[0])
    finally:
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def test_every_piece_is_done_once_and_the_first_has_all_answers():
    seconds = [0.02] * 21
    first, others = team(3)
    for _ in range(2):  # a second round begins anew
        works = [Pieces(seconds) for _ in range(3)]
        assert together(first, others, works) == Alone().share(Pieces([0] * 21)) == [[n * n] for n in range(21)]
        done = [place for work in works for place in work.computed]
        assert sorted(done) == list(range(21)) and all(work.computed for work in works)
        assert sorted(works[0].received) == sorted(works[1].computed + works[2].computed)
        assert works[0].written == {n: [n * n] for n in range(21)} and not works[1].written and not works[2].written


def test_one_who_has_a_long_piece_is_not_given_another():
    first, others = team(2)
    works = [Pieces([0.5] + [0.02] * 12) for _ in range(2)]
    together(first, others, works)
    with_long = next(work for work in works if 0 in work.computed)
    assert len(with_long.computed) <= 3


def test_what_an_earlier_run_kept_is_not_handed_out():
    first, others = team(2)
    works = [Pieces([0.01] * 8, kept={n: [n * n] for n in range(5)}), Pieces([0.01] * 8)]
    assert together(first, others, works) == [[n * n] for n in range(8)]
    assert sorted(works[0].computed + works[1].computed) == [5, 6, 7]


def test_what_a_helper_cannot_do_is_raised_in_the_first():
    first, others = team(2)
    works = [Pieces([0.3] + [0.01] * 5), Pieces([0.01] * 6, broken=3)]
    works[0].broken = 3
    with pytest.raises(UserError, match="piece 3: cannot; mend it"):
        together(first, others, works)


def test_the_share_of_a_helper_that_died_is_done_by_the_others():
    dead = subprocess.Popen([sys.executable, "-c", "raise SystemExit(9)"])
    dead.wait()
    first, others = team(3, [dead])
    lines = []
    first.say = lines.append
    others[0]._round = 1
    next(others[0]._claims([0, 1, 2]))  # it took a piece, and died
    works = [Pieces([0.01] * 6), Pieces([0.01] * 6)]
    assert together(first, others[1:], works) == [[n * n] for n in range(6)]
    assert lines == ["a helper process ended with exit code 9; the others do its share"]


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

    from orca_bench.evaluate import engine as engines
    from orca_bench.evaluate.encoding import Ids
    from orca_bench.models import identity

    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "disk"}
    places |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    spread = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation="sdpa", device_map=places, offload_folder=tmp_path
    )
    engine, whole = engines.Engine(spread), engines.load(str(tiny_model))[0]
    assert engine.check() < 1e-4
    assert identity.weights(spread) == identity.weights(whole.model)
    sequences = [Ids([1, 5, 9, n], 2) for n in range(10, 20)]
    for mine, theirs in zip(engine.log_likelihoods(sequences), whole.log_likelihoods(sequences), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    prompts = [[1, 5], [1, 7, 9]]
    assert engine.generate(prompts, lambda n, ids: False, 5) == whole.generate(prompts, lambda n, ids: False, 5)


def test_device_map_auto_is_taken_by_the_command(apart, tiny_model, mini):
    done = apart(*words(tiny_model, mini, "map/r.json", "--tasks", "truthful_qa", "--limit", 5, "--device-map", "auto"))
    assert done.returncode == 0, done.stderr
