"""What a protocol is: rows in, documents with the exact strings that are sent, and answers back to scores.

A protocol gives each task's documents in order; it needs no model and no tokenizer. The order of documents and the draw of
few-shot examples are those of the leaderboard's harness (lm-evaluation-harness b281b092, evaluator.py). All protocols that
make requests here have them, so that they ask the same questions with the same examples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.tasks.task import Row, Score, Task

#: The leaderboard's harness shuffles documents and draws examples from one generator with this seed (b281b092, evaluator.py).
SHUFFLE_SEED = 42


@dataclass(frozen=True)
class Request:
    """One exact string pair: (context, continuation) to score, or (context, until) to generate a text after.

    A text ends at a string of `stop_strings` and has at most `max_new_tokens` tokens. `fixed_prefix_characters` is how many
    characters at the start of the context must stay when it is too long for the model.
    """

    context: str
    continuation: str | None = None
    stop_strings: tuple[str, ...] = ()
    fixed_prefix_characters: int = 0
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Document:
    """One question under a protocol: its task (for MMLU `mmlu_SUBJECT`), place in the protocol's order, row and requests."""

    part_name: str
    document_index: int
    row_index: int
    row: Row
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Answer:
    """A model's answer to one request.

    `logprob_or_text` is the log-probability of the continuation in nats, or the generated text. `is_greedy` says whether greedy
    decoding generates the continuation, None where that is not known. `full_text` is the text before a protocol removed its
    first tokens, None where it removed none. `hit_token_limit` says whether a text had `max_new_tokens` tokens and had not
    ended, None where that is not known.
    """

    logprob_or_text: float | str
    is_greedy: bool | None = None
    full_text: str | None = None
    hit_token_limit: bool | None = None

    @property
    def log_probability(self) -> float:
        """The log-probability of the continuation, nats; raises ValueError where the answer is no number."""
        if isinstance(self.logprob_or_text, bool) or not isinstance(self.logprob_or_text, int | float):
            raise ValueError(f"a log-probability is a number, not {self.logprob_or_text!r:.60}")
        return float(self.logprob_or_text)

    @property
    def text(self) -> str:
        """The generated text; raises ValueError where the answer is a number."""
        if not isinstance(self.logprob_or_text, str):
            raise ValueError(f"a generated text is a string, not {self.logprob_or_text!r:.60}")
        return self.logprob_or_text


class Protocol(Interface):
    """What a result says of its protocol."""

    name: str
    version: int
    #: The most tokens of an answer, of each task whose answers are texts.
    max_new_tokens_by_task: Mapping[str, int]

    def describe(self) -> dict[str, Any]:
        """Everything that two results must have in common to be comparable, as JSON values."""

    def reader_warnings(self, task: Task) -> list[str]:
        """What a reader of this task's number must know."""


class RequestProtocol(Protocol, Interface):
    """A protocol whose requests are made here, and whose answers are scored here."""

    def documents(self, task: Task, rows: BenchmarkRows, question_limit: int | None) -> list[Document]:
        """The documents of a task in order, at most `question_limit` (of each subject, for MMLU)."""

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The score of one document from the answers to its requests, in order."""


@dataclass(frozen=True)
class TaskPart:
    """A part of a task that is ordered, sampled and reported alone: one of MMLU's subjects, or the task itself."""

    part_name: str
    row_indices: list[int]
    few_shot_pool: list[Row]


@dataclass(frozen=True)
class SampledRow:
    """A row in its place in the leaderboard's order, with the few-shot examples of its document."""

    part_name: str
    document_index: int
    row_index: int
    row: Row
    few_shot_examples: list[Row]


def documents_of(
    task: Task,
    rows: BenchmarkRows,
    question_limit: int | None,
    requests_of: Callable[[Task, Row, Sequence[Row]], Iterable[Request]],
) -> list[Document]:
    """The documents of a task in the leaderboard's order, with its few-shot examples.

    `requests_of` makes a row's requests from the task, the row and its few-shot examples.
    """
    return [
        Document(
            sample.part_name,
            sample.document_index,
            sample.row_index,
            sample.row,
            tuple(requests_of(task, sample.row, sample.few_shot_examples)),
        )
        for sample in sampled_rows(task, rows, question_limit)
    ]


def sampled_rows(task: Task, rows: BenchmarkRows, question_limit: int | None) -> Iterator[SampledRow]:
    """The leaderboard's order of documents and their few-shot examples.

    The rows are shuffled by a generator with seed 42 and cut at the limit; the same generator, in the state it is then in,
    draws each document's examples in turn. MMLU's subjects are tasks of their own, in alphabetical order.
    """
    for part in parts_of_task(task, rows):
        generator = random.Random(SHUFFLE_SEED)
        row_indices = list(part.row_indices)
        generator.shuffle(row_indices)
        for document_index, row_index in enumerate(row_indices[:question_limit]):
            few_shot_examples = task.few_shot_examples(part.few_shot_pool, generator)
            yield SampledRow(
                part.part_name, document_index, row_index, rows.evaluation_rows[row_index], few_shot_examples
            )


def parts_of_task(task: Task, rows: BenchmarkRows) -> Iterator[TaskPart]:
    """The parts of a task, in alphabetical order; raises UserError for a subject with fewer examples than shots."""
    subject_column = task.facts.subject_column
    if subject_column is None:
        yield TaskPart(task.name, list(range(len(rows.evaluation_rows))), rows.few_shot_pool)
        return
    row_indices_by_subject: dict[str, list[int]] = {}
    pools_by_subject: dict[str, list[Row]] = {}
    for row_index, row in enumerate(rows.evaluation_rows):
        row_indices_by_subject.setdefault(row[subject_column], []).append(row_index)
    for row in rows.few_shot_pool:
        pools_by_subject.setdefault(row[subject_column], []).append(row)
    for subject in sorted(row_indices_by_subject):
        if len(pools_by_subject.get(subject, [])) < task.shots:
            raise UserError(
                f"subject '{subject}' has {len(pools_by_subject.get(subject, []))} rows and {task.shots} examples are needed",
                where=f"{task.name} split {task.few_shot_split}",
            )
        yield TaskPart(
            task.facts.part_of_subject(subject), row_indices_by_subject[subject], pools_by_subject.get(subject, [])
        )


def context_before_question(task: Task, row: Row, few_shot_examples: Iterable[Row]) -> str:
    """Everything before the question: description and examples, each followed by a blank line."""
    description = task.description(row)
    return "".join(
        section + "\n\n" for section in [*filter(None, [description]), *map(task.example, few_shot_examples)]
    )


def describe_token_limits(max_new_tokens_by_task: Mapping[str, int]) -> int | dict[str, int]:
    """The token limits of a protocol as its description gives them: one number where all tasks have the same, else by task."""
    token_limits = max_new_tokens_by_task.values()
    return next(iter(token_limits)) if len(set(token_limits)) == 1 else dict(max_new_tokens_by_task)
