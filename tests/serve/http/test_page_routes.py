"""What the page asks of the server: itself, its settings, the exact prompt, and records."""

import json

import pytest
from file_sizes import no_room_for
from model_servers import serving

from orca_bench import prompt
from orca_bench.system_messages import SYSTEM_MESSAGES

MESSAGES = [{"role": "user", "content": "Where? 日本"}]


def test_the_page_may_run_its_own_script_and_ask_this_server_alone(server):
    response = server.client.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert response.status_code == 200 and response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "connect-src 'self'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_the_settings_name_models_messages_and_defaults(server):
    settings = server.client.get("/page/settings").json()
    assert settings["models"] == [{"id": "model", "window": 1024, "dtype": "float32"}]
    assert settings["system_messages"] == [{"id": number, "text": text} for number, text in SYSTEM_MESSAGES.items()]
    assert settings["default_system_message"] == 5 and settings["keeps_records"]
    assert settings["defaults"] == {"temperature": 0, "top_p": 1.0, "top_k": 50, "max_tokens": 24}


def test_the_prompt_is_that_of_training_with_its_ids(server, tokenizer):
    answer = server.post("/page/prompt", model="model", messages=MESSAGES).json()
    text = prompt.render(SYSTEM_MESSAGES[5], "Where? 日本")
    ids = [*tokenizer.prefix, *tokenizer.encode(text)]
    assert (answer["text"], answer["token_ids"], answer["token_count"], answer["window"]) == (text, ids, len(ids), 1024)
    assert answer["token_texts"][0] == "<s>" and "".join(answer["token_texts"][1:]) == text


def test_tokenize_gives_the_ids_of_a_text(server, tokenizer):
    ids = tokenizer.encode("Where?")
    with_bos = {"tokens": [*tokenizer.prefix, *ids], "count": len(ids) + 1, "max_model_len": 1024}
    assert server.post("/tokenize", model="model", prompt="Where?").json() == with_bos
    assert server.post("/tokenize", prompt="Where?", add_special_tokens=False).json()["tokens"] == ids


def test_a_turn_that_is_kept_is_a_record(server):
    turn = {"system": "S", "instruction": "Where?", "input": "", "response": "Here.\n", "model": "model"}
    answers = [server.post("/page/records", **turn) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [answer.json()["count"] for answer in answers] == [1, 2]
    assert server.post("/page/records", **turn, was_cut=True).status_code == 201
    for field in ("instruction", "response"):
        assert f"{field}: must not be blank" in server.refusal("/page/records", **(turn | {field: " \n"}))
    assert "model: should be a valid string" in server.refusal("/page/records", **(turn | {"model": 5}))
    assert "file: unknown field" in server.refusal("/page/records", **turn, file="../x")


def test_a_record_that_the_disk_does_not_take_is_refused_with_the_reason(server):
    turn = {"system": "S", "instruction": "Where?", "response": "Here. " * 20_000, "model": "model"}
    assert server.post("/page/records", **turn).status_code == 201
    with no_room_for(150_000):
        message = server.refusal("/page/records", 507, **turn)
    assert "the record was not stored" in message and "File too large" in message
    assert server.post("/page/records", **turn).status_code == 201


@pytest.fixture(scope="module")
def two_models_server(tiny_model, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / 'other "model"'
    other.symlink_to(tiny_model, target_is_directory=True)
    with serving(tiny_model, other) as running:
        yield running


def test_without_a_folder_no_record_is_kept(two_models_server):
    assert "--records DIR" in two_models_server.refusal("/page/records", 404, model="model")


def test_several_models_are_listed_and_counted_by_their_names(two_models_server):
    names = ["model", 'other "model"']
    listed = two_models_server.client.get("/v1/models").json()["data"]
    assert [(model["id"], model["owned_by"], model["max_model_len"]) for model in listed] == [
        (name, "orca-bench", 1024) for name in names
    ]
    texts = [
        two_models_server.post("/v1/completions", model=name, prompt="Why?", max_tokens=3, seed=1).json()["choices"][0][
            "text"
        ]
        for name in names
    ]
    assert texts[0] == texts[1]
    lines = two_models_server.client.get("/metrics").text.splitlines()
    assert 'orca_bench_new_tokens_total{model="other \\"model\\""} 3' in lines
    assert json.loads(two_models_server.client.get("/v1/models/model").text)["id"] == "model"
