"""A server ends a text of protocol `chat` where the template ends an answer, as the engine here does."""

import json
import shutil

import pytest
import torch
from chat_templates import CHATML, PLAIN_TEXT
from transformers import AutoModelForCausalLM

from orca_bench.errors import UserError
from orca_bench.evaluate import chat_encoding
from orca_bench.evaluate.config_building import engine_config
from orca_bench.evaluate.engine_choice import open_engine
from orca_bench.models.model_folder import ModelFolder

CONTEXT = json.dumps([{"role": "user", "content": "How many legs has a bear?"}])
NEW_TOKENS = 24


@pytest.fixture
def turns_model(tiny_model, tmp_path):
    """A function that copies the tiny model with a template, whose greedy answer ends with a piece of the vocabulary.

    The tiny tokenizer has no `<|im_end|>`: a piece that the model writes as its third token is made one.
    """

    def make(template):
        folder = tmp_path / "turns"
        shutil.copytree(tiny_model, folder)
        (folder / "orca_bench.json").unlink()
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        model_folder = ModelFolder(str(folder))
        encoding = chat_encoding.encoding_of_model("chat", model_folder, model_folder.tokenizer, 512)
        prompt = encoding.encode_prompt(CONTEXT, 0, NEW_TOKENS)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        ids = model.generate(torch.tensor([prompt.token_ids]), max_new_tokens=4, do_sample=False)[0].tolist()
        return model_folder, encoding, prompt, ids[len(prompt.token_ids) :]

    return make


def generate(model_folder, encoding, prompt, config, end_ids=()):
    with open_engine(config, model_folder, "m", "auto", lambda line: None, False, end_ids) as opened_engine:
        (text,) = opened_engine.engine.generate([prompt], [()], encoding)
        return text, opened_engine


def test_the_token_that_ends_a_turn_ends_a_servers_text(turns_model, served):
    model_folder, encoding, prompt, ids = turns_model(CHATML)
    end_id = ids[2]
    assert end_id not in ids[:2] and end_id not in model_folder.tokenizer.stop_ids
    encoding._stop_ids.add(end_id)  # as if the template ended turns with it
    encoding.end_strings = (model_folder.tokenizer.decode([end_id]).strip(),)  # this server sends what ends a text too
    here, _ = generate(model_folder, encoding, prompt, engine_config())
    address, server = served()
    there, opened_engine = generate(model_folder, encoding, prompt, engine_config("api", base_url=address), (end_id,))
    assert there.text == here.text and not here.hit_token_limit and not there.hit_token_limit
    assert end_id in server.requests[-1]["stop_token_ids"]
    _, other = generate(model_folder, encoding, prompt, engine_config("api", base_url=address))
    assert opened_engine.identity_fields != other.identity_fields  # so that kept answers are not mixed up


def test_words_that_end_a_turn_are_sent_as_a_stop_string(turns_model, served):
    model_folder, encoding, prompt, _ = turns_model(PLAIN_TEXT)
    assert encoding.end_strings == ("USER:",)
    address, server = served()
    generate(model_folder, encoding, prompt, engine_config("api", base_url=address))
    assert server.requests[-1]["stop"] == ["USER:"]


def test_a_server_that_takes_no_such_token_is_refused(turns_model, served):
    model_folder, encoding, prompt, ids = turns_model(CHATML)
    address, _ = served("strict")
    with pytest.raises(
        UserError, match=r"ends an answer with token \d+, which is no EOS, and the server takes no stop_token_ids"
    ):
        generate(model_folder, encoding, prompt, engine_config("api", base_url=address), (ids[2],))
