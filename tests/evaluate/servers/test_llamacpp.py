"""llama.cpp itself answers: without its rounding as the engine here does; what it cannot is refused before it starts."""

import contextlib
import dataclasses
import json
import sys

import psutil
import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from displays import Lines  # noqa: E402
from gguf_copies import copy_gguf  # noqa: E402
from tiny_llamas import make_model  # noqa: E402

from orca_bench.errors import NotFinite, UserError  # noqa: E402
from orca_bench.evaluate import evaluation, request_encoding  # noqa: E402
from orca_bench.evaluate.config_building import engine_config, evaluation_config  # noqa: E402
from orca_bench.evaluate.engine import prefix_tree, tree_engine  # noqa: E402
from orca_bench.evaluate.request_encoding import GenerationPrompt, ScoredSequence  # noqa: E402
from orca_bench.evaluate.servers import llamacpp  # noqa: E402
from orca_bench.models.gguf.gguf_export import export_gguf  # noqa: E402
from orca_bench.models.gguf.llamacpp_server import GREEDY_OPTIONS, LlamaCppSettings  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402
from orca_bench.models.model_warnings import is_bits_warning  # noqa: E402

WINDOW = 2048
#: As exact as llama.cpp computes.
EXACT = LlamaCppSettings(WINDOW, cache_type="f32", uses_flash_attention=False, thread_count=1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory, mini):
    """A model folder of a window that is longer than the engine's first context."""
    folder = tmp_path_factory.mktemp("llamacpp") / "model"
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 2, "max_position_embeddings": WINDOW}
    return make_model(folder, mini["mini:tokenizer"], **shape)


@pytest.fixture(scope="module")
def gguf_file(llama):
    """The model as a file in float32."""
    export_gguf(ModelFolder(str(llama)), llama.parent / "tiny.gguf", "f32")
    return llama.parent / "tiny.gguf"


@pytest.fixture(scope="module")
def own_engine(llama):
    """The engine of this process with the model."""
    return tree_engine.load_engine(ModelFolder(str(llama)))


@pytest.fixture(scope="module")
def connect(llama):
    """A factory of engines that have llama.cpp run a file of the model; each ends with the tests of this module."""
    folder = ModelFolder(str(llama))
    with contextlib.ExitStack() as engines:

        def make(path, settings=EXACT, tokenizer=None):
            engine = llamacpp.LlamaCppEngine(path, tokenizer or folder.tokenizer, folder.config.vocab_size, settings)
            return engines.enter_context(contextlib.closing(engine))

        yield make


@pytest.fixture(scope="module")
def exact_engine(connect, gguf_file):
    """llama.cpp with the file in float32, rounding nothing."""
    return connect(gguf_file)


@pytest.fixture
def evaluate(gguf_file, mini, tmp_path):
    """Evaluate the file on the mini suite; returns the result, the questions and what was said."""

    def run(tasks, protocol="orca", engine=None, model=gguf_file, display=None):
        config = evaluation_config(
            str(model),
            tmp_path,
            tasks=tasks,
            protocol=protocol,
            limit=4,
            benchmarks=mini["mini:benchmarks"],
            engine=engine or engine_config("llamacpp", kv_cache="f32"),
            max_new_tokens=["gsm8k=24", "drop=24"],
        )
        display = display or Lines()
        result = evaluation.evaluate(config, display)[protocol]
        path = config.result_paths_by_protocol[protocol].with_suffix(".questions.jsonl")
        return result, [json.loads(line) for line in path.read_text().splitlines()], display.lines

    return run


