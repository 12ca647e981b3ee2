"""The engine that asks a server: over real HTTP, the answers of the engine here, and every failure named."""

import contextlib
import os
import sys

import completions_server
import pytest
import torch

from orca_bench.errors import UserError
from orca_bench.evaluate import config_building, evaluation, request_encoding
from orca_bench.evaluate.engine import prefix_tree, tree_engine
from orca_bench.evaluate.engine_choice import open_engine
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.request_encoding import GenerationPrompt, ScoredSequence
from orca_bench.evaluate.servers.server_engine import ServerEngine
from orca_bench.models.model_folder import ModelFolder


def test_the_server_of_these_tests_says_nothing_of_a_client_that_goes_away(served, capsys):
    _, server = served()
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        server.handle_error(None, ("127.0.0.1", 1))
    assert capsys.readouterr().err == ""


CHECK = 13  # requests of the check at the start


def test_log_likelihoods_and_flags_are_those_of_the_engine_here(connect, served, tiny_model):
    own = tree_engine.load_engine(ModelFolder(str(tiny_model)))
    continuation = own.generate_ids([[1, 5, 9]], lambda n, ids: False, 3)[0]
    sequences = [ScoredSequence([1, 5, 9, n], 3) for n in range(10, 16)] + [
        ScoredSequence([1, 5, 9, *continuation], 3),
        ScoredSequence([4, 8], 1),
    ]
    counts = []
    answers = connect(served()[0]).log_likelihoods(sequences, counts.append)
    for mine, theirs in zip(answers, own.log_likelihoods(sequences), strict=True):
        assert mine[0] == pytest.approx(theirs[0], abs=1e-4) and mine[1] == theirs[1]
    assert [greedy for _, greedy in answers].count(True) >= 1
    assert sum(counts) == prefix_tree.count_distinct_tokens(sequences)


@pytest.mark.parametrize("name", ["orca", "leaderboard"])
def test_texts_are_those_of_the_engine_here(connect, served, tiny_model, name):
    folder = ModelFolder(str(tiny_model))
    own, tokenizer = tree_engine.load_engine(folder), folder.tokenizer
    rule = request_encoding.encoding_of_protocol(name, tokenizer, 1024)
    starts = [
        GenerationPrompt(tokenizer.encode(f"Where does the {animal} live?"), 12, n)
        for n, animal in enumerate(["frog", "bee"])
    ]
    stops = [["e"], []]
    assert connect(served()[0]).generate(starts, stops, rule) == own.generate(starts, stops, rule)


class Listener(evaluation.SilentDisplay):
    """A display that only listens."""

    def __init__(self):
        self.lines = []

    def message(self, line):
        self.lines.append(line)


def test_tasks_through_a_server_give_the_result_of_the_engine_here(served, tiny_model, mini, tmp_path):
    url, server = served()
    rows = mini["mini:benchmarks"]

    def run(folder, choice):
        out = tmp_path / folder / "r.json"
        config = config_building.evaluation_config(
            str(tiny_model),
            tmp_path,
            tasks="truthful_qa,gsm8k",
            protocol="leaderboard",
            benchmarks=rows,
            limit=2,
            out=out,
            engine=choice,
        )
        listener = Listener()
        return evaluation.evaluate(config, listener)["leaderboard"], listener.lines

    theirs, _ = run("own", EngineConfig())
    mine, _ = run("api", EngineConfig("api", base_url=url))
    assert mine.model.name == "tiny" != theirs.model.name  # the served model's, not the tokenizer's folder's
    engine = mine.model.engine.to_json()
    assert engine.pop("probe") < 0 and any("stop string" in line for line in engine.pop("differences"))
    sampling = engine.pop("sampling")
    assert engine.pop("prefix_cache")["counted_by"] == "server"  # of texts; vLLM looks nothing up for scores
    assert sampling["top_p"] == 1 and sampling["extra_body"]["repetition_penalty"] == 1
    assert engine == {"name": "api", "served_model": "tiny", "base_url": url, "window": None, "version": "vllm 0.33.0"}
    assert all(request["temperature"] == 0 and request["top_k"] == -1 for request in server.requests)
    assert mine.requests_sha256 == theirs.requests_sha256
    for task, entry in theirs.tasks.items():
        assert mine.tasks[task].value == pytest.approx(entry.value, abs=1e-6)
    before = len(server.requests)
    _, lines = run("api", EngineConfig("api", base_url=url))
    assert any("answers were cached by an earlier run" in line for line in lines)
    assert len(server.requests) == before + CHECK


