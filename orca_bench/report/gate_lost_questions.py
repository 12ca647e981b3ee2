"""A result and its baseline in, the questions whose score fell out.

Its own module because what is a fall depends on the metric, while the gate judges differences of means.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_results import HarnessTaskResult
from orca_bench.stats.log_likelihoods import LOG_LIKELIHOOD_AGGREGATIONS


@dataclass(frozen=True)
class LostQuestion:
    """A question whose score fell, as the baseline and as the result have it."""

    baseline_question: Question
    result_question: Question


def lost_questions_of(result: ResultFile, baseline: ResultFile, name: str) -> list[LostQuestion]:
    """The questions of one task of the result, in the order of the baseline."""
    baseline_questions = baseline.questions_by_task[name].questions_by_key if name in baseline.questions_by_task else {}
    result_questions = result.questions_by_task[name].questions_by_key
    sign = _better_score_sign(result, name)
    return [
        LostQuestion(baseline_questions[question_key], result_questions[question_key])
        for question_key in baseline_questions
        if question_key in result_questions
        and sign * result_questions[question_key].score < sign * baseline_questions[question_key].score
    ]


def _better_score_sign(result: ResultFile, name: str) -> int:
    """1 where a question's score is better the higher it is, as a log-likelihood is whatever its perplexity; else -1."""
    entry = result.result.tasks.get(name)
    if not isinstance(entry, HarnessTaskResult) or entry.higher_is_better:
        return 1
    return 1 if entry.harness.aggregation in LOG_LIKELIHOOD_AGGREGATIONS else -1
