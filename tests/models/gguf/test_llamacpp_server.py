"""llama.cpp in a process of its own: it answers, refuses by name, and ends with whoever started it."""

import dataclasses
import math
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import eventually

pytest.importorskip("xllamacpp")

from orca_bench.errors import UserError  # noqa: E402
from orca_bench.models.gguf import llamacpp_server  # noqa: E402
from orca_bench.models.gguf.llamacpp_server import LlamaCppEnded, LlamaCppServer, LlamaCppSettings, serve  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402

SETTINGS = LlamaCppSettings(context_tokens=256, thread_count=1)


def test_it_answers_and_ends_with_the_block_and_leaves_no_log(gguf_files):
    with serve(gguf_files["mini"], SETTINGS) as server:
        answer = server.post("/completion", {"prompt": [1, 2, 3], "n_predict": 2, "return_tokens": True})
        assert len(answer["tokens"]) <= 2 and answer["tokens_evaluated"] == 3
        process = psutil.Process(server._process.pid)
        with pytest.raises(UserError, match=r"mini.gguf: llama.cpp refused \(400\): request \(300 tokens\) exceeds"):
            server.post("/completion", {"prompt": [1] * 300})
    assert not process.is_running() and not server._log_path.exists()


def test_a_proxy_is_not_asked(gguf_files, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serve(gguf_files["mini"], SETTINGS) as server:
        assert server.post("/tokenize", {"content": ""})["tokens"] == []


def test_one_that_has_ended_is_named_with_its_log(gguf_files):
    with serve(gguf_files["mini"], SETTINGS) as server:
        server._process.kill()
        with pytest.raises(LlamaCppEnded, match="mini.gguf: llama.cpp was ended by signal 9.*; its log: /") as caught:
            server.post("/tokenize", {"content": "x"})
    assert "stored" not in str(caught.value)  # which is true of an evaluation alone
    assert server._log_path.exists()
    server._log_path.unlink()


def test_probabilities_are_listed_from_the_likeliest_on_and_token_ids_are_compared(gguf_files, llamas):
    tokenizer, other = (ModelFolder(str(llamas[kind])).tokenizer for kind in ("mini", "qwen2"))
    with serve(gguf_files["mini"], SETTINGS) as server:
        listed = server.next_token_log_probabilities([1, 5, 9], tokenizer, 10**6)
        first = server.next_token_log_probabilities([1, 5, 9], tokenizer, 3)
        assert server.has_same_ids(tokenizer, "a b", with_bos=True) and server.has_same_ids(tokenizer, "a b", False)
        assert not server.has_same_ids(other, "a b", with_bos=False)
    assert sorted(listed) == list(range(tokenizer.vocab_size)) and list(first) == list(listed)[:3]
    assert list(listed.values()) == sorted(listed.values(), reverse=True)
    assert sum(map(math.exp, listed.values())) == pytest.approx(1, abs=1e-4)


def test_an_answer_of_another_format_is_refused(gguf_files, llamas, monkeypatch):
    tokenizer = ModelFolder(str(llamas["mini"])).tokenizer
    with serve(gguf_files["mini"], SETTINGS) as server:
        monkeypatch.setattr(server, "post", lambda path, content: {"content": "", "completion_probabilities": []})
        with pytest.raises(UserError, match="mini.gguf: llama.cpp tells no probabilities.*another version"):
            server.next_token_log_probabilities([1, 5, 9], tokenizer, 3)
        with pytest.raises(UserError, match="mini.gguf: llama.cpp tells no token ids of a text"):
            server.has_same_ids(tokenizer, "a", with_bos=False)


def test_it_ends_with_a_command_that_is_killed(gguf_files):
    program = (
        "import sys, time; from pathlib import Path; from orca_bench.models.gguf.llamacpp_server import *\n"
        "server = LlamaCppServer.start(Path(sys.argv[1]), LlamaCppSettings(256, thread_count=1))\n"
        "print(server._process.pid, flush=True); time.sleep(1e6)"
    )
    command = [sys.executable, "-c", program, str(gguf_files["mini"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        assert process.is_running()
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_a_damaged_file_is_named_and_why(gguf_files, tmp_path):
    damaged_file = tmp_path / "damaged.gguf"
    damaged_file.write_bytes(gguf_files["mini"].read_bytes()[:2000])
    with (
        pytest.raises(UserError, match=r"damaged.gguf: llama.cpp cannot run the file \(gguf_init.*failed to read"),
        serve(damaged_file, SETTINGS),
    ):
        pass


def test_a_process_that_ends_before_it_answers_is_named_with_its_last_line_and_its_log(gguf_files):
    unknown_type = dataclasses.replace(SETTINGS, cache_type="q7_0")
    with pytest.raises(
        UserError, match="ended with exit code 1 before it could answer: AttributeError: GGML"
    ) as caught:
        LlamaCppServer.start(gguf_files["mini"], unknown_type)
    assert "Traceback" not in str(caught.value)
    log_file = Path(str(caught.value).split("its log: ")[1])
    assert "Traceback" in log_file.read_text()
    log_file.unlink()


def test_a_missing_package_is_named(gguf_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(UserError, match="needs the package xllamacpp; install it: pip install"):
        llamacpp_server.LlamaCppServer.start(gguf_files["mini"], SETTINGS)