def test_a_busy_server_is_asked_again(connect, served):
    url, server = served("busy")
    assert (
        len(connect(url, max_concurrent_requests=2).log_likelihoods([ScoredSequence([1, 5, n], 2) for n in range(9)]))
        == 9
    )
    assert len(server.requests) > 9


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "strings",
            r"\d+ token ids were sent and 1 log-probabilities came back, \d+ expected; the server must take token",
        ),
        ("bos", r"\d+ token ids were sent and \d+ log-probabilities came back, .*adds a token in front"),
        ("counted", "2 token ids were sent and the server counts a prompt of 3; .*adds tokens"),
        ("html", "not an answer of a completions server"),
    ],
)
def test_a_server_that_cannot_is_named_before_anything_is_asked(connect, served, fault, message):
    url, _ = served(fault)
    with pytest.raises(UserError, match=message):
        connect(url).check()


def test_an_echo_may_leave_out_only_the_token_that_ends_the_text(connect, served):
    sequence = ScoredSequence([4, 8, 5], 1)
    whole = connect(served()[0]).log_likelihoods([sequence])
    assert connect(served("polite")[0]).log_likelihoods([sequence]) == whole
    with pytest.raises(UserError, match="3 token ids were sent and 3 log-probabilities came back, 4 expected"):
        connect(served("short")[0]).log_likelihoods([sequence])


def test_refusals_unknown_models_and_absent_servers_are_named(connect, served):
    with pytest.raises(UserError, match=r"refused \(400\): .*the context window is 20 tokens"):
        connect(served("small")[0]).log_likelihoods([ScoredSequence(list(range(1, 30)), 5)])
    with pytest.raises(UserError, match="the server has no model 'x'; it has tiny"):
        connect(served()[0], "x")
    with pytest.raises(UserError, match="cannot reach the server .*is it running"):
        connect("http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="cannot reach the server .*does its address begin with http://"):
        connect(served()[0].replace("http:", "https:"))


@pytest.mark.parametrize("window", [4, 5, 8, 9, 12, 16, 17, 18, 31, 32, 33])
def test_a_server_is_probed_within_its_window(served, window):
    url, server = served(None, window)
    with contextlib.closing(ServerEngine(url)) as api:
        assert api.check().log_probability < 0 and api.returns_text_tokens
    assert all(len(request["prompt"]) + request["max_tokens"] <= window for request in server.requests)


def test_nan_from_a_server_is_named_by_its_request(served, tiny_model, mini, command):
    eval_ = ["eval", "--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--tasks", "winogrande"]
    process = command(*eval_, "--model", tiny_model, "--engine", "api", "--base-url", served("nan")[0])
    assert process.returncode == 2 and "Traceback" not in process.stderr
    line = process.stderr.splitlines()[-1]
    assert line.startswith("error: winogrande document") and "NaN or infinity" in line


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """Puts our server in vLLM's place on the PATH, with a fault."""

    def install(fault=None):
        program = tmp_path / "bin" / "vllm"
        program.parent.mkdir(exist_ok=True)
        more = f" --fault {fault}" if fault else ""
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {completions_server.__file__} "$@"{more}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def test_a_vllm_server_is_started_asked_and_ended(connect, vllm, tiny_model):
    vllm()
    lines, config = [], EngineConfig("vllm", tensor_parallel_size=2, max_concurrent_requests=2)
    with open_engine(config, ModelFolder(str(tiny_model)), "tiny", "auto", lines.append) as opened_engine:
        assert opened_engine.engine.log_likelihoods([ScoredSequence([1, 5, 9], 1)])[0][0] < 0
        url = opened_engine.engine.redacted_url
    assert "vLLM is starting; its log: " in lines[0]
    with pytest.raises(UserError, match="cannot reach"):
        connect(url)


def test_a_vllm_server_that_fails_or_is_not_there_is_named(vllm, tiny_model, monkeypatch):
    vllm("dead")
    with pytest.raises(UserError, match="vLLM ended with exit code 1: ValueError: no GPU here"):
        open_engine(EngineConfig("vllm"), ModelFolder(str(tiny_model)), "tiny", "auto", print).__enter__()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="vLLM is not installed; pip install 'orca-bench\\[vllm\\]'"):
        open_engine(EngineConfig("vllm"), ModelFolder(str(tiny_model)), "tiny", "auto", print).__enter__()


def test_answers_of_other_weights_under_the_same_name_and_address_are_not_taken_for_this_models(
    served, tiny_model, mini, command, tmp_path
):
    url, server = served()
    words = ["--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--tasks", "winogrande", "--out", "r.json"]
    eval_ = ["eval", "--model", tiny_model, "--engine", "api", "--base-url", url, *words]
    assert command(*eval_).returncode == 0
    before = len(server.requests)
    again = command(*eval_)
    assert again.returncode == 0 and len(server.requests) == before + CHECK
    with torch.no_grad():
        for parameter in server.model.parameters():
            parameter.mul_(1.1)
    before = len(server.requests)
    other = command(*eval_)
    assert other.returncode == 0 and len(server.requests) > before + CHECK
    before = len(server.requests)
    assert command(*eval_).returncode == 0 and len(server.requests) == before + CHECK  # both are known from then on
