"""Our model behind lm-eval's interface: every answer belongs to the instance that it is the answer to."""

import pytest

from orca_bench import tokenizers
from orca_bench.evaluate import benchmark_rows, protocols
from orca_bench.evaluate.engine_interface import LogLikelihood
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.harness.protocol_tasks import instances_of
from orca_bench.evaluate.request_encoding import encoding_of_protocol
from orca_bench.evaluate.tasks import select


class SumEngine:
    """An engine whose log-probabilities follow from the ids alone."""

    def log_likelihoods(self, sequences, report_computed=None):
        return [LogLikelihood(-float(sum(sequence.token_ids) % 1000), False) for sequence in sequences]


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
