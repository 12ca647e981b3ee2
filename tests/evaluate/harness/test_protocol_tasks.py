"""A protocol's documents in lm-eval's evaluator: each question is scored once, and nothing is looked up by its text."""

import logging

import lm_eval.api.task
import pytest
from harness_models import NumberedAnswers

from orca_bench.evaluate import benchmark_rows, protocols
from orca_bench.evaluate.harness.protocol_tasks import instances_of, run_documents
from orca_bench.evaluate.tasks import select


@pytest.fixture
def score_calls(monkeypatch):
    """The (task, index) of each document that a protocol is asked to score."""
    calls = []
    for protocol in (protocols.Orca, protocols.Leaderboard):

        def counted(self, task, document, answers, score=protocol.score):
            calls.append((document.part_name, document.document_index))
            return score(self, task, document, answers)

        monkeypatch.setattr(protocol, "score", counted)
    return calls


@pytest.mark.parametrize("name", ["mmlu", "gsm8k"])
def test_each_question_is_scored_once_from_the_answers_to_its_own_requests(mini, score_calls, name):
    (task,) = select(name)
    protocol = protocols.protocol_by_name("orca", "S")
    documents = protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 3)
    repeated = [*documents, *documents]  # the same strings twice: only their places tell them apart
    numbered = [
        protocols.Document(
            d.part_name, sum(e.part_name == d.part_name for e in repeated[:n]), d.row_index, d.row, d.requests
        )
        for n, d in enumerate(repeated)
    ]
    numbered.sort(key=lambda d: d.part_name)
    outcome = run_documents(NumberedAnswers(), task, protocol, numbered)
    assert [(q.task, q.index, q.row) for q in outcome.questions] == [
        (d.part_name, d.document_index, d.row_index) for d in numbered
    ]
    assert score_calls == [(d.part_name, d.document_index) for d in numbered]
    values = [answer for question in outcome.questions for answer in question.answers]
    count = sum(len(d.requests) for d in numbered)
    assert values == ([f"#### {n}" for n in range(count)] if task.generates_text else [-float(n) for n in range(count)])
    if task.generates_text:
        assert [q.ran_out[0] for q in outcome.questions] == [n % 2 == 0 for n in range(count)]
    scores = [question.score for question in outcome.questions]
    reported = [
        value
        for result in outcome.lm_eval["results"].values()
        for key, value in result.items()
        if key == f"{task.metric},none"
    ]
    assert sum(reported) / len(reported) == pytest.approx(sum(scores) / len(scores))


def test_the_instances_of_a_task_are_those_that_lm_eval_hands_to_the_model(mini):
    (task,) = select("mmlu")
    protocol = protocols.protocol_by_name("leaderboard", "")
    documents = protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), 2)
    handed = []

    class Recorder(NumberedAnswers):
        def loglikelihood(self, requests, disable_tqdm=True):
            handed.extend(requests)
            return super().loglikelihood(requests)

    run_documents(Recorder(), task, protocol, documents)
    ahead = instances_of(task, protocol, documents)
    assert [(i.request, i.metadata, i.idx) for i in ahead] == [(i.request, i.metadata, i.idx) for i in handed]
    assert [i.request for i in handed] == [request for d in documents for request in d.requests]


def test_lm_evals_own_task_class_still_takes_no_configuration(caplog):
    """Fails when `ProtocolTask` may leave its configuration to lm-eval's own `__init__`."""

    class Bare(lm_eval.api.task.Task):
        def download(self, *arguments, **options): ...
        def has_training_docs(self): ...
        def has_validation_docs(self): ...
        def has_test_docs(self): ...
        def doc_to_text(self, doc): ...
        def doc_to_target(self, doc): ...
        def construct_requests(self, doc, ctx, **options): ...
        def process_results(self, doc, results): ...
        def aggregation(self): ...
        def higher_is_better(self): ...

    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    config = {"task": "name", "output_type": "multiple_choice"}
    task = Bare(config=config)
    assert task.config.task == config
