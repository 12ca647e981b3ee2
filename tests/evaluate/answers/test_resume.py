"""An evaluation that is killed goes on: no answer is lost, none is another model's, and the result is the same bytes."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from waiting import PATIENCE_S, eventually

from orca_bench.errors import UserError
from orca_bench.evaluate import evaluation
from orca_bench.question_limit import QuestionLimit


@pytest.fixture(scope="module")
def orca(tmp_path_factory, command_in):
    return command_in(tmp_path_factory.mktemp("resume"))


def words(tiny_model, mini, out, *more):
    tasks = ["--tasks", "hellaswag,mmlu,truthful_qa,drop", "--limit", 25]
    return ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], *tasks, "--out", out, *more]


def but_for_time(path):
    result = json.loads(path.read_text())
    del result["created"], result["result_sha256"]
    for entry in result["tasks"].values():
        del entry["seconds"]
    return result, path.with_suffix(".questions.jsonl").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(orca, tiny_model, mini):
    process = orca(*words(tiny_model, mini, "whole/r.json"))
    assert process.returncode == 0, process.stderr
    return orca.folder / "whole" / "r.json"


def cached_portions(folder):
    try:
        return sqlite3.connect(folder / "answers.sqlite").execute("SELECT count(*) FROM portions").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_killed_at_any_instant_it_goes_on_and_ends_in_the_same_bytes(orca, undisturbed, tiny_model, mini):
    """SIGKILL at random instants, each time at least one portion further on while there are any left.

    Three times; as often as ORCA_BENCH_KILLS says.
    """
    rng, folder, before = random.Random(3), orca.folder / "killed", 0
    for _ in range(int(os.environ.get("ORCA_BENCH_KILLS", "3"))):
        process = orca.start(*words(tiny_model, mini, "killed/r.json"))
        ended, least = process.poll, before + 1
        eventually(lambda: cached_portions(folder) >= least or ended() is not None, poll_s=0.01)  # noqa: B023
        time.sleep(rng.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert cached_portions(folder) > before or process.returncode == 0
        before = cached_portions(folder)
    process = orca(*words(tiny_model, mini, "killed/r.json"))
    assert (
        process.returncode == 0 and "answers were cached by an earlier run in killed/answers.sqlite" in process.stderr
    )
    assert but_for_time(folder / "r.json") == but_for_time(undisturbed)
    assert cached_portions(folder) == cached_portions(undisturbed.parent)


class Listener(evaluation.SilentDisplay):
    """A display that only listens."""

    def __init__(self):
        self.lines = []

    def message(self, line):
        self.lines.append(line)


def test_another_protocol_model_or_dtype_finds_nothing_and_fresh_asks_again(tiny_model, mini, tmp_path):
    import shutil
    from dataclasses import replace

    import torch
    from safetensors.torch import load_file, save_file

    from orca_bench.evaluate.tasks import select
    from orca_bench.models.model_folder import ModelFolder

    def reused(order):
        listener = Listener()
        evaluation.evaluate(order, listener)
        return any("answers were cached by an earlier run" in line for line in listener.lines)

    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * torch.tensor(1.5)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    outs = {"orca": tmp_path / "r.json"}
    tiny, rows = ModelFolder(str(tiny_model)), mini["mini:benchmarks"]
    limit = QuestionLimit(10)
    order = evaluation.EvaluationConfig(tiny, "tiny", select("truthful_qa"), outs, "S", rows, limit, "float32")
    assert [reused(order), reused(order)] == [False, True]
    assert not reused(replace(order, result_paths_by_protocol={"leaderboard": tmp_path / "r.json"}))
    assert not reused(replace(order, dtype="bfloat16"))
    assert not reused(replace(order, system_text="T"))
    assert not reused(replace(order, model_folder=ModelFolder(str(other))))
    assert not reused(replace(order, ignores_cached_answers=True))
    assert reused(order)


def test_two_processes_share_one_store(orca, tiny_model, mini):
    """Each with one thread, so that neither waits for the other's and both round alike."""
    processes = [
        orca.start(
            *words(tiny_model, mini, f"shared/{i}.json", "--tasks", "hellaswag,truthful_qa"),
            env={"OMP_NUM_THREADS": "1"},
        )
        for i in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=4 * PATIENCE_S)
        assert process.returncode == 0, err
    first, second = (but_for_time(orca.folder / "shared" / f"{i}.json") for i in range(2))
    assert first == second and first[0]["complete"] and cached_portions(orca.folder / "shared") > 1


def test_a_full_disk_is_named_and_what_was_answered_stays(orca, tiny_model, mini):
    # a file-size limit fails a write the way a full disk does, without filling one
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, 24_000));"
        "from orca_bench.cli.main import main; sys.argv = ['orca-bench', *sys.argv[1:]]; main()"
    )
    order = list(map(str, words(tiny_model, mini, "full/r.json", "--tasks", "arc,hellaswag")))
    process = subprocess.run([sys.executable, "-c", script, *order], cwd=orca.folder, capture_output=True, text=True)
    assert process.returncode == 2 and "cannot" in process.stderr and "Traceback" not in process.stderr, process.stderr


def test_nan_and_a_continuation_too_long_name_their_request(tiny_model, mini):
    import torch

    from orca_bench.evaluate import benchmark_rows, protocols, request_encoding
    from orca_bench.evaluate.engine import tree_engine
    from orca_bench.evaluate.harness.language_model import HarnessModel
    from orca_bench.evaluate.harness.protocol_tasks import run_documents
    from orca_bench.evaluate.tasks import select
    from orca_bench.models.model_folder import ModelFolder

    folder = ModelFolder(str(tiny_model))
    engine, tokenizer = tree_engine.load_engine(folder), folder.tokenizer
    (task,) = select("truthful_qa")
    protocol = protocols.Orca("")
    documents = protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 8)
    rule = request_encoding.encoding_of_protocol("orca", tokenizer, 1024)
    fed = {  # what only one request is fed
        (d.document_index, n): set(rule.encode_pair(r.context, r.continuation).token_ids[:-1])
        for d in documents
        for n, r in enumerate(d.requests)
    }
    (index, number), rare = next(
        (place, min(own))
        for place, ids in fed.items()
        if (own := ids - set().union(*(o for p, o in fed.items() if p != place)))
    )
    with torch.no_grad():
        engine.model.model.embed_tokens.weight[rare] = float("nan")
    with pytest.raises(UserError, match=f"truthful_qa document {index} request {number}: the model gave NaN"):
        run_documents(HarnessModel(engine, rule), task, protocol, documents)
    with pytest.raises(UserError, match="truthful_qa document 0 request 0: a continuation of"):
        run_documents(HarnessModel(engine, request_encoding.OrcaEncoding(tokenizer, 2)), task, protocol, documents)


def test_a_model_of_nan_is_refused(orca, tiny_model, mini, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "model"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][5:9] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    assert f"{broken}: the model gives NaN or infinity" in orca.refused(*words(broken, mini, "nan/r.json"))
