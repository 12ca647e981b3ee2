"""What a benchmark task is: rows in, question texts and continuations out, answers back to a score.

Each task has its own file in this folder and depends on neither prompt nor model: a protocol makes requests of its texts.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orca_bench.suite import TaskFacts

#: A benchmark row: its columns by name, as the data set has them. Each task says which columns it reads (`Task.columns`).
Row = dict[str, Any]

CHOICE_LETTERS = "ABCDE"
#: Why the right answer of a row may be missing.
HIDDEN_ANSWERS_HINT = "; a split whose answers are hidden cannot be scored"


@dataclass(frozen=True)
class Score:
    """The score of one question: `metric_value` in 0…1 under the task's metric, the model's prediction, and what is right.

    `metric_value` is never NaN. Of a task with choices, `prediction` is the index of one; `gold_answer` is one or several.
    `extra_fields` has further facts of the question by name, as a file of questions has them (another metric, the rule that
    applied).
    """

    metric_value: float
    prediction: int | str | None
    gold_answer: int | str | None | Sequence[int] | Sequence[Sequence[str]]
    extra_fields: dict[str, float | str]


@dataclass(frozen=True)
class TextRules:
    """How one protocol generates and scores a task's texts.

    A text ends at a string of `stop_strings` and has at most `default_max_new_tokens` tokens. `scoring_description` says in
    words how it is scored, `reader_warning` what a reader of the number must know; empty where the protocol says nothing.
    """

    stop_strings: tuple[str, ...]
    default_max_new_tokens: int = 256  # b281b092, models/huggingface.py, max_gen_toks
    scoring_description: str = ""
    reader_warning: str = ""


class Task(ABC):
    """One task of the suite: its facts (orca_bench/suite.py), the columns that it reads of a row, and its texts.

    Every task is a `ChoiceTask` or a `GenerationTask`.
    """

    facts: TaskFacts
    #: The columns that the task reads, with the types that their values may have.
    column_types: dict[str, type | tuple[type, ...]]
    #: Whether answers are texts.
    generates_text = False

    @property
    def name(self) -> str:
        """The task's name in commands, files and results."""
        return self.facts.name

    @property
    def title(self) -> str:
        """The task's name for people."""
        return self.facts.title

    @property
    def shots(self) -> int:
        """How many few-shot examples stand before a question."""
        return self.facts.shots

    @property
    def metric(self) -> str:
        """The name of the score."""
        return self.facts.metric

    @property
    def evaluation_split(self) -> str:
        """The split whose rows are evaluated."""
        return self.facts.evaluation_split

    @property
    def few_shot_split(self) -> str | None:
        """The split that few-shot examples come from; None where there are none."""
        return self.facts.few_shot_split

    def description(self, row: Row) -> str:
        """Text before the few-shot examples, or nothing."""
        return ""

    @abstractmethod
    def question(self, row: Row) -> str:
        """The question as the end of the context has it."""

    @abstractmethod
    def few_shot_answer(self, row: Row) -> str:
        """What follows `question` in a few-shot example; begins with a space."""

    def plain_question(self, row: Row) -> str:
        """The question as a person reads it: without the words around it, the choices and the passage."""
        return self.question(row).removeprefix("Question: ").removesuffix("\nAnswer:")

    def passage(self, row: Row) -> str:
        """The text that the question is about; empty where there is none."""
        return ""

    def cluster(self, row: Row) -> str | None:
        """A name for what several questions have in common, so that they are not independent; None where each stands alone."""
        return None

    def check_example_row(self, row: Row) -> None:
        """Raise KeyError, IndexError, ValueError, TypeError or AttributeError where a row cannot be an example."""
        self.example(row)

    def check_evaluation_row(self, row: Row) -> None:
        """Raise the same where a row cannot be a question that is scored."""
        self.check_example_row(row)

    def example(self, row: Row) -> str:
        """One few-shot example."""
        return self.question(row) + self.few_shot_answer(row)

    def few_shot_examples(self, pool: Sequence[Row], generator: random.Random) -> list[Row]:
        """The few-shot examples of the next document: a fresh sample of `pool`."""
        return generator.sample(pool, self.shots) if self.shots else []


