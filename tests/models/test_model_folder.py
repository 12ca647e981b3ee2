"""A model folder is read once, and what it says of where it comes from is checked; it may be anybody's."""

import json
import pickle
from collections import Counter

import pytest

from orca_bench import tokenizers
from orca_bench.evaluate import evaluation
from orca_bench.evaluate.tasks import select
from orca_bench.models import architecture, weights
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_identity import folder_part_hashes
from orca_bench.models.model_loading import load_model
from orca_bench.question_limit import QuestionLimit


@pytest.fixture
def reads(monkeypatch):
    """How often the configuration, the tokenizer and the headers of the weights of any folder are read."""
    counts = Counter()

    def count(module, name):
        function = getattr(module, name)

        def counting(*arguments):
            counts[name] += 1
            return function(*arguments)

        monkeypatch.setattr(module, name, counting)

    count(architecture, "load_config")
    count(tokenizers, "load_tokenizer")
    count(weights, "check_weights")
    return counts


def test_an_evaluation_reads_each_part_of_a_model_folder_once(tiny_model, mini, tmp_path, reads):
    order = evaluation.EvaluationConfig(
        model_folder=ModelFolder(str(tiny_model)),
        model_name="tiny",
        tasks=select("truthful_qa"),
        result_paths_by_protocol={name: tmp_path / f"{name}.json" for name in ("orca", "leaderboard")},
        system_text="S",
        benchmarks_folder=mini["mini:benchmarks"],
        question_limit=QuestionLimit(2),
        dtype="float32",
    )
    results = evaluation.evaluate(order, evaluation.SilentDisplay())
    assert all(result.complete for result in results.values()) and len(results) == 2
    assert reads == {"load_config": 1, "load_tokenizer": 1, "check_weights": 1}


def test_a_copy_for_another_process_has_nothing_that_was_read_and_reads_the_same(tiny_model, reads):
    folder = ModelFolder(str(tiny_model))
    assert folder.window_tokens == 1024 and folder.tokenizer.vocab_size and folder.unused_weight_names == []
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder and vars(copy) == {
        "path": str(tiny_model),
        "commit": None,
        "gguf_path": None,
        "gptq_path": None,
    }
    assert copy.tokenizer.fingerprint == folder.tokenizer.fingerprint and copy.window_tokens == 1024
    assert reads == {"load_config": 2, "load_tokenizer": 2, "check_weights": 1}


def test_loading_the_model_leaves_the_configuration_as_it_was_read(tiny_model):
    folder = ModelFolder(str(tiny_model))
    before, hashes = folder.config.to_dict(), folder_part_hashes(folder)
    load_model(folder, "bfloat16", "auto")
    assert folder.config.to_dict() == before == architecture.load_config(tiny_model).to_dict()
    assert folder_part_hashes(folder) == hashes


@pytest.mark.parametrize(
    ("content", "origin"),
    [
        ({"run": "r", "step": 12}, {"run": "r", "step": 12}),
        ({"run": "r", "step": -1}, {"run": "r"}),
        ({"run": "r", "step": 10**13}, {"run": "r"}),
        ({"run": 5, "step": True}, {}),
        ([], {}),
    ],
)
def test_of_the_origin_of_a_model_only_what_a_run_writes_is_believed(tmp_path, content, origin):
    (tmp_path / "orca_bench.json").write_text(json.dumps(content))
    assert ModelFolder(str(tmp_path)).training_origin == origin
