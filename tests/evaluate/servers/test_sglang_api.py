"""SGLang's own API on its whole way: results are those of the engine here, and what a server does instead is an error."""

import json

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.engine import tree_engine
from orca_bench.evaluate.engine_choice import open_engine
from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.request_encoding import ScoredSequence, encoding_of_protocol
from orca_bench.models.model_folder import ModelFolder


def words(model, mini, url, *more):
    eval_ = ["eval", "--model", model, "--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--out", "r.json"]
    return [*eval_, "--engine", "api", "--base-url", url, *more]


@pytest.mark.parametrize("protocol", ["leaderboard", "orca"])
def test_tasks_through_sglang_have_the_scores_of_the_engine_here(sglang, tiny_model, mini, command, protocol):
    url, server = sglang()
    eval_ = words(tiny_model, mini, url, "--tasks", "arc_challenge,mmlu,gsm8k", "--protocol", protocol)
    process = command(*eval_)
    assert process.returncode == 0, process.stderr
    own_words = [word for word in eval_[: eval_.index("--engine")] if word != "r.json"] + [
        "own.json",
        "--dtype",
        "float32",
    ]
    assert command(*own_words, *eval_[-4:]).returncode == 0
    result, own = (json.loads((command.folder / name).read_text()) for name in ("r.json", "own.json"))
    for task, entry in own["tasks"].items():
        assert result["tasks"][task]["value"] == pytest.approx(entry["value"], abs=1e-6)
    engine = result["model"]["engine"]
    assert engine["version"] == "sglang 0.5.9" and engine["window"] == 1018
    cached_tokens, prompt_tokens = (engine["prefix_cache"][f"{name}_tokens"] for name in ("cached", "prompt"))
    line = f"the server had {cached_tokens / prompt_tokens:.0%} of {prompt_tokens:,} prompt tokens in its cache so far"
    assert cached_tokens > 0 and line in " ".join((process.stdout + process.stderr).split())
    request_count = len(server.requests)
    assert command(*eval_).returncode == 0
    assert all(len(request.get("input_ids") or []) < 60 for request in server.requests[request_count:])  # the check's


def test_prompts_are_cut_to_what_sglang_takes_and_no_further(sglang, tiny_model):
    url, server = sglang(window=300)
    with open_engine(
        EngineConfig("api", base_url=url), ModelFolder(str(tiny_model)), "tiny", "auto", print
    ) as opened_engine:
        assert opened_engine.window_tokens == 294
        rule = encoding_of_protocol("leaderboard", opened_engine.tokenizer, opened_engine.window_tokens)
        rule.limit_pair_length(opened_engine.max_pair_tokens)
        request_count = len(server.requests)
        pairs = [rule.encode_pair("word " * count, "end of it") for count in (5, 280, 1100)]
        opened_engine.engine.log_likelihoods(pairs)
        prompts = [rule.encode_prompt("word " * 1100, max_new_tokens=20)]
        opened_engine.engine.generate(prompts, [[]], rule)
    assert sorted(len(request["input_ids"]) for request in server.requests[request_count:])[-3:] == [274, 293, 293]


def test_the_last_id_of_a_vocabulary_is_scored_though_sglang_echoes_it_as_0(connect, sglang, tiny_model):
    folder = ModelFolder(str(tiny_model))
    last_id = folder.config.vocab_size - 1
    sequence, engine = ScoredSequence([5, last_id, 7, last_id], 1), connect(sglang()[0])
    with pytest.raises(UserError, match=f"token id {last_id} was sent at position 1, and the server scored 0 there"):
        engine.log_likelihoods([sequence])
    assert folder.tokenizer.vocab_size == last_id + 1
    engine.check(True, folder.tokenizer.stop_ids, folder.tokenizer)
    own = tree_engine.load_engine(folder).log_likelihoods([sequence])
    assert engine.log_likelihoods([sequence])[0][0] == pytest.approx(own[0][0], abs=1e-4)


def test_a_text_that_is_broken_off_is_no_answer_and_the_same_command_goes_on(sglang, tiny_model, mini, command):
    url, _ = sglang("abort")
    process = command(*words(tiny_model, mini, url, "--tasks", "winogrande,gsm8k"))
    assert process.returncode == 2 and "Traceback" not in process.stderr
    error = process.stderr.splitlines()[-1]
    assert "the server broke a text off (abort: out of memory)" in error and "the same command goes on" in error
    assert list(json.loads((command.folder / "r.json").read_text())["tasks"]) == ["winogrande"]


def test_a_server_without_its_tokenizer_is_refused(sglang, tiny_model, mini, command):
    process = command(*words(tiny_model, mini, sglang("textless")[0], "--tasks", "gsm8k"))
    assert (
        process.returncode == 2 and "the server's answer has no text that can be read; is it SGLang" in process.stderr
    )


def test_a_model_whose_log_probabilities_are_no_numbers_is_refused_in_one_line(connect, sglang, tiny_model):
    engine, tokenizer = connect(sglang("null")[0]), ModelFolder(str(tiny_model)).tokenizer
    # The probe sends three requests at once: which answer arrives first is chance.
    with pytest.raises(UserError, match=r"the model gave nan to request [0-2]; its weights are broken"):
        engine.check(True, tokenizer.stop_ids, tokenizer)