class ChoiceTask(Task):
    """A task whose answer is the choice with the best log-probability."""

    @abstractmethod
    def choices(self, row: Row) -> list[str]:
        """The texts to choose from, without leading space."""

    @abstractmethod
    def gold(self, row: Row) -> int:
        """The index of the right choice."""

    def plain_choices(self, row: Row) -> list[str]:
        """The choices as a person reads them, where they are others than `choices`."""
        return self.choices(row)

    def few_shot_answer(self, row: Row) -> str:
        """The right choice after a space."""
        return " " + self.choices(row)[self.gold(row)]

    def check_example_row(self, row: Row) -> None:
        """As `Task.check_example_row`; ValueError also where no choice is the right one."""
        gold, choice_count = self.gold(row), len(self.choices(row))
        if not 0 <= gold < choice_count:
            raise ValueError(
                f"the right answer is choice {gold} of {choice_count}, counted from 0{HIDDEN_ANSWERS_HINT}"
            )
        self.harness_pairs(row)
        super().check_example_row(row)

    def question_continuation_pairs(self, row: Row) -> list[tuple[str, str]]:
        """(question text, continuation) of each choice; the continuation begins with a space."""
        return [(self.question(row), " " + choice) for choice in self.choices(row)]

    def harness_pairs(self, row: Row) -> list[tuple[str, str]]:
        """The pairs of the leaderboard's harness, where they are others than `question_continuation_pairs`."""
        return self.question_continuation_pairs(row)

    def harness_requests(self, row: Row, preceding_text: str) -> list[tuple[str, str]]:
        """(context, continuation) of each of `harness_pairs` after `preceding_text`: description and few-shot examples."""
        return [(preceding_text + question, continuation) for question, continuation in self.harness_pairs(row)]

    def score(self, row: Row, log_probabilities: Sequence[float]) -> Score:
        """The score of one question from the log-probabilities (nats) of its pairs, in order."""
        best_index = self.best_choice_index(row, log_probabilities)
        gold = self.gold(row)
        return Score(float(best_index == gold), best_index, gold, {})

    def harness_score(self, row: Row, log_probabilities: Sequence[float]) -> Score:
        """The score from the log-probabilities (nats) of `harness_pairs`, in order."""
        return self.score(row, log_probabilities)

    def best_choice_index(self, row: Row, log_probabilities: Sequence[float]) -> int:
        """The index of the chosen pair: the highest log-probability, the first of equals."""
        return max(range(len(log_probabilities)), key=lambda i: (log_probabilities[i], -i))


class NormalizedChoiceTask(ChoiceTask):
    """acc_norm: log-probability divided by the choice's length in characters, its leading space not counted.

    Source: lm-evaluation-harness b281b092, MultipleChoiceTask.process_results. An empty choice, whose log-probability
    that divides by zero, is never chosen. `acc`, without the division, stands beside it.
    """

    def score(self, row: Row, log_probabilities: Sequence[float]) -> Score:
        """As `ChoiceTask.score`, with `acc` in `extra_fields`."""
        score = super().score(row, log_probabilities)
        accuracy = float(super().best_choice_index(row, log_probabilities) == score.gold_answer)
        return Score(score.metric_value, score.prediction, score.gold_answer, {"acc": accuracy})

    def best_choice_index(self, row: Row, log_probabilities: Sequence[float]) -> int:
        """The index of the pair with the highest log-probability a character, the first of equals."""
        choice_lengths = [len(choice) for choice in self.choices(row)]
        return super().best_choice_index(
            row,
            [
                log_probability / length if length else -math.inf
                for log_probability, length in zip(log_probabilities, choice_lengths, strict=True)
            ],
        )


class GenerationTask(Task):
    """A task whose answer is a text that the model writes."""

    generates_text = True
    #: The leaderboard's stop strings, and its warning. EOS ends a text besides.
    leaderboard_text_rules: TextRules
    #: Those of protocol `orca`, which adds the headers of the prompt's turns to the stop strings.
    orca_text_rules: TextRules

    @abstractmethod
    def score_text(self, row: Row, text: str) -> Score:
        """The score of one question from the text that the model wrote."""

    def harness_score(self, row: Row, text: str) -> Score:
        """The score by the rule of the leaderboard's harness, where it is another."""
        return self.score_text(row, text)


def as_choice_task(task: Task) -> ChoiceTask:
    """The task, which is no `GenerationTask`; raises TypeError where it is of neither kind."""
    if not isinstance(task, ChoiceTask):
        raise TypeError(f"{task.name} has neither choices nor texts")
    return task
