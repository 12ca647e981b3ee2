"""What a configuration says: the context window under its many names, and why it is no causal model of text."""

import json

import pytest
from transformers import AutoConfig

from orca_bench.errors import UserError
from orca_bench.models import architecture
from orca_bench.models.model_folder import ModelFolder


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"model_type": "gpt2", "n_positions": 77}, 77),
        ({"model_type": "mpt", "max_seq_len": 78}, 78),
        ({"model_type": "bloom", "seq_length": 79}, 79),
        ({"model_type": "bloom"}, 2048),
        ({"model_type": "mamba"}, 2048),
        ({"model_type": "openai-gpt", "n_positions": 80}, 80),
        ({"model_type": "llama4", "text_config": {"max_position_embeddings": 81}}, 81),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        (
            {
                "model_type": "llama",
                "max_position_embeddings": 82,
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            },
            82,
        ),
    ],
)
def test_the_context_window_has_many_names(options, tokens):
    options = dict(options)
    assert architecture.context_window_tokens(AutoConfig.for_model(options.pop("model_type"), **options)) == tokens


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bert", "encoder, unless"),
        ("xlnet", "not causal"),
        ("bart", "an encoder and a decoder"),
        ("t5", "an encoder and a decoder"),
        ("whisper", "an encoder and a decoder"),
        ("gemma3", "pictures or sounds"),
        ("git", "pictures or sounds"),
        ("clip", "no causal language model"),
    ],
)
def test_what_is_no_causal_model_of_text_is_refused_by_its_configuration(kind, reason, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(UserError, match=reason):
        ModelFolder(str(tmp_path)).check_model()


def test_a_tokenizer_with_more_ids_than_the_model_takes_is_refused(tiny_model):
    tokenizer = ModelFolder(str(tiny_model)).tokenizer
    id_count = tokenizer.min_model_vocab_size
    architecture.check_vocabulary(tokenizer, id_count, "t", "hint")
    message = f"t: the tokenizer has {id_count} ids and the model takes {id_count - 1}; hint"
    with pytest.raises(UserError, match=message):
        architecture.check_vocabulary(tokenizer, id_count - 1, "t", "hint")
