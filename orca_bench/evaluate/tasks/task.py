"""What a benchmark task is: rows in, question texts and continuations out, answers back to a score.

Each task stands in a file of its own beside this one and knows neither prompt nor model: a protocol decides how its texts
become requests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.suite import TaskFacts

LETTERS = "ABCDE"
#: Why the right answer of a row may be missing.
HIDDEN = "; a split whose answers are hidden cannot be scored"


@dataclass(frozen=True)
class Score:
    """The score of one question: `value` in 0…1 under the task's metric, what the model said, what is right.

    `value` is nan-free; `extra` holds further facts of the question that a reader may want (which rule applied, em).
    """

    value: float
    prediction: object
    gold: object
    extra: dict


class Task(ABC):
    """One of the seven tasks: its facts (orca_bench/suite.py), the columns that it reads of a row, and its texts."""

    facts: TaskFacts
    columns: dict[str, type | tuple[type, ...]]
    generates = False

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def title(self) -> str:
        return self.facts.title

    @property
    def shots(self) -> int:
        return self.facts.shots

    @property
    def metric(self) -> str:
        return self.facts.metric

    @property
    def split(self) -> str:
        """The rows that are asked."""
        return self.facts.split

    @property
    def few_shot_split(self) -> str | None:
        """The rows that few-shot examples come from; None where there are none."""
        return self.facts.few_shot_split

    def description(self, row: dict) -> str:
        """Text before the few-shot examples, or nothing."""
        return ""

    @abstractmethod
    def question(self, row: dict) -> str:
        """The question as it stands at the end of the context."""

    @abstractmethod
    def target(self, row: dict) -> str:
        """What follows `question` in a few-shot example; begins with a space."""

    def cluster(self, row: dict) -> str | None:
        """A name for what several questions have in common, so that they are not independent; None where each stands alone."""
        return None

    def check(self, row: dict) -> None:
        """Raise KeyError, IndexError, ValueError, TypeError or AttributeError where a row cannot be an example."""
        self.example(row)

    def check_evaluation_row(self, row: dict) -> None:
        """Raise the same where a row cannot be asked and scored."""
        self.check(row)

    def example(self, row: dict) -> str:
        """One few-shot example."""
        return self.question(row) + self.target(row)

    def choose(self, pool: Sequence[dict], random) -> list[dict]:
        """The few-shot examples of the next document: a fresh draw from `pool`."""
        return random.sample(pool, self.shots) if self.shots else []


class ChoiceTask(Task):
    """A task whose answer is the choice with the best log-probability."""

    @abstractmethod
    def choices(self, row: dict) -> list[str]:
        """The texts to choose from, without leading space."""

    @abstractmethod
    def gold(self, row: dict) -> int:
        """The index of the right choice."""

    def check(self, row: dict) -> None:
        gold, choices = self.gold(row), len(self.choices(row))
        if not 0 <= gold < choices:
            raise ValueError(f"the right answer is choice {gold} of {choices}, counted from 0{HIDDEN}")
        self.harness_pairs(row)
        super().check(row)

    def pairs(self, row: dict) -> list[tuple[str, str]]:
        """(question text, continuation) of each choice; the continuation begins with a space."""
        return [(self.question(row), " " + choice) for choice in self.choices(row)]

    def harness_pairs(self, row: dict) -> list[tuple[str, str]]:
        """The pairs that the leaderboard's harness sent, where they are others than `pairs`."""
        return self.pairs(row)

    def target(self, row: dict) -> str:
        return " " + self.choices(row)[self.gold(row)]

    def score(self, row: dict, logprobs: Sequence[float]) -> Score:
        """The score of one question from the log-probabilities (nats) of its pairs, in order."""
        best = self.best(row, logprobs)
        gold = self.gold(row)
        return Score(float(best == gold), best, gold, {})

    def harness_score(self, row: dict, logprobs: Sequence[float]) -> Score:
        """The score from the log-probabilities of `harness_pairs`, in order."""
        return self.score(row, logprobs)

    def best(self, row: dict, logprobs: Sequence[float]) -> int:
        """The index of the chosen pair: the highest log-probability, the first of equals."""
        return max(range(len(logprobs)), key=lambda i: (logprobs[i], -i))


class NormalizedChoiceTask(ChoiceTask):
    """acc_norm: log-probability divided by the choice's length in characters, its leading space not counted.

    Source: lm-evaluation-harness b281b092, MultipleChoiceTask.process_results. An empty choice, whose log-probability
    that divides by zero, is never chosen. `acc`, without the division, stands beside it.
    """

    def score(self, row: dict, logprobs: Sequence[float]) -> Score:
        score = super().score(row, logprobs)
        acc = float(super().best(row, logprobs) == score.gold)
        return Score(score.value, score.prediction, score.gold, {"acc": acc})

    def best(self, row: dict, logprobs: Sequence[float]) -> int:
        lengths = [len(choice) for choice in self.choices(row)]
        return super().best(row, [p / n if n else -math.inf for p, n in zip(logprobs, lengths, strict=True)])


class GenerationTask(Task):
    """A task whose answer is a text that the model writes."""

    generates = True

    @abstractmethod
    def score_text(self, row: dict, text: str) -> Score:
        """The score of one question from the text that the model wrote."""

    def harness_score(self, row: dict, text: str) -> Score:
        """The score by the rule of the leaderboard's harness, where it is another."""
        return self.score_text(row, text)
