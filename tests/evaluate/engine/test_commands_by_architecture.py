"""Architectures under the commands: the path is reported, windows are checked, every kind of cache generates."""

import json
from types import SimpleNamespace

import architectures
import pytest

from orca_bench import tokenizers
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.models.model_folder import ModelFolder
from orca_bench.train import student_model


def model_folder(name, tokenizer_file, folder):
    tokenizer = tokenizers.load_tokenizer(tokenizer_file)
    model = architectures.tiny(architectures.configuration(name, tokenizer.vocab_size))
    student_model.save_model(model, tokenizer, folder, {})
    return folder


@pytest.mark.parametrize(
    ("name", "path", "line"),
    [
        ("gemma2", "tree", None),
        (
            "mamba",
            "plain",
            "answers are computed by plain forward passes, which is slower, because its attention does not",
        ),
    ],
)
def test_the_way_is_said_once_and_stands_in_the_result(name, path, line, mini, command, tmp_path):
    folder = model_folder(name, mini["mini:tokenizer"], tmp_path / name)
    words = ["eval", "--model", folder, "--tasks", "arc_challenge,gsm8k", "--limit", "1", "--protocol", "leaderboard"]
    process = command(*words, "--benchmarks", mini["mini:benchmarks"])
    assert process.returncode == 0, process.stderr
    spoken = process.stdout + process.stderr
    if line is None:
        assert "plain forward passes" not in spoken
    else:
        assert " ".join(spoken.split()).count(line) == 1
    (result,) = (tmp_path / "runs" / name / "results").glob("*limit1.json")
    engine = json.loads(result.read_text())["model"]["engine"]
    assert engine["path"] == path and ("reason" in engine) == (path == "plain")


def test_training_examples_longer_than_the_base_models_window_are_refused(tiny_model, mini, command):
    recipe = {
        "name": "long",
        "model": {"base": str(tiny_model)},
        "data": {"records": [str(mini["mini:records"])], "max_length": 1025},
    }
    path = command.folder / "long.yaml"
    path.write_text(json.dumps(recipe))
    line = command.refused("train", path, "--dry-run")
    assert "data.max_length" in line and "1025" in line and "1024" in line


@pytest.mark.parametrize("name", ["falcon", "gpt2", "jamba", "mamba", "openai-gpt", "rwkv"])
def test_generate_answers_with_every_kind_of_cache(name, mini, tmp_path):
    from orca_bench.serve.sampling import Sampling
    from orca_bench.serve.text_generation import Generator

    generator = Generator(ModelFolder(str(model_folder(name, mini["mini:tokenizer"], tmp_path / name))))
    generator.tokenizer = SimpleNamespace(stop_ids=())  # whatever is likeliest, the answer goes on
    prompt = [5, 9, 11, 20, 7]
    token_ids = list(generator._generate_token_ids(prompt, 8, Sampling(greedy=True)))
    engine = TreeEngine(generator.model)
    engine.choose_path()
    assert token_ids == engine.generate_ids([prompt], lambda number, ids: False, 8)[0]
