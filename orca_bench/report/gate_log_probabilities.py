"""A result and its baseline in, the log-probabilities that changed out, question by question.

The score of a fixed model stays the same while its log-probabilities move: a swapped BOS rule may turn no prediction of 300
questions. Where the model is the same on both sides, every change beyond rounding is a fault of the code, and no statistics are
needed. Its own module because the rest of the gate compares scores of models that may differ.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.report.gate_rules import GateRules
from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile, TaskQuestions
from orca_bench.results.task_facts import tasks_of


@dataclass(frozen=True)
class ChangedQuestion:
    """A question with the answer whose log-probability changed most: its index, and its values, nats.

    `answer_index` is None where the two sides have another number of log-probabilities; then `change` is infinite.
    """

    baseline_question: Question
    result_question: Question
    answer_index: int | None
    baseline_log_probability: float = 0.0
    result_log_probability: float = 0.0

    @property
    def change(self) -> float:
        """The result's log-probability minus the baseline's, nats; infinite where one of them is no number."""
        change = self.result_log_probability - self.baseline_log_probability
        return math.inf if self.answer_index is None or math.isnan(change) else change


@dataclass(frozen=True)
class TaskLogProbabilities:
    """The log-probabilities of one task on both sides.

    `question_count` questions were compared; `largest_change` (nats) is that of all of them, without its sign, and
    `changed_questions` are those beyond `allowed_change` (nats), the largest change first.
    """

    name: str
    title: str
    allowed_change: float
    question_count: int
    largest_change: float
    changed_questions: list[ChangedQuestion] = field(default_factory=list)


def compare_log_probabilities(
    result: ResultFile, baselines: Sequence[ResultFile], task_names: Collection[str], rules: GateRules
) -> list[TaskLogProbabilities]:
    """The log-probabilities of each of `task_names` that both sides have; empty without the rule.

    Tasks without log-probabilities, whose answers are texts, are left out. Raises UserError where the rule is given with several
    baselines: they are other models, with other log-probabilities.
    """
    allowed_change = rules.max_log_probability_change
    if allowed_change is None:
        return []
    if len(baselines) > 1:
        raise UserError(
            f"{counted(len(baselines), 'baseline')}, and log-probabilities are compared with those of one",
            where="max_log_probability_change",
            hint="the baseline is an earlier result of the same model",
        )
    baseline = baselines[0]
    comparisons = [
        _compare_task(task.name, task.title, result_questions, baseline_questions, allowed_change)
        for task in tasks_of([result.result, baseline.result])
        if task.name in task_names
        and (result_questions := result.questions_by_task.get(task.name)) is not None
        and (baseline_questions := baseline.questions_by_task.get(task.name)) is not None
    ]
    return [comparison for comparison in comparisons if comparison.question_count]


def change_text(comparison: TaskLogProbabilities) -> str:
    """`12 of 60 questions changed by more than 0.001 nats in log-probability, the largest by -0.0531`."""
    return _change_text([comparison], "")


def changes_text(comparisons: Sequence[TaskLogProbabilities]) -> str:
    """The same of all tasks together, with the number of questions of each task; empty where none changed."""
    changed_tasks = [comparison for comparison in comparisons if comparison.changed_questions]
    if not changed_tasks:
        return ""
    counts_text = ", ".join(f"{task.title} {len(task.changed_questions):,}" for task in changed_tasks)
    return _change_text(comparisons, f" ({counts_text})")


def _change_text(comparisons: Sequence[TaskLogProbabilities], counts_text: str) -> str:
    changed_questions = [question for comparison in comparisons for question in comparison.changed_questions]
    largest = max(changed_questions, key=lambda question: abs(question.change))
    size_text = (
        "to another number of answers" if largest.answer_index is None else f"the largest by {format_change(largest)}"
    )
    question_count = sum(comparison.question_count for comparison in comparisons)
    return (
        f"{len(changed_questions):,} of {counted(question_count, 'question')}{counts_text} changed by more than "
        f"{comparisons[0].allowed_change:g} nats in log-probability, {size_text}"
    )


def unchanged_text(comparisons: Sequence[TaskLogProbabilities]) -> str:
    """What a passing gate says of the log-probabilities: how many questions were compared, and the largest change."""
    if not comparisons:
        return "no log-probabilities were compared, for the answers are texts"
    question_count = sum(comparison.question_count for comparison in comparisons)
    largest_change = max(comparison.largest_change for comparison in comparisons)
    if not largest_change:
        return f"no log-probability of {counted(question_count, 'question')} changed"
    return (
        f"the log-probabilities of {counted(question_count, 'question')} changed by less than "
        f"{comparisons[0].allowed_change:g} nats, the largest by {largest_change:.2g}"
    )


def format_change(question: ChangedQuestion) -> str:
    """The change of a question, nats, with its sign and three digits: `-0.0531`."""
    return f"{question.change:+.3g}"


def _compare_task(
    name: str, title: str, result: TaskQuestions, baseline: TaskQuestions, allowed_change: float
) -> TaskLogProbabilities:
    questions = [
        _largest_change(baseline_question, result.questions_by_key[key])
        for key, baseline_question in baseline.questions_by_key.items()
        if key in result.questions_by_key
    ]
    compared_questions = [question for question in questions if question is not None]
    changed_questions = [question for question in compared_questions if not abs(question.change) <= allowed_change]
    return TaskLogProbabilities(
        name,
        title,
        allowed_change,
        len(compared_questions),
        max((abs(question.change) for question in compared_questions), default=0.0),
        sorted(changed_questions, key=lambda question: -abs(question.change)),
    )


def _largest_change(baseline_question: Question, result_question: Question) -> ChangedQuestion | None:
    """A question's largest change; None where neither side has a log-probability."""
    before, after = _log_probabilities(baseline_question), _log_probabilities(result_question)
    if not before and not after:
        return None
    if before.keys() != after.keys():
        return ChangedQuestion(baseline_question, result_question, None)
    changes = [
        ChangedQuestion(baseline_question, result_question, index, before[index], after[index]) for index in before
    ]
    return max(changes, key=lambda question: abs(question.change))


def _log_probabilities(question: Question) -> dict[int, float]:
    """The log-probabilities of a question's answers by index, nats; texts are left out."""
    return {index: float(answer) for index, answer in enumerate(question.answers) if not isinstance(answer, str)}
