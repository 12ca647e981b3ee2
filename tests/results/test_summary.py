"""A task's value, error and counts from its questions."""

import pytest

from orca_bench.results.models import Question
from orca_bench.results.summary import compute_averages, score_interval, summarize_overlap, summarize_task
from orca_bench.results.task_results import SubjectResult, TaskResult
from orca_bench.stats.estimates import normal_interval, wilson_interval
from orca_bench.suite import TASK_BY_NAME


def question(part, row, score, **more):
    return Question(task=part, index=row, row=row, score=score, answers=["x"], **more)


def test_mmlu_is_the_plain_mean_of_its_subjects():
    questions = [question("mmlu_law", row, 1.0) for row in range(3)] + [question("mmlu_art", 3, 0.0)]
    entry = summarize_task(TASK_BY_NAME["mmlu"], questions)
    assert entry.value == 0.5 and entry.n == 4
    assert {name: (subject.value, subject.n) for name, subject in entry.subjects.items()} == {
        "law": (1.0, 3),
        "art": (0.0, 1),
    }


def test_texts_that_reached_their_limit_and_scores_with_discarded_tokens_are_counted():
    questions = [question("gsm8k", 0, 0.0, ran_out=[True], whole_score=1.0), question("gsm8k", 1, 0.0, ran_out=[False])]
    entry = summarize_task(TASK_BY_NAME["gsm8k"], questions)
    assert entry.ran_out == 1 and entry.whole.questions == 1
    assert entry.whole.value == pytest.approx(0.5)


def test_an_average_without_one_of_its_tasks_has_no_value():
    entry = summarize_task(TASK_BY_NAME["gsm8k"], [question("gsm8k", row, 1.0) for row in range(2)])
    assert {average.value for average in compute_averages({"gsm8k": entry}).values()} == {None}


def test_a_score_without_an_interval_gets_that_of_its_error_or_of_its_independent_questions():
    entry = TaskResult(title="DROP", metric="f1", value=0.0, n=100, clusters=10)
    assert score_interval(entry) == wilson_interval(0.0, 10)
    assert score_interval(SubjectResult(value=1.0, n=10)) == wilson_interval(1.0, 10)
    assert score_interval(entry.model_copy(update={"stderr": 0.1})) == normal_interval(0.0, 0.1, 0.0)
    assert score_interval(entry.model_copy(update={"interval": (0.2, 0.3)})) == (0.0, 0.3)


def test_mmlu_without_overlapping_questions_is_the_mean_of_the_subjects_that_have_others():
    overlapping = [question("mmlu_law", row, 1.0, overlap=1.0) for row in range(2)]
    others = [question("mmlu_law", 2, 0.0), question("mmlu_law", 3, 0.0), question("mmlu_art", 4, 1.0)]
    gone = [question("mmlu_sea", 5, 1.0, overlap=0.9)]
    overlap = summarize_overlap(TASK_BY_NAME["mmlu"], [*overlapping, *others, *gone], "e" * 64)
    assert overlap.questions == 3 and overlap.without.value == 0.5 and overlap.relatives == 0
    own = summarize_task(TASK_BY_NAME["mmlu"], others)
    assert (overlap.without.stderr, overlap.without.interval) == (own.stderr, own.interval)


def test_relatives_are_counted_apart_and_stay_in_the_value():
    questions = [question("gsm8k", 0, 1.0, overlap=1.0), question("gsm8k", 1, 0.0, relative=0.8)]
    overlap = summarize_overlap(TASK_BY_NAME["gsm8k"], questions, "e" * 64)
    assert (overlap.questions, overlap.relatives, overlap.without.value) == (1, 1, 0.0)
    assert summarize_overlap(TASK_BY_NAME["gsm8k"], questions[:1], "e" * 64).without is None