def own_servers():
    """The processes of llama.cpp that this one has started."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "llamacpp_process.py" in " ".join(child.cmdline())
    ]


def test_scores_of_one_token_are_those_of_the_engine_here(exact_engine, own_engine, monkeypatch):
    first = own_engine.generate_ids([[1, 5, 9]], lambda n, ids: False, 1)[0][0]
    sequences = [ScoredSequence([1, 5, 9, n], 3) for n in (10, 11, first)] + [ScoredSequence([4, 8], 1)]
    counts = []
    expected = own_engine.log_likelihoods(sequences)
    for listed_count in (3, 10**9):  # the rest of the vocabulary is listed where a score is not among the first
        monkeypatch.setattr(llamacpp, "_LISTED_TOKENS", listed_count)
        answers = exact_engine.log_likelihoods(sequences, counts.append)
        assert [a.is_greedy for a in answers] == [a.is_greedy for a in expected] == [False, False, True, False]
        for answer, own_answer in zip(answers, expected, strict=True):
            assert answer.log_probability == pytest.approx(own_answer.log_probability, abs=1e-4)
    assert sum(counts) == 2 * prefix_tree.count_distinct_tokens(sequences)


@pytest.mark.parametrize("protocol_name", ["orca", "leaderboard"])
def test_texts_are_those_of_the_engine_here(exact_engine, own_engine, protocol_name):
    tokenizer = exact_engine._tokenizer
    encoding = request_encoding.encoding_of_protocol(protocol_name, tokenizer, WINDOW)
    texts = [f"Where does the {animal} live?" for animal in ("frog", "bee", "cow")]
    long_ids = (tokenizer.encode(" ".join(texts)) * 100)[:1400]  # longer than the context at the start
    prompts = [GenerationPrompt(tokenizer.encode(text), 20, index) for index, text in enumerate(texts)]
    prompts += [GenerationPrompt(long_ids, 12)]
    own_texts = own_engine.generate(prompts, [[]] * 4, encoding)
    stop_string = own_texts[0].text[4:6]  # one that comes
    stops_by_prompt = [[stop_string], [], ["e", stop_string], []]
    expected = own_engine.generate(prompts, stops_by_prompt, encoding)
    counts = []
    assert exact_engine.generate(prompts, stops_by_prompt, encoding, counts.append) == expected
    assert sum(counts) == 4 and {text.hit_token_limit for text in expected} == {True, False}


def test_a_text_goes_on_where_only_llamacpp_would_end_it(connect, own_engine, gguf_file, tmp_path, exact_engine):
    tokenizer = exact_engine._tokenizer
    encoding = request_encoding.encoding_of_protocol("orca", tokenizer, WINDOW)
    prompt_ids = tokenizer.encode("Where does the frog live?")
    third_id = own_engine.generate_ids([prompt_ids], lambda n, ids: False, 12)[0][2]
    copy_gguf(gguf_file, tmp_path / "m.gguf", {"tokenizer.ggml.eot_token_id": third_id})
    engine = connect(tmp_path / "m.gguf")
    request = GREEDY_OPTIONS | {"prompt": prompt_ids, "n_predict": 12, "return_tokens": True}
    assert len(engine._server_for(32).post("/completion", request)["tokens"]) <= 3  # so llama.cpp itself
    prompts = [GenerationPrompt(prompt_ids, 12)]
    assert engine.generate(prompts, [[]], encoding) == own_engine.generate(prompts, [[]], encoding)


def record_cached_counts(engine, monkeypatch):
    """A list that gets, for each completion of an engine, how many ids of the prompt llama.cpp had in its cache."""
    server, cached_counts = engine._server_for(1), []
    post = server.post

    def record(path, request):
        answer = post(path, request)
        cached_counts.append(answer["timings"]["cache_n"])
        return answer

    monkeypatch.setattr(server, "post", record)
    return cached_counts


def test_the_same_requests_have_the_same_answers_whatever_came_before(
    connect, llama, tmp_path, exact_engine, monkeypatch
):
    export_gguf(ModelFolder(str(llama)), tmp_path / "m.gguf", "q4_0")
    tokenizer = exact_engine._tokenizer
    encoding = request_encoding.encoding_of_protocol("orca", tokenizer, WINDOW)
    engine = connect(tmp_path / "m.gguf", dataclasses.replace(EXACT, cache_type="f16", uses_flash_attention=True))
    ids = tokenizer.encode("Where does the frog live? In the pond. Where does the bee live? In the hive.")
    sequences = [ScoredSequence([*ids, n], len(ids)) for n in range(10, 20)]
    prompts = [GenerationPrompt(ids, 8), GenerationPrompt(ids[:-4], 8)]
    scores, texts = engine.log_likelihoods(sequences), engine.generate(prompts, [[], []], encoding)
    engine.generate([GenerationPrompt(ids[:-9], 30)], [[]], encoding)
    cached_counts = record_cached_counts(engine, monkeypatch)
    assert engine.log_likelihoods(sequences) == scores
    assert cached_counts[0] == 0  # though the cache has the beginning of it
    engine.log_likelihoods([ScoredSequence(ids[:15], 14)])
    cached_counts.clear()
    assert engine.generate(prompts, [[], []], encoding) == texts
    # The second text has what it shares with the first; 14 ids are in the cache before both.
    assert cached_counts[0] == 0 and cached_counts[1] >= len(ids) - 4


def test_a_context_is_computed_from_where_it_leaves_the_one_before(exact_engine, monkeypatch):
    cached_counts = record_cached_counts(exact_engine, monkeypatch)
    examples = list(range(5, 45))
    contexts = [[*examples, 60, 61], [*examples, 70, 71, 72]]
    sequences = [ScoredSequence([*ids, letter], len(ids)) for ids in contexts for letter in (8, 9)]
    monkeypatch.setattr(llamacpp, "_LISTED_TOKENS", 10**9)
    exact_engine.log_likelihoods(sequences)
    assert cached_counts == [0, len(examples)]  # one request for all letters of a question
    cached_counts.clear()
    monkeypatch.setattr(llamacpp, "_LISTED_TOKENS", 1)  # where a letter is not listed, only the list is made again
    exact_engine.log_likelihoods(sequences)
    assert cached_counts == [0, len(contexts[0]) - 1, len(examples), len(contexts[1]) - 1]


def test_several_requests_at_a_time_are_said():
    assert len(llamacpp.difference_sentences(EXACT, 0, 200)) == 1
    sentences = llamacpp.difference_sentences(dataclasses.replace(EXACT, slot_count=4), 0, 200)
    assert len(sentences) == 2 and "4 texts are generated at a time" in sentences[1] and "other texts" in sentences[1]


def test_several_tokens_and_numbers_that_are_none_are_refused(exact_engine, monkeypatch):
    with pytest.raises(UserError, match="an answer has 2 tokens, and llama.cpp's server tells"):
        exact_engine.log_likelihoods([ScoredSequence([1, 5, 9, 8], 2)])
    broken = {"completion_probabilities": [{"top_logprobs": [{"id": 9, "logprob": None}]}]}  # NaN in JSON
    server = exact_engine._server_for(1)
    monkeypatch.setattr(server, "post", lambda path, request: broken)
    with pytest.raises(NotFinite):
        exact_engine.log_likelihoods([ScoredSequence([1, 5, 9], 2)])
    monkeypatch.setattr(server, "post", lambda path, request: {"content": ""})
    with pytest.raises(UserError, match="tells no probabilities"):
        exact_engine.log_likelihoods([ScoredSequence([1, 5, 9], 2)])


def test_other_token_ids_are_counted_and_said(connect, exact_engine, gguf_file, byte_level):
    assert exact_engine.count_texts_with_other_ids() == (0, 200)
    from orca_bench.tokenizers import load_tokenizer

    differing_count, text_count = connect(gguf_file, tokenizer=load_tokenizer(byte_level)).count_texts_with_other_ids()
    assert differing_count > 100
    sentences = llamacpp.difference_sentences(EXACT, differing_count, text_count)
    assert len(sentences) == 2 and f"other token ids of {differing_count} of 200" in sentences[1]


def test_interrupting_ends_llamacpp_at_once(connect, gguf_file, exact_engine):
    engine = connect(gguf_file, dataclasses.replace(EXACT, slot_count=2))
    encoding = request_encoding.encoding_of_protocol("orca", exact_engine._tokenizer, WINDOW)

    def interrupt(count):
        raise KeyboardInterrupt

    prompts = [GenerationPrompt([1, 5, n], 40 * n) for n in range(1, 9)]
    before = len(own_servers())
    with pytest.raises(KeyboardInterrupt):
        engine.generate(prompts, [[]] * 8, encoding, interrupt)
    assert len(own_servers()) == before
    assert len(engine.generate(prompts[:3], [[]] * 3, encoding)) == 3  # it starts again
    assert len(own_servers()) == before + 1


@pytest.mark.parametrize("protocol", ["leaderboard", "orca", "plain"])
def test_tasks_have_the_result_of_the_engine_here(evaluate, protocol):
    result, questions, lines = evaluate("mmlu,gsm8k,drop", protocol)
    own_result, own_questions, _ = evaluate("mmlu,gsm8k,drop", protocol, engine_config("hf"))
    assert list(result.tasks) == ["mmlu", "gsm8k", "drop"] and result.requests_sha256 == own_result.requests_sha256
    for question, own_question in zip(questions, own_questions, strict=True):
        assert {**question, "answers": None} == {**own_question, "answers": None}
        for answer, own_answer in zip(question["answers"], own_question["answers"], strict=True):
            assert answer == (own_answer if isinstance(own_answer, str) else pytest.approx(own_answer, abs=1e-4))
    assert [entry.value for entry in result.tasks.values()] == [entry.value for entry in own_result.tasks.values()]
    model, own_model = result.model, own_result.model
    assert (model.name, own_model.name) == ("tiny-llamacpp", "tiny")  # each has a folder of its own
    assert (model.dtype, model.device, model.bits) == ("F32", "cpu", 32.0)
    assert not any(map(is_bits_warning, model.warnings))  # the file's weights are not quantised
    assert (model.path, model.parameters) == (own_model.path, own_model.parameters)
    engine = model.engine
    assert engine.name == "llamacpp" and engine.version and len(engine.differences) == 1
    assert engine.settings.pop("threads") >= 1
    assert engine.settings == {"kv_cache": "f32", "flash_attention": "off", "slots": 1}
    if protocol == "orca":
        assert any("is loading" in line for line in lines)
        _, again, lines = evaluate("mmlu,gsm8k,drop", protocol)
        assert again == questions and sum("were cached by an earlier run" in line for line in lines) == 3
        other, _, lines = evaluate("mmlu", protocol, engine_config("llamacpp", kv_cache="bf16"))
        assert (
            not any("were cached" in line for line in lines) and "cached as bf16" in other.model.engine.differences[1]
        )


def test_a_model_in_shards_is_run_by_the_name_of_any(evaluate, gguf_file, tmp_path):
    copy_gguf(gguf_file, tmp_path / "m.gguf", split_max_tensors=8)
    shards = sorted(tmp_path.glob("m-*.gguf"))
    result, questions, _ = evaluate("gsm8k", model=shards[1])
    assert len(shards) > 2 and result.complete and questions == evaluate("gsm8k")[1]


def test_a_llamacpp_that_dies_costs_no_answer(evaluate):
    others = own_servers()  # of this module's engines

    class Killer(Lines):
        """A display that kills llama.cpp when the second task begins."""

        def begin(self, task, protocol_name):
            if task.name == "gsm8k":
                for process in own_servers():
                    if process not in others:
                        process.kill()

    with pytest.raises(
        UserError, match="llama.cpp was ended by signal 9.*the same command goes on from there; its log: /"
    ):
        evaluate("mmlu,gsm8k", display=Killer())
    assert own_servers() == others
    result, _, lines = evaluate("mmlu,gsm8k")
    assert result.complete and sum("were cached by an earlier run" in line for line in lines) == 1
    assert own_servers() == others


def test_letters_of_several_tokens_are_refused_before_anything_is_computed(evaluate, tmp_path, sentencepiece_models):
    shape = {"hidden_size": 64, "intermediate_size": 128}
    model = make_model(tmp_path / "model", sentencepiece_models["no_prefix"], **shape)
    export_gguf(ModelFolder(str(model)), tmp_path / "m.gguf", "f32")
    with pytest.raises(UserError, match="an answer of MMLU under leaderboard has 2 tokens, and llama.cpp's server"):
        evaluate("mmlu", "leaderboard", model=tmp_path / "m.gguf")


def test_keys_and_values_of_a_type_that_does_not_fit_the_heads_are_named(connect, gguf_file):
    engine = connect(gguf_file, dataclasses.replace(EXACT, cache_type="q8_0", uses_flash_attention=True))
    with pytest.raises(
        UserError, match="keys and values in q8_0 .*K cache type q8_0 with block size 32 does not divide"
    ):
        engine.log_likelihoods([ScoredSequence([1, 5, 9], 2)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tasks": "all"},
            "no log-probabilities of a prompt's tokens, and the scores of ARC-Challenge, HellaSwag, .* need them",
        ),
        (
            {"tasks": "gsm8k,winogrande"},
            "and the scores of Winogrande need them; --tasks mmlu,gsm8k,drop can be run by it",
        ),
        ({"dtype": "float32"}, "--dtype: llama.cpp computes with the file's own types"),
        ({"model": "folder"}, "llama.cpp runs a GGUF file, and this is none; orca-bench export DIR --gguf f16"),
        ({"model": "owner/name"}, "owner/name: llama.cpp runs a GGUF file"),
        ({"package": None}, "--engine llamacpp needs the package xllamacpp; install it: pip install 'orca-bench"),
    ],
)
def test_what_llamacpp_cannot_is_refused_before_it_starts(
    options, message, gguf_file, llama, mini, tmp_path, monkeypatch
):
    if "package" in options:
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
    model = {"folder": str(llama), None: str(gguf_file)}.get(options.get("model"), options.get("model"))
    with pytest.raises(UserError, match=message):
        evaluation_config(
            model,
            tmp_path,
            tasks=options.get("tasks", "mmlu"),
            dtype=options.get("dtype", "auto"),
            benchmarks=mini["mini:benchmarks"],
            engine=engine_config("llamacpp"),
        )
