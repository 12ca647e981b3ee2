"""Two results and a task in, one line of their comparison out: the paired difference, or why there is none.

Its own module because comparison.py puts such lines together, whichever tasks they are of.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from orca_bench.report.notes import Note, NotedNumber
from orca_bench.report.overlap_text import left_out_text
from orca_bench.results.harness_summary import entry_of_metric, follows_from_questions, metric_question, question_values
from orca_bench.results.models import HarnessQuestion, Question
from orca_bench.results.reading import ResultFile
from orca_bench.results.summary import cluster_labels_of
from orca_bench.results.task_facts import report_scale
from orca_bench.results.task_results import HarnessTaskResult, TaskResult
from orca_bench.stats.detectable_losses import detectable_loss
from orca_bench.stats.distributions import two_sided_quantile
from orca_bench.stats.estimates import estimate_mean
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL
from orca_bench.stats.numbers import UNPAIRED_NUMBER_TEST, estimate_numbers, number_difference
from orca_bench.stats.paired_tests import Difference, normal_difference, paired_difference
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TaskFacts

#: The verdict on a difference that is not significant.
NO_DIFFERENCE_SHOWN = "no difference shown"

#: Why nothing of a task was compared where overlapping questions are left out and there are no others.
NO_OTHER_QUESTIONS = "all questions overlap with training records"

_SMALLEST_COMMON_SHARE = 0.1  # of the smaller result's questions


@dataclass(frozen=True)
class ComparisonLine:
    """One task or average, or a further metric of a task: the scores of base and other, and other minus base; fractions of 1.

    Numbers with a `unit` are carried as hundredths of it, so that they are shown as they are where fractions are in percent.

    `corrected_p` is the p corrected by Holm. `smallest_detectable` is the smallest true difference that the line would have
    shown four times in five, with this correction; None where it would have shown none. `has_too_few_questions` says that it
    could not have shown any at all. `difference` is None where nothing could be compared, and `note` says why. `main_name` is
    the name of the task where the line is of one of its further metrics.
    """

    name: str
    title: str
    metric: str
    base_score: float | None = None
    other_score: float | None = None
    difference: Difference | None = None
    corrected_p: float | None = None
    smallest_detectable: float | None = None
    note: str | None = None
    has_too_few_questions: bool = False
    unit: str = ""
    higher_is_better: bool = True
    main_name: str = ""

    @property
    def p(self) -> float | None:
        """The corrected p, or the p of the line alone where none was corrected; None where nothing was compared."""
        return self.difference.p if self.corrected_p is None and self.difference is not None else self.corrected_p

    @property
    def is_average(self) -> bool:
        """Whether the line is a mean of tasks."""
        return self.name in AVERAGE_TITLE_BY_NAME

    @property
    def is_task(self) -> bool:
        """Whether the line is of a task, by its own metric."""
        return not self.is_average and not self.main_name

    @property
    def is_significant(self) -> bool:
        """Whether a difference is shown: better or worse, after the correction."""
        return self.difference is not None and self.p is not None and self.p < SIGNIFICANCE_LEVEL

    @property
    def verdict(self) -> str:
        """The comparison in words: better, worse, NO_DIFFERENCE_SHOWN, or why nothing was compared."""
        if self.difference is None or self.p is None:
            return self.note or "not compared"
        if not self.is_significant:
            return NO_DIFFERENCE_SHOWN
        return "better" if (self.difference.value > 0) == self.higher_is_better else "worse"


def compare_task(
    base: ResultFile, other: ResultFile, task: TaskFacts, notes: list[Note], left_out: dict[str, int] | None
) -> ComparisonLine | None:
    """The line of a task, or None where neither result has it; notes on questions that do not take part are added.

    Questions that overlap with training records are counted in `left_out` and do not take part, where that is not None.
    """
    name, title, metric = task.name, task.title, task.metric
    if name not in base.questions_by_task and name not in other.questions_by_task:
        return None
    for result_file in (base, other):
        if name not in result_file.questions_by_task:
            return ComparisonLine(name, title, metric, note=f"not in {result_file.label}")
    paired_questions = _paired_questions(base, other, task)
    if paired_questions is None:
        return ComparisonLine(name, title, metric, note="other rows")
    base_questions, other_questions = paired_questions
    common_keys = [key for key in base_questions if key in other_questions]
    smaller_count = min(len(base_questions), len(other_questions))
    if len(common_keys) < _SMALLEST_COMMON_SHARE * smaller_count or not common_keys:
        return ComparisonLine(name, title, metric, note=f"{len(common_keys)} questions in common, of {smaller_count}")
    if len(common_keys) < max(len(base_questions), len(other_questions)):
        text = f"{len(common_keys):,} questions in common, of {len(base_questions):,} and {len(other_questions):,}"
        notes.append(Note(text, "remark", (NotedNumber("", name),)))
    if left_out is not None:
        all_count = len(common_keys)
        common_keys = [
            key for key in common_keys if base_questions[key].overlap is None and other_questions[key].overlap is None
        ]
        if all_count > len(common_keys):
            left_out[name] = all_count - len(common_keys)
            notes.append(Note(left_out_text(left_out[name], all_count), "remark", (NotedNumber("", name),)))
        if not common_keys:
            return ComparisonLine(name, title, metric, note=NO_OTHER_QUESTIONS)
    return _compare_questions(
        task,
        (base.result.tasks[name], [base_questions[key] for key in common_keys]),
        (other.result.tasks[name], [other_questions[key] for key in common_keys]),
    )


_EntryQuestions: TypeAlias = tuple[TaskResult, Sequence[Question]]


def _compare_questions(task: TaskFacts, base: _EntryQuestions, other: _EntryQuestions) -> ComparisonLine:
    """The line of a task: its entry and its questions [questions] in the base and in the other result, in one order."""
    (base_entry, base_questions), (other_entry, other_questions) = base, other
    line = ComparisonLine(task.name, task.title, task.metric, unit=task.unit, higher_is_better=task.higher_is_better)
    if reason := _why_other_numbers(base_entry, other_entry, task):
        return replace(line, note=reason)
    if isinstance(base_entry, HarnessTaskResult) and not follows_from_questions(base_entry.harness.aggregation):
        return _compare_values(line, base, other, report_scale(task))
    strata = [question.task for question in base_questions] if task.is_mean_of_parts else None
    base_values, other_values = (
        question_values(base_entry, base_questions),
        question_values(other_entry, other_questions),
    )
    if task.unit:
        scale = report_scale(task)
        base_values, other_values = ([scale * value for value in values] for values in (base_values, other_values))
        difference = number_difference(base_values, other_values, strata)
        base_score = estimate_numbers(base_values, strata).value
    else:
        difference = paired_difference(base_values, other_values, cluster_labels_of(base_questions), strata)
        base_score = estimate_mean(base_values, stratum_labels=strata).value
    return replace(line, base_score=base_score, other_score=base_score + difference.value, difference=difference)


def _why_other_numbers(base_entry: TaskResult, other_entry: TaskResult, task: TaskFacts) -> str:
    """Why the scores of two entries cannot be subtracted by question, where one is of a task outside the suite; else empty."""
    if not isinstance(base_entry, HarnessTaskResult) and not isinstance(other_entry, HarnessTaskResult):
        return ""
    if _suite_metric(base_entry, task) != _suite_metric(other_entry, task):
        return f"{base_entry.metric} and {other_entry.metric}"
    numbers = [
        (entry.unit, entry.weighting, entry.harness.aggregation)
        if isinstance(entry, HarnessTaskResult)
        else ("", None, "mean")
        for entry in (base_entry, other_entry)
    ]
    if numbers[0][0] != numbers[1][0]:
        return f"other units ({numbers[0][0] or 'percent'}, {numbers[1][0] or 'percent'})"
    if numbers[0][1] != numbers[1][1]:
        return "the parts of the group do not weigh alike in both"
    return "" if numbers[0][2] == numbers[1][2] else f"{numbers[0][2]} and {numbers[1][2]} of the questions"


def _suite_metric(entry: TaskResult, task: TaskFacts) -> str:
    """The metric of an entry, by the suite's name where a log has a task of the suite by lm-eval's (`mc2` is its `acc`)."""
    facts = task.harness_facts
    if isinstance(entry, HarnessTaskResult) and facts is not None:
        filter_name = "" if facts.filter_name == "none" else f",{facts.filter_name}"
        if entry.metric == f"{facts.metric}{filter_name}":
            return task.metric
    return entry.metric


def _compare_values(
    line: ComparisonLine, base: _EntryQuestions, other: _EntryQuestions, scale: float
) -> ComparisonLine:
    """The line of values that are no mean of questions, by the standard errors of both: as of two samples of questions."""
    (base_entry, base_questions), (other_entry, other_questions) = base, other
    if not base_entry.stderr or not other_entry.stderr:
        return replace(line, note=f"{line.metric} is no mean of questions, and its error is not known")
    if (len(base_questions), len(other_questions)) != (base_entry.n, other_entry.n):
        return replace(line, note=f"{line.metric} is no mean of questions, and not all of them are in both")
    base_score, other_score = scale * base_entry.value, scale * other_entry.value
    stderr = scale * math.hypot(base_entry.stderr, other_entry.stderr)
    question_count = len(base_questions)
    difference = normal_difference(
        other_score - base_score, stderr, UNPAIRED_NUMBER_TEST, question_count, question_count
    )
    half_width = two_sided_quantile(None) * stderr
    difference = replace(difference, low=difference.value - half_width, high=difference.value + half_width)
    return replace(line, base_score=base_score, other_score=other_score, difference=difference)


def compare_further_metrics(base: ResultFile, other: ResultFile, task: TaskFacts) -> list[ComparisonLine]:
    """A line for each further metric that both results have of a task outside the suite, by the questions of both."""
    entries = base.result.tasks.get(task.name), other.result.tasks.get(task.name)
    base_entry, other_entry = entries
    if not isinstance(base_entry, HarnessTaskResult) or not isinstance(other_entry, HarnessTaskResult):
        return []
    paired_questions = _paired_questions(base, other, task)
    if paired_questions is None:
        return []
    lines = []
    for metric_name, metric in base_entry.metrics.items():
        other_metric = other_entry.metrics.get(metric_name)
        if metric_name == base_entry.metric or other_metric is None or metric.unit != other_metric.unit:
            continue
        base_questions, other_questions = (
            {
                key: scored
                for key, question in questions.items()
                if isinstance(question, HarnessQuestion)
                and (scored := metric_question(question, metric_name)) is not None
            }
            for questions in paired_questions
        )
        common_keys = [key for key in base_questions if key in other_questions]
        if not common_keys or not follows_from_questions(metric.aggregation):
            continue
        facts = replace(
            task,
            name=f"{task.name}:{metric_name}",
            title=f"{task.title} {metric_name}",
            metric=metric_name,
            unit=metric.unit,
            higher_is_better=metric.higher_is_better,
        )
        line = _compare_questions(
            facts,
            (entry_of_metric(base_entry, metric_name), [base_questions[key] for key in common_keys]),
            (entry_of_metric(other_entry, metric_name), [other_questions[key] for key in common_keys]),
        )
        if line.difference is not None:
            lines.append(replace(line, main_name=task.name))
    return lines


_QuestionsByKey: TypeAlias = dict[tuple[str | int, ...], Question]


def _paired_questions(
    base: ResultFile, other: ResultFile, task: TaskFacts
) -> tuple[_QuestionsByKey, _QuestionsByKey] | None:
    """The questions of both results by keys that mean the same in both; None where their rows are others.

    Where the rows are the same they are paired by row, else, or where a result does not know, by lm-eval's hash of each row.
    """
    base_questions, other_questions = (
        dict[tuple[str | int, ...], Question](file.questions_by_task[task.name].questions_by_key.items())
        for file in (base, other)
    )
    row_hashes = [file.result.evaluation_row_hash(task) for file in (base, other)]
    if row_hashes[0] == row_hashes[1] and row_hashes[0] is not None:
        return base_questions, other_questions
    by_document = [
        _questions_by_document(list(questions_by_key.values()))
        for questions_by_key in (base_questions, other_questions)
    ]
    if by_document[0] is not None and by_document[1] is not None:
        return by_document[0], by_document[1]
    if base.result.protocol.is_of_log != other.result.protocol.is_of_log:
        return _paired_by_number(base, other, task)
    return (base_questions, other_questions) if row_hashes[0] == row_hashes[1] else None


def _paired_by_number(
    base: ResultFile, other: ResultFile, task: TaskFacts
) -> tuple[_QuestionsByKey, _QuestionsByKey] | None:
    """The questions of a result and of another program's log of a task of the suite, by the number of the row.

    A log has no hash of the rows, so the right answers must be the same where both have the number of a choice; else None.
    """
    base_questions, other_questions = (_questions_by_number(file, task) for file in (base, other))
    for key in base_questions.keys() & other_questions.keys():
        golds = [questions[key].gold for questions in (base_questions, other_questions)]
        if all(type(gold) is int for gold in golds) and golds[0] != golds[1]:
            return None
    return base_questions, other_questions


def _questions_by_number(file: ResultFile, task: TaskFacts) -> _QuestionsByKey:
    """Questions by subject, where the task has some, and number; lm-eval numbers the rows of each subject by themselves."""
    is_numbered_by_part = file.result.protocol.name == "plain"
    return {
        (
            question.task if task.subject_column else task.name,
            question.index if is_numbered_by_part else question.row,
        ): question
        for question in file.questions_by_task[task.name].questions_by_key.values()
    }


def _questions_by_document(questions: Sequence[Question]) -> _QuestionsByKey | None:
    """Questions by part, hash of the row, and how often this stood before; None where one has no such hash."""
    counts: Counter[tuple[str, str]] = Counter()
    by_document: _QuestionsByKey = {}
    for question in questions:
        if not isinstance(question, HarnessQuestion) or question.document_sha256 is None:
            return None
        key = (question.task, question.document_sha256)
        by_document[(*key, counts[key])] = question
        counts[key] += 1
    return by_document


def detectable_difference(line: ComparisonLine, level: float) -> float | None:
    """The smallest true difference that the line's test shows at `level` four times in five, a fraction of 1.

    None where it shows none: a score rises at most to 1 and falls at most to 0.
    """
    if line.difference is None or line.base_score is None:
        return None
    smallest = detectable_loss(line.difference, level, line.base_score).smallest
    if line.unit:  # without bounds
        return smallest if math.isfinite(smallest) else None
    return smallest if smallest <= max(line.base_score, 1 - line.base_score) else None
