"""The questions that a result lost in, a line each out: which row, what it turned from and to, and what the model answered.

And those whose log-probabilities changed: which row, which answer, and its log-probability before and now.

Its own module because answers are of many kinds: a choice, one of several right ones, a number, a text, spans.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from orca_bench.counts import counted
from orca_bench.report.gate import GateReport, TaskVerdict
from orca_bench.report.gate_log_probabilities import (
    ChangedQuestion,
    TaskLogProbabilities,
    change_text,
    format_change,
)
from orca_bench.report.gate_lost_questions import LostQuestion
from orca_bench.results.models import HarnessQuestion, Question
from orca_bench.suite import TASK_BY_NAME

_MAX_ANSWER_LENGTH = 40  # characters of an answer in a line


def question_blocks(report: GateReport, max_count: int | None) -> list[list[str]]:
    """The lost questions of each task that fails, then the changed ones of each task that has some; blocks of lines.

    A block has a heading, the first `max_count` questions (None: all), and how many more there are.
    """
    blocks = [question_lines(verdict, max_count) for verdict in report.verdicts if not verdict.passed]
    blocks += [changed_question_lines(task, max_count) for task in report.log_probabilities]
    return [lines for lines in blocks if lines]


def question_lines(verdict: TaskVerdict, max_count: int | None) -> list[str]:
    """The block of the lost questions of a task; nothing for a task that lost none."""
    lines = [_question_line(question) for question in verdict.lost_questions]
    return _block(f"{verdict.title}: {counted(len(lines), 'question')} fell", lines, max_count)


def changed_question_lines(task: TaskLogProbabilities, max_count: int | None) -> list[str]:
    """The block of the questions whose log-probabilities changed by more than the rules allow; nothing where none did."""
    lines = [_changed_question_line(question) for question in task.changed_questions]
    return _block(f"{task.title}: {change_text(task)}", lines, max_count) if lines else []


def _block(heading: str, lines: Sequence[str], max_count: int | None) -> list[str]:
    if not lines or max_count == 0:
        return []
    omitted_count = 0 if max_count is None else max(0, len(lines) - max_count)
    return [heading, *(f"  {line}" for line in lines[:max_count])] + (
        [f"  … and {omitted_count} more"] if omitted_count else []
    )


def _question_line(question: LostQuestion) -> str:
    """`row 95  right → wrong   said B, right is A`."""
    before, after = question.baseline_question, question.result_question
    return (
        f"{_question_name(after)}  {_score_text(before)} → {_score_text(after)}   "
        f"said {_answer_text(after.prediction)}, right is {_gold_text(after)}"
    )


def _changed_question_line(question: ChangedQuestion) -> str:
    """`row 95  answer 2 of 4: -3.1513 → -3.2044 nats (-0.0531)`."""
    before, after = question.baseline_question.answers, question.result_question.answers
    if question.answer_index is None:
        return f"{_question_name(question.result_question)}  {len(before)} → {counted(len(after), 'answer')}"
    return (
        f"{_question_name(question.result_question)}  answer {question.answer_index + 1} of {len(after)}: "
        f"{question.baseline_log_probability:.4f} → {question.result_log_probability:.4f} nats ({format_change(question)})"
    )


def _question_name(question: Question) -> str:
    """`row 95`, in a task of parts `row 95 of anatomy`."""
    facts = TASK_BY_NAME.get(question.suite_task)
    has_parts = facts is not None and facts.subject_column is not None
    if isinstance(question, HarnessQuestion):
        has_parts = question.task != question.group
    return f"row {question.row}" + (f" of {question.subject}" if has_parts else "")


def _score_text(question: Question) -> str:
    if isinstance(question, HarnessQuestion) and not 0 <= question.score <= 1:
        return f"{question.score:.4g}"
    return {1.0: "right", 0.0: "wrong"}.get(question.score, f"{100 * question.score:.1f} %")


def _gold_text(question: Question) -> str:
    gold = question.gold
    if not isinstance(gold, Sequence) or isinstance(gold, str):
        return _answer_text(gold)
    # One of several right choices, or one of several right lists of spans.
    return " or ".join(dict.fromkeys(_answer_text(gold_answer) for gold_answer in gold)) or "none"


def _answer_text(answer: Any) -> str:
    """A choice as its letter, a text in quotes that are closed where it is cut, spans with commas between."""
    if answer is None:
        return "nothing"
    if isinstance(answer, int) and not isinstance(answer, bool):
        return string.ascii_uppercase[answer] if 0 <= answer < len(string.ascii_uppercase) else str(answer)
    if isinstance(answer, list):
        return ", ".join(map(_answer_text, answer))
    text = "".join(character if character.isprintable() else " " for character in str(answer))
    text = " ".join(text.split())
    if len(text) > _MAX_ANSWER_LENGTH:
        text = f"{text[: _MAX_ANSWER_LENGTH - 1]}…"
    return f"'{text}'" if isinstance(answer, str) else text
