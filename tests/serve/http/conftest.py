"""One server for the tests of this folder: a tiny model, four requests at a time."""

import pytest
import torch
from model_servers import serving
from transformers import AutoModelForCausalLM

from orca_bench import tokenizers


@pytest.fixture(scope="package")
def server(tiny_model, tmp_path_factory):
    with serving(tiny_model, records_folder=tmp_path_factory.mktemp("kept")) as running:
        yield running


@pytest.fixture(scope="package")
def tokenizer(tiny_model):
    return tokenizers.load_tokenizer(tiny_model)


@pytest.fixture(scope="package")
def plain_model(tiny_model):
    """The same weights in transformers."""
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


@pytest.fixture(scope="package")
def plain_scores(plain_model):
    """A function: the log-probability of each token but the first by one pass of transformers, and that of the likeliest."""

    def scores(ids):
        with torch.inference_mode():
            table = plain_model(torch.tensor([ids])).logits[0].log_softmax(-1)[:-1]
        return table.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist(), table.max(-1).values.tolist()

    return scores
