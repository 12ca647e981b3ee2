"""A GGUF file behind the server, as a user starts it."""

import httpx
import pytest
from waiting import PATIENCE_S

from orca_bench.models.gguf.gguf_export import export_gguf
from orca_bench.models.model_folder import ModelFolder

pytestmark = pytest.mark.slow

QUESTION = "Tom has 3 apples and buys 4 more. How many has he?"
_GREEDY = ("--greedy", "--max-new-tokens", 24)


def _answer_over_http(command, file):
    """(what a chat answers, what a completion of the same prompt answers) of a server of this file."""
    process = command.start("serve", file, "--port", 0, *_GREEDY)
    try:
        line = next(line for line in process.stderr if " at http://" in line)
        client = httpx.Client(base_url=line.split(" at ")[1].split()[0], timeout=PATIENCE_S)
        model = client.get("/v1/models").json()["data"][0]
        assert model["id"] == file.stem and model["dtype"] == "float32"
        messages = [{"role": "user", "content": QUESTION}]
        chat = client.post("/v1/chat/completions", json={"model": model["id"], "messages": messages}).json()
        prompt = client.post("/page/prompt", json={"model": model["id"], "messages": messages}).json()
        body = {"model": model["id"], "prompt": prompt["token_ids"], "max_tokens": 24, "temperature": 0}
        body["stop"] = ["### User:", "### System:", "### Input:", "### Response:"]
        completion = client.post("/v1/completions", json=body).json()
    finally:
        process.kill()
        process.communicate()
    return chat["choices"][0]["message"]["content"], completion["choices"][0]["text"]


def _check(command, file):
    chat_text, completion_text = _answer_over_http(command, file)
    process = command("generate", QUESTION, "--model", file, *_GREEDY)
    assert process.returncode == 0, process.stderr
    assert chat_text.strip() and chat_text.strip() == process.stdout.strip()
    assert completion_text.strip() == chat_text.strip()


@pytest.mark.parametrize("file_type", ["f32", "q8_0"])
def test_a_gguf_file_answers_over_http_as_generate_does(command, tiny_model, file_type):
    file = command.folder / f"tiny-{file_type}.gguf"
    export_gguf(ModelFolder(str(tiny_model)), file, file_type)
    _check(command, file)


def test_a_real_file_of_four_bits_does_too(command, real_model_file):
    _check(command, real_model_file)
