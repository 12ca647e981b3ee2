"""Servers as people have them: windows, options that they lack, secrets in addresses, and the signals that end everything."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys

import completions_server
import psutil
import pytest
from waiting import PATIENCE_S, eventually

from orca_bench.errors import UserError
from orca_bench.evaluate import request_encoding
from orca_bench.evaluate.engine import tree_engine
from orca_bench.evaluate.engine_choice import open_engine
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.evaluate.servers import completions_client, supervisor
from orca_bench.evaluate.servers.completions_client import Address
from orca_bench.evaluate.servers.server_engine import ServerEngine
from orca_bench.models.model_folder import ModelFolder


def words(model, mini, url, *more):
    return [
        "eval",
        "--model",
        model,
        "--benchmarks",
        mini["mini:benchmarks"],
        "--engine",
        "api",
        "--base-url",
        url,
        *more,
    ]


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "window"), [(None, 300), ("props", 300), (None, 4096), (None, None)])
def test_the_smaller_window_of_folder_and_server_is_taken_and_no_request_exceeds_the_servers(
    served, tiny_model, fault, window
):
    url, server = served(fault, window)
    with open_engine(
        EngineConfig("api", base_url=url), ModelFolder(str(tiny_model)), "tiny", "auto", print
    ) as opened_engine:
        assert (
            opened_engine.window_tokens == min(1024, window or 1024)
            and opened_engine.model_description["engine"]["window"] == window
        )
        rule = request_encoding.encoding_of_protocol(
            "leaderboard", opened_engine.tokenizer, opened_engine.window_tokens
        )
        rule.limit_pair_length(opened_engine.max_pair_tokens)
        pairs = [rule.encode_pair("word " * count, "end of it") for count in (5, 280, 290, 300, 1100, 2000)]
        answers = opened_engine.engine.log_likelihoods(pairs)
    assert max(len(request["prompt"]) + request["max_tokens"] for request in server.requests) <= (window or 1024)
    own = tree_engine.load_engine(ModelFolder(str(tiny_model)))
    assert [value for value, _ in answers] == pytest.approx([v for v, _ in own.log_likelihoods(pairs)], abs=1e-3)


def test_only_pairs_of_full_windows_differ_from_the_engine_here_and_are_counted(tiny_model):
    tokenizer = ModelFolder(str(tiny_model)).tokenizer
    here, there = (request_encoding.encoding_of_protocol("leaderboard", tokenizer, 100) for _ in range(2))
    there.limit_pair_length(99)
    for count in range(1, 120):
        one, other = here.encode_pair("a " * count, "b"), there.encode_pair("a " * count, "b")
        assert other.token_ids == one.token_ids[-99:] and len(one.token_ids) <= 101
    differing = sum(
        here.encode_pair("a " * n, "b").token_ids != there.encode_pair("a " * n, "b").token_ids for n in range(1, 120)
    )
    assert there.server_shortened_context_count == 2 * differing > 0 and here.server_shortened_context_count == 0
    roomy = request_encoding.encoding_of_protocol("leaderboard", tokenizer, 100)
    roomy.limit_pair_length(4095)
    roomy.encode_pair("a " * 120, "b")
    assert roomy.server_shortened_context_count == 0 and roomy.shortened_context_count == 1


def test_a_narrow_server_finishes_tasks_and_the_result_says_what_it_cost(served, tiny_model, mini, command):
    url, server = served(None, 400)
    process = command(
        *words(
            tiny_model,
            mini,
            url,
            "--tasks",
            "arc_challenge,gsm8k",
            "--limit",
            2,
            "--protocol",
            "leaderboard",
            "--out",
            "r.json",
        )
    )
    assert process.returncode == 0, process.stderr
    result = json.loads((command.folder / "r.json").read_text())
    entry = result["tasks"]["arc_challenge"]
    assert entry["narrowed"] > 0 and any("lost up to two tokens more than in process" in w for w in entry["warnings"])
    table = command("table", "r.json", "--notes")
    assert "asked of a server: a text ends where a stop string first appears" in " ".join(table.stdout.split())
    assert command("verify", "r.json", "--benchmarks", mini["mini:benchmarks"]).returncode == 0


def test_a_window_too_small_for_an_answer_is_said_before_anything_is_asked(served, tiny_model, mini, command):
    url, server = served(None, 200)
    process = command(*words(tiny_model, mini, url, "--tasks", "gsm8k", "--limit", 1))
    assert process.returncode == 2 and "do not fit a context window of 200" in process.stderr
    assert len(server.requests) <= 3  # the check's


# --- what a server cannot do ----------------------------------------------------------------------------------------


def test_a_server_without_prompt_scores_answers_the_tasks_of_texts(served, tiny_model, mini, command):
    url, _ = served("strings")
    process = command(*words(tiny_model, mini, url, "--tasks", "gsm8k", "--limit", 1, "--out", "r.json"))
    assert process.returncode == 0, process.stderr
    process = command(*words(tiny_model, mini, url, "--tasks", "gsm8k,mmlu", "--limit", 1))
    assert process.returncode == 2 and "the server must take token ids" in process.stderr


def test_a_server_that_takes_no_options_but_openais_is_asked_without_and_said_to(connect, served):
    url, server = served("strict")
    api = connect(url)
    api.check()
    assert (
        "extra_body" not in api.sampling_options
        and "top_k" not in server.requests[-1]
        and server.requests[-1]["top_p"] == 1
    )
    assert any("takes neither top_k nor a repetition penalty" in line for line in api.difference_sentences)


def test_tokens_that_are_to_be_thrown_away_and_are_not_told_are_said_before_anything_is_asked(
    served, tiny_model, mini, command
):
    url, server = served("mute", 300)
    eval_ = words(tiny_model, mini, url, "--tasks", "gsm8k", "--limit", 2, "--protocol", "leaderboard")
    process = command(*eval_)
    assert process.returncode == 2 and "throws the first tokens of some texts away" in process.stderr
    assert len(server.requests) <= 3


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "display_url"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("https://me:pass%40word@host/v1/", "https://***@host/v1"),
        ("http://tokenvalue@host/v1", "http://***@host/v1"),
        ("http://host/v1?api_key=abcdef&v=2", "http://host/v1?api_key=***&v=***"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_an_address_is_shown_without_its_secrets(text, display_url):
    address = Address.parse(text)
    assert address.redacted_url == display_url
    for secret in ("pass%40word", "pass@word", "tokenvalue", "abcdef"):
        assert (
            secret not in address.url_without_secrets + address.redact(f"cannot open {text} with {secret}")
            or secret not in text
        )


@pytest.mark.parametrize(
    "text", ["host:8000", "ftp://host/v1", "http://", "http://ho st:x/v1", "//host/v1", "me:secret@host"]
)
def test_what_is_no_address_is_refused_without_repeating_it(text):
    with pytest.raises(UserError, match="--base-url: not the address of a server; http://127.0.0.1:8000/v1") as refusal:
        Address.parse(text)
    assert "secret" not in str(refusal.value)


def test_secrets_reach_the_server_and_nothing_else(served, tiny_model, mini, command, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-mine")
    url, server = served()
    secret = url.replace("//", "//user:hidden%2Fword@") + "?token=hidden-value"
    eval_ = words(tiny_model, mini, secret, "--tasks", "truthful_qa", "--limit", 1, "--out", "r.json")
    process = command(*eval_)
    assert process.returncode == 0, process.stderr
    assert server.headers[0]["authorization"].startswith("Basic ") and server.paths[0].endswith("?token=hidden-value")
    files = [path for path in command.folder.rglob("*") if path.is_file()]
    everything = process.stdout.encode() + process.stderr.encode() + b"".join(path.read_bytes() for path in files)
    server.shutdown()
    server.server_close()
    gone = command(*eval_)
    assert gone.returncode == 2 and "cannot reach the server" in gone.stderr and "***@127.0.0.1" in gone.stderr
    for word in (b"hidden", b"key-of-mine"):
        assert word not in everything + gone.stdout.encode() + gone.stderr.encode()


def test_a_key_in_a_servers_refusal_is_not_repeated(connect, served, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-mine")
    url, server = served()
    api = connect(url)
    api._endpoint.model_name = "no such, says key-of-mine"
    message = api._endpoint._one_line("Incorrect API key provided: key-of-mine", 300)
    assert message == "Incorrect API key provided: ***"


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_server_that_dies_loses_no_answer_and_the_same_command_goes_on(
    served, tiny_model, mini, command, monkeypatch
):
    monkeypatch.setattr(completions_client, "_MAX_REQUEST_RETRIES", 1)
    url, server = served("dies")
    server.quick = 13 + 4  # the check, and the requests of two rows of the first task
    eval_ = words(tiny_model, mini, url, "--tasks", "winogrande,gsm8k", "--limit", 2, "--out", "r.json")
    process = command(*eval_, "--concurrency", 1)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert (
        "cannot reach the server" in process.stderr.splitlines()[-1]
        or "disconnected" in process.stderr.splitlines()[-1]
    )
    assert list(json.loads((command.folder / "r.json").read_text())["tasks"]) == ["winogrande"]
    server.quick = 10_000  # it is there again
    process = command(*eval_)
    assert (
        process.returncode == 0
        and "Winogrande: 4 answers were cached by an earlier run" in process.stdout + process.stderr
    )
    assert list(json.loads((command.folder / "r.json").read_text())["tasks"]) == ["winogrande", "gsm8k"]


def test_what_a_server_says_of_a_request_that_it_refuses_is_quoted_in_one_line(connect, served):
    with pytest.raises(UserError) as refusal:
        connect(served("detail")[0]).log_likelihoods([ScoredSequence([4, 8, 5], 1)])
    assert "the server refused (422): " in str(refusal.value) and "extra fields" in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_evaluation_of_a_server_that_hangs_ends_when_it_is_told_to(served, tiny_model, mini, command, number):
    url, server = served("hangs")
    process = command.start(*words(tiny_model, mini, url, "--tasks", "truthful_qa", "--limit", 3, "--out", "r.json"))
    eventually(lambda: len(server.requests) > server.quick or process.poll() is not None)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)  # less than the client waits for an answer
    assert process.returncode == 130 and "the same command goes on from there" in err and "Traceback" not in err


def test_an_interrupt_that_meets_a_request_is_raised_once(served, capfd):
    """The event loop raises it in `run`; the task that waits for the request has it too, and `close` runs that task."""
    url, _ = served()

    async def interrupted_request():
        raise KeyboardInterrupt

    async def all_requests():
        await asyncio.gather(asyncio.ensure_future(interrupted_request()))

    engine = ServerEngine(url)
    with pytest.raises(KeyboardInterrupt):
        engine._endpoint.run(all_requests())
    engine.close()
    gc.collect()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["complete", "check"])
def test_a_server_that_does_not_answer_in_time_is_not_said_to_be_absent(served, monkeypatch, name):
    monkeypatch.setattr(completions_client, "_MAX_REQUEST_RETRIES", 0)
    monkeypatch.setattr(completions_client, "FIRST_ANSWER_TIMEOUT_S", 0.5)
    url, server = served("hangs")
    server.quick = 0
    with contextlib.closing(ServerEngine(url)) as engine, pytest.raises(UserError) as refusal:
        engine._endpoint._timeout_s = 0.5  # not for the list of models, which is answered
        engine.check() if name == "check" else engine.log_likelihoods([ScoredSequence([4, 8, 5], 1)])
    assert "the server has not answered a request within 0.5 s" in str(refusal.value)
    assert "cannot reach" not in str(refusal.value) and "--concurrency" in str(refusal.value)


def test_the_first_answers_of_a_server_may_take_longer_than_later_ones(served):
    url, server = served("slow")
    server.first_s = 2
    with contextlib.closing(ServerEngine(url)) as engine:
        engine._endpoint._timeout_s = 1
        engine.check()
    assert server.requests.count(server.requests[0]) == 1  # it was not given up and sent again


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """Puts our server in vLLM's place on the PATH, with a fault; gives what finds its processes."""
    program = tmp_path / "bin" / "vllm"

    def install(fault):
        program.parent.mkdir(exist_ok=True)
        # A shell that waits, so that there is a process below the one that was started, as vLLM has.
        program.write_text(f'#!/bin/sh\n{sys.executable} {completions_server.__file__} "$@" --fault {fault} &\nwait\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return program

    return install


@pytest.mark.parametrize(
    ("number", "fault", "twice"),
    [
        (signal.SIGTERM, "hangs", False),
        (signal.SIGKILL, "stubborn", False),
        (signal.SIGINT, "hangs", True),
    ],
)
def test_the_vllm_server_ends_with_its_command_whatever_ends_it(vllm, tiny_model, mini, command, number, fault, twice):
    vllm(fault)
    mark = command.folder / "hanging"
    eval_ = ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--tasks", "truthful_qa"]
    process = command.start(*eval_, "--engine", "vllm", "--out", "r.json", env={"QUICK": "2", "HANGING": str(mark)})
    # A request that is never answered: the server has started, and the command waits for it.
    eventually(lambda: mark.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    # The supervisor, the shell that stands in vLLM's place, and the server below it.
    servers = psutil.Process(process.pid).children(recursive=True)
    assert sum(completions_server.__file__ in server.cmdline() for server in servers) == 1 and len(servers) >= 3
    process.send_signal(number)
    if twice:
        process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    _, alive = psutil.wait_procs(servers, timeout=PATIENCE_S)
    assert not alive


def test_a_program_ends_with_what_watches_it_and_gives_its_exit_code(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        process = supervisor.start_program([sys.executable, "-c", "raise SystemExit(7)"], log)
        assert process.wait(PATIENCE_S) == 7
        watching = [supervisor.start_program(["sleep", "10000"], log) for _ in range(2)]

    def sleeping():
        children = [child for one in watching for child in psutil.Process(one.pid).children()]
        with contextlib.suppress(psutil.Error):
            return children if [child.name() for child in children] == ["sleep", "sleep"] else None

    children = eventually(sleeping)
    killed, ended = watching
    killed.kill()
    supervisor.end_program(ended)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
