"""What a protocol is: rows in, documents with the exact strings that are sent, and answers back to scores.

A protocol gives each task's documents in order; it knows no model and no tokenizer. Document order and few-shot draws are
those of the leaderboard's harness (lm-evaluation-harness b281b092, evaluator.py), and both protocols here keep them, so
that they ask the same questions with the same examples.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.tasks.task import Score, Task

#: The leaderboard's harness shuffles documents and draws examples from one generator with this seed (b281b092, evaluator.py).
SEED = 42


@dataclass(frozen=True)
class Request:
    """One exact string pair: (context, continuation) to score, or (context, until) to generate a text after.

    A text has at most `max_new_tokens` tokens. `fixed_prefix` is how many characters at the start of the context must stay
    when it is too long for the model.
    """

    context: str
    continuation: str | None = None
    until: tuple[str, ...] = ()
    fixed_prefix: int = 0
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Document:
    """One question under a protocol: its task (for MMLU `mmlu_SUBJECT`), place in the protocol's order, row and requests."""

    task: str
    index: int
    row_number: int
    row: dict
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Answer:
    """What a model said to one request.

    `value` is a log-probability in nats, or a text; `greedy` says whether greedy decoding would have said the continuation,
    None where that is not known. `full_text` is the text before a protocol threw tokens of it away, None where it threw none.
    `hit_token_limit` says whether a text had `max_new_tokens` tokens and had not ended, None where that is not known.
    """

    value: float | str
    greedy: bool | None = None
    full_text: str | None = None
    hit_token_limit: bool | None = None


class Protocol(Interface):
    """What evaluation needs of a protocol."""

    name: str
    version: int
    #: The most tokens of an answer, of each task whose answers are texts.
    max_new_tokens: Mapping[str, int]

    def describe(self) -> dict:
        """Everything that two results must have in common to be comparable."""

    def documents(self, task: Task, rows: BenchmarkRows, limit: int | None) -> list[Document]:
        """The documents of a task in order, at most `limit` (of each subject, for MMLU)."""

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The score of one document from the answers to its requests, in order."""

    def warnings(self, task: Task) -> list[str]:
        """What a reader of this task's number must know."""


def described_limits(max_new_tokens: Mapping[str, int]) -> int | dict[str, int]:
    """The token limits of a protocol as its description gives them: one number where all tasks have the same, else by task."""
    limits = max_new_tokens.values()
    return next(iter(limits)) if len(set(limits)) == 1 else dict(max_new_tokens)


def documents_with_examples(
    task: Task, rows: BenchmarkRows, limit: int | None
) -> Iterator[tuple[str, int, int, dict, list[dict]]]:
    """The leaderboard's document order and few-shot draws: (task, index, row number, row, examples).

    The rows are shuffled by a generator seeded 42 and cut at the limit; the same generator, in the state it is then in,
    draws each document's examples in turn. MMLU's subjects are tasks of their own, in alphabetical order.
    """
    for name, numbers, pool in parts(task, rows):
        generator = random.Random(SEED)
        generator.shuffle(numbers)
        for index, number in enumerate(numbers[:limit]):
            yield name, index, number, rows.evaluation_rows[number], task.choose(pool, generator)


def parts(task: Task, rows: BenchmarkRows) -> Iterator[tuple[str, list[int], list[dict]]]:
    """(task name, row numbers, pool of examples) of each part of a task: MMLU's subjects, or the task itself."""
    if task.name != "mmlu":
        yield task.name, list(range(len(rows.evaluation_rows))), rows.few_shot_pool
        return
    numbers: dict[str, list[int]] = {}
    pools: dict[str, list[dict]] = {}
    for number, row in enumerate(rows.evaluation_rows):
        numbers.setdefault(row["subject"], []).append(number)
    for row in rows.few_shot_pool:
        pools.setdefault(row["subject"], []).append(row)
    for subject in sorted(numbers):
        if len(pools.get(subject, [])) < task.shots:
            raise UserError(
                f"subject '{subject}' has {len(pools.get(subject, []))} rows and {task.shots} examples are needed",
                where=f"{task.name} split {task.few_shot_split}",
            )
        yield f"mmlu_{subject}", numbers[subject], pools[subject]


def context_before(task: Task, row: dict, few_shot_examples: Iterable[dict]) -> str:
    """Everything before the question: description and examples, each followed by a blank line."""
    description = task.description(row)
    return "".join(part + "\n\n" for part in [*filter(None, [description]), *map(task.example, few_shot_examples)])
