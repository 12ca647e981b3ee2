"""Our model behind lm-eval's interface: every answer belongs to the instance that it is the answer to."""

import pytest
from lm_eval.api.instance import Instance

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, protocols
from orca_bench.evaluate.engine.token_choice import TokenChoice
from orca_bench.evaluate.engine_interface import GeneratedText, LogLikelihood
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.harness.protocol_tasks import instances_of
from orca_bench.evaluate.harness.rolling_windows import windows_of_text
from orca_bench.evaluate.request_encoding import encoding_of_protocol
from orca_bench.evaluate.tasks import select


class SumEngine:
    """An engine whose log-probabilities follow from the ids alone."""

    def log_likelihoods(self, sequences, report_computed=None):
        return [LogLikelihood(-float(sum(sequence.token_ids) % 1000), False) for sequence in sequences]


class SeedEngine(SumEngine):
    """An engine whose texts are the seeds of their prompts, or what is greedy."""

    serves_token_choice = True

    def generate(self, prompts, stops_by_prompt, encoding, report_computed=None):
        return [
            GeneratedText(str(prompt.token_choice.seed) if prompt.token_choice else "greedy", None, False)
            for prompt in prompts
        ]


@pytest.fixture
def model_and_instances(tiny_model, mini):
    """A model, and the instances of some questions of WinoGrande."""
    (task,), protocol = select("winogrande"), protocols.protocol_by_name("leaderboard", "")
    documents = protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 6)
    model = HarnessModel(SumEngine(), encoding_of_protocol("leaderboard", tokenizers.load_tokenizer(tiny_model), 2048))
    return model, instances_of(task, protocol, documents)


def test_instances_that_were_prepared_are_not_encoded_again(model_and_instances, monkeypatch):
    model, instances = model_and_instances
    model.begin()
    expected = model.loglikelihood(instances)
    model.begin(model.prepare(instances))
    monkeypatch.setattr(model, "prepare", None)
    assert model.loglikelihood(instances) == expected


def test_a_prepared_call_of_other_instances_is_not_used(model_and_instances):
    model, instances = model_and_instances
    model.begin()
    expected = model.loglikelihood(instances)
    model.begin(model.prepare(instances))
    assert model.loglikelihood(instances[::-1]) == expected[::-1]
    model.begin(model.prepare(instances[:4]))
    assert model.loglikelihood(instances) == expected


def whole_texts(*texts):
    return [Instance("loglikelihood_rolling", {}, (text,), 0, ("task", n, 1)) for n, text in enumerate(texts)]


def generations(*contexts_and_arguments):
    return [
        Instance("generate_until", {}, arguments, 0, ("task", n, 1))
        for n, arguments in enumerate(contexts_and_arguments)
    ]


SAMPLED = {"until": "\n", "do_sample": True, "temperature": 0.7, "max_gen_toks": 4}


@pytest.fixture
def small_window_model(mini):
    """A model with the engine of seeds and a window of 12 tokens."""
    encoding = encoding_of_protocol("plain", tokenizers.load_tokenizer(mini["mini:tokenizer"]), 12)
    return HarnessModel(SeedEngine(), encoding, protocol_name="plain")


def test_the_log_probability_of_a_whole_text_is_the_sum_over_its_windows(small_window_model):
    model, texts = small_window_model, ("The cat sleeps.", "", "The dog runs in the park. " * 6, "The cat sleeps.")
    model.begin()
    responses = model.loglikelihood_rolling(whole_texts(*texts))
    for text, response in zip(texts, responses, strict=True):
        windows = windows_of_text(model.encoding, text)
        expected = sum(log_probability for log_probability, _ in model.engine.log_likelihoods(windows))
        assert response == response.answer.log_probability == expected
    assert responses[2] < responses[0] == responses[3] and len(windows_of_text(model.encoding, texts[2])) > 3


def test_repeats_of_a_sampled_text_differ_and_depend_on_nothing_else(small_window_model):
    model = small_window_model
    first, second = generations(("The cat", SAMPLED), ("The dog", SAMPLED))
    model.begin()
    texts = model.generate_until([first, first, second, second, first])
    assert len(set(texts)) == 5
    model.begin()
    assert model.generate_until([second, first, first]) == [texts[2], texts[0], texts[1]]
    model.default_token_choice = TokenChoice(seed=99)
    assert set(model.generate_until([first, second])).isdisjoint(texts)


def test_a_prepared_call_of_other_sampling_is_not_used(small_window_model):
    model = small_window_model
    model.begin(model.prepare(generations(("The cat", {"until": "\n", "max_gen_toks": 4}))))
    (text,) = model.generate_until(generations(("The cat", SAMPLED)))
    assert text != "greedy"
    assert model.generate_until(generations(("The cat", {"max_gen_toks": 4}))) == ["greedy"]


def test_an_engine_that_cannot_sample_refuses_by_name(mini):
    encoding = encoding_of_protocol("plain", tokenizers.load_tokenizer(mini["mini:tokenizer"]), 512)
    with pytest.raises(UserError, match="task document 0 request 0: its text is sampled"):
        HarnessModel(SumEngine(), encoding).generate_until(generations(("The cat", SAMPLED)))


def test_an_argument_that_is_not_served_is_refused_with_the_request_named(small_window_model):
    with pytest.raises(UserError, match="task document 1 request 0: num_beams=3"):
        small_window_model.generate_until(generations(("a", {"max_gen_toks": 2}), ("b", {"num_beams": 3})))


def test_texts_without_tokens_have_the_log_probability_zero(small_window_model):
    small_window_model.encoding.uses_bos = False
    assert small_window_model.loglikelihood_rolling(whole_texts("", "")) == [0.0, 0.0]
