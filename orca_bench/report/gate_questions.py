"""The questions that a result lost in, a line each out: which row, what it turned from and to, and what the model answered.

Its own module because answers are of many kinds: a choice, one of several right ones, a number, a text, spans.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from orca_bench.counts import counted
from orca_bench.report.gate import LostQuestion, TaskVerdict
from orca_bench.results.models import HarnessQuestion, Question
from orca_bench.suite import TASK_BY_NAME

_MAX_ANSWER_LENGTH = 40  # characters of an answer in a line


def question_lines(verdict: TaskVerdict, max_count: int | None) -> list[str]:
    """A heading and the first `max_count` lost questions of a task, a line each, and how many more there are.

    None means all of them; nothing is returned for a task that lost none.
    """
    questions = verdict.lost_questions
    if not questions or max_count == 0:
        return []
    lines = [f"{verdict.title}: {counted(len(questions), 'question')} fell"]
    lines += [f"  {_question_line(question)}" for question in questions[:max_count]]
    omitted_count = 0 if max_count is None else max(0, len(questions) - max_count)
    return lines + ([f"  … and {omitted_count} more"] if omitted_count else [])


def _question_line(question: LostQuestion) -> str:
    """`row 95  right → wrong   said B, right is A`."""
    before, after = question.baseline_question, question.result_question
    facts = TASK_BY_NAME.get(after.suite_task)
    has_parts = facts is not None and facts.subject_column is not None
    if isinstance(after, HarnessQuestion):
        has_parts = after.task != after.group
    subject = f" of {after.subject}" if has_parts else ""
    return (
        f"row {after.row}{subject}  {_score_text(before)} → {_score_text(after)}   "
        f"said {_answer_text(after.prediction)}, right is {_gold_text(after)}"
    )


def _score_text(question: Question) -> str:
    if isinstance(question, HarnessQuestion) and not 0 <= question.score <= 1:
        return f"{question.score:.4g}"
    return {1.0: "right", 0.0: "wrong"}.get(question.score, f"{100 * question.score:.1f} %")


def _gold_text(question: Question) -> str:
    gold = question.gold
    if not isinstance(gold, Sequence) or isinstance(gold, str):
        return _answer_text(gold)
    # One of several right choices, or one of several right lists of spans.
    return " or ".join(dict.fromkeys(_answer_text(each) for each in gold)) or "none"


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
