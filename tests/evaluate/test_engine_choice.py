"""What a result says of the model and of the engine that answered."""

from orca_bench.evaluate.engine_choice import open_engine
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.models.model_folder import ModelFolder


def test_the_description_of_a_model_has_its_keys_in_one_order(tiny_model):
    model_folder = ModelFolder(str(tiny_model))
    with open_engine(EngineConfig(), model_folder, "n", "float32", print, needs_scores=True) as engine:
        description = engine.model_description
    first_keys = [
        "path",
        "name",
        "identity",
        "fingerprint",
        "tokenizer_sha256",
        "parameters",
        "dtype",
        "device",
        "engine",
    ]
    assert list(description)[: len(first_keys)] == first_keys
    assert description["path"] == str(tiny_model) and description["name"] == "n"
