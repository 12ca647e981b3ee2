"""Servers that cannot do what an evaluation needs are recognised, the real ones, and refused with the reason."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
from waiting import eventually

from orca_bench.child_processes import find_free_port
from orca_bench.errors import UserError
from orca_bench.evaluate.servers import server_kinds
from orca_bench.models.gguf.gguf_export import export_gguf
from orca_bench.models.model_folder import ModelFolder


@pytest.mark.parametrize(
    ("owner", "contents", "kind"),
    [
        ("vllm", {"/version": {"version": "0.33.0"}}, ("vllm", "0.33.0")),
        ("vllm", {"/version": ["0.33.0"]}, ("vllm", None)),
        ("sglang", {"/server_info": {"version": "0.5.9"}}, ("sglang", "0.5.9")),
        ("sglang", {"/get_server_info": {"version": "0.4.6"}}, ("sglang", "0.4.6")),
        ("llamacpp", {"/props": {"build_info": "b6123"}}, ("llama.cpp", "b6123")),
        ("me", {"/openapi.json": {"paths": {"/v1/completions": {}}}}, ("other", None)),
        (None, {}, ("other", None)),
    ],
)
def test_a_server_is_known_by_who_owns_its_models_and_what_it_has(owner, contents, kind):
    identified = server_kinds.identify(owner, contents.get)
    assert (identified.name, identified.version) == kind


@pytest.fixture
def llamacpp_url(tiny_model, tmp_path):
    """The address of llama.cpp's own server with the tiny model."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from orca_bench.models.gguf import llamacpp_server

    export_gguf(ModelFolder(str(tiny_model)), tmp_path / "tiny.gguf", "f32")
    settings = llamacpp_server.LlamaCppSettings(1024, 2, "f32", uses_flash_attention=False, thread_count=1)
    with llamacpp_server.serve(tmp_path / "tiny.gguf", settings) as server:
        yield f"http://{server._host_and_port}/v1"


def test_llamacpps_server_generates_texts_and_is_refused_for_likelihoods(llamacpp_url, tiny_model, mini, command):
    eval_ = ["eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--engine", "api", "--base-url"]
    process = command(*eval_, llamacpp_url, "--tasks", "winogrande,gsm8k", "--limit", 1)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    error = process.stderr.splitlines()[-1]
    assert "the server is llama.cpp's, which tells log-probabilities of the tokens that it generates and never" in error
    assert "--engine llamacpp --model FILE.gguf" in error
    process = command(*eval_, llamacpp_url, "--tasks", "gsm8k", "--limit", 2, "--out", "r.json")
    assert process.returncode == 0, process.stderr
    own = command(*eval_[:-3], "--dtype", "float32", "--tasks", "gsm8k", "--limit", 2, "--out", "own.json")
    assert own.returncode == 0, own.stderr
    lines = [(command.folder / f"{name}.questions.jsonl").read_text().splitlines() for name in ("r", "own")]
    # Bytes that are no character, which random weights write, are shown otherwise.
    texts = [[json.loads(line)["answers"][0].replace("\ufffd", "") for line in result_lines] for result_lines in lines]
    assert texts[0] == texts[1] and len(texts[0]) == 2


def test_llamacpps_server_is_not_trusted_to_end_a_text_at_the_tokens_that_it_is_sent(llamacpp_url, tiny_model, connect):
    tokenizer, engine = ModelFolder(str(tiny_model)).tokenizer, connect(llamacpp_url)
    engine.check(False, tokenizer.stop_ids, tokenizer)
    assert engine.kind.name == "llama.cpp" and not engine.takes_stop_ids  # it takes the parameter and ignores it


@pytest.mark.slow
def test_transformers_serve_is_refused_by_name(connect, tiny_model, tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = find_free_port()
    program = os.path.join(os.path.dirname(sys.executable), "transformers")
    command = [program, "serve", str(tiny_model), "--host", "127.0.0.1", "--port", str(port)]
    # Without a cache of the hub its list of models is an internal error; it is recognised all the same.
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "none")}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        refusals = []

        def refusal():
            with contextlib.suppress(AssertionError), pytest.raises(UserError) as error:
                connect(f"http://127.0.0.1:{port}/v1")
            if "cannot reach" not in str(error.value):
                refusals.append(str(error.value))
            return refusals or process.poll() is not None

        eventually(refusal)
        assert refusals and "the server is transformers serve, which takes texts and no token ids" in refusals[0]
        assert "--engine hf" in refusals[0]
    finally:
        process.terminate()
        process.wait()
