"""How a question becomes requests, and answers become its score.

A protocol gives each task's documents in order, each with the exact strings that are sent; it knows no model and no
tokenizer. Two are here: `orca`, the question in the prompt that the student was trained with, and the order and the
few-shot draws of the leaderboard's harness, which it keeps so that both ask the same questions with the same examples.
(`plain`, lm-eval's own prompts, is lm-eval's; see harness.py.)
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.evaluate.rows import Rows
from orca_bench.evaluate.tasks.base import ChoiceTask, GenerationTask, Score, Task

#: The leaderboard's harness shuffles documents and draws examples from one generator with this seed (b281b092, evaluator.py).
SEED = 42


@dataclass(frozen=True)
class Request:
    """One exact string pair: (context, continuation) to score, or (context, until) to generate after.

    `head` is how many characters at the start of the context must stay when it is too long for the model.
    """

    context: str
    continuation: str | None = None
    until: tuple[str, ...] = ()
    head: int = 0


@dataclass(frozen=True)
class Document:
    """One question under a protocol: its task (for MMLU `mmlu_SUBJECT`), place in the protocol's order, row and requests."""

    task: str
    index: int
    row_number: int
    row: dict
    requests: tuple[Request, ...]


class Protocol(Interface):
    """What evaluation needs of a protocol."""

    name: str
    version: int

    def describe(self) -> dict:
        """Everything that two results must have in common to be comparable."""

    def documents(self, task: Task, rows: Rows, limit: int | None) -> list[Document]:
        """The documents of a task in order, at most `limit` (of each subject, for MMLU)."""

    def score(self, task: Task, document: Document, answers: Sequence) -> Score:
        """The score of one document from the answers to its requests: log-probabilities (nats) or one text."""


class Orca:
    """The question in the Orca prompt.

    The leaderboard's context (description, few-shot examples, question) stands unchanged in the User turn under one system
    message; the response is the leaderboard's continuation without its leading space. Prompt and response are tokenized
    separately and concatenated behind BOS, as in training. A response ends at EOS or at another turn's header.
    """

    name, version = "orca", 1

    def __init__(self, system: str):
        self.system = system

    def describe(self) -> dict:
        return {
            "name": self.name,
            "version": self.version,
            "system": self.system,
            "tokens": "BOS + prompt + response, tokenized separately",
            "max_new_tokens": 256,
        }

    def documents(self, task: Task, rows: Rows, limit: int | None) -> list[Document]:
        return [
            Document(name, index, number, row, tuple(self._requests(task, row, shown)))
            for name, index, number, row, shown in drawn(task, rows, limit)
        ]

    def _requests(self, task: Task, row: dict, shown: list[dict]) -> Iterator[Request]:
        before = context_before(task, row, shown)
        head = len(prompt.head(self.system))
        if isinstance(task, ChoiceTask):
            for question, continuation in task.pairs(row):
                context = prompt.render(self.system, before + question)
                yield Request(context, continuation.removeprefix(" "), head=head)
        else:
            context = prompt.render(self.system, before + task.question(row))
            yield Request(context, until=_STOPS[task.name], head=head)

    def score(self, task: Task, document: Document, answers: Sequence) -> Score:
        return score(task, document, answers)


# After few-shot examples a model that is not tuned writes the next example; a DROP answer is one line.
_STOPS = {"gsm8k": (*prompt.TURN_HEADERS, "\n\nQuestion:"), "drop": (*prompt.TURN_HEADERS, "\n")}


def drawn(task: Task, rows: Rows, limit: int | None) -> Iterator[tuple[str, int, int, dict, list[dict]]]:
    """The leaderboard's document order and few-shot draws: (task, index, row number, row, examples).

    The rows are shuffled by a generator seeded 42 and cut at the limit; the same generator, in the state it is then in,
    draws each document's examples in turn. MMLU's subjects are tasks of their own, in alphabetical order.
    """
    for name, numbers, pool in _parts(task, rows):
        generator = random.Random(SEED)
        generator.shuffle(numbers)
        for index, number in enumerate(numbers[:limit]):
            yield name, index, number, rows.asked[number], task.choose(pool, generator)


def _parts(task: Task, rows: Rows) -> Iterator[tuple[str, list[int], list[dict]]]:
    if task.name != "mmlu":
        yield task.name, list(range(len(rows.asked))), rows.pool
        return
    numbers: dict[str, list[int]] = {}
    pools: dict[str, list[dict]] = {}
    for number, row in enumerate(rows.asked):
        numbers.setdefault(row["subject"], []).append(number)
    for row in rows.pool:
        pools.setdefault(row["subject"], []).append(row)
    for subject in sorted(numbers):
        if len(pools.get(subject, [])) < task.shots:
            raise UserError(
                f"subject '{subject}' has {len(pools.get(subject, []))} rows and {task.shots} examples are needed",
                where=f"{task.name} split {task.pool}",
            )
        yield f"mmlu_{subject}", numbers[subject], pools[subject]


def context_before(task: Task, row: dict, shown: list[dict]) -> str:
    """Everything before the question: description and examples, each followed by a blank line."""
    parts = [task.description(row)] if task.description(row) else []
    parts += [task.example(example) for example in shown]
    return "".join(part + "\n\n" for part in parts)


def score(task: Task, document: Document, answers: Sequence) -> Score:
    """Score answers by the task's own rules."""
    if isinstance(task, ChoiceTask):
        return task.score(document.row, list(answers))
    assert isinstance(task, GenerationTask)
    return task.score_text(document.row, answers[0].strip())
