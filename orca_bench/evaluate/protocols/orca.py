"""The Orca protocol: the leaderboard's question in the prompt that the student was trained with.

The leaderboard's context (description, few-shot examples, question) stands unchanged in the User turn under one system
message; the response is the leaderboard's continuation without its leading space. Prompt and response are tokenized
separately and concatenated behind BOS, as in training. A response ends at EOS or at another turn's header.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orca_bench import prompt
from orca_bench.evaluate.protocols.base import Answer, Document, Request, context_before, drawn
from orca_bench.evaluate.rows import Rows
from orca_bench.evaluate.tasks.base import ChoiceTask, Score, Task

# After few-shot examples a model that is not tuned writes the next example; a DROP answer is one line.
STOPS = {"gsm8k": (*prompt.TURN_HEADERS, "\n\nQuestion:"), "drop": (*prompt.TURN_HEADERS, "\n")}


class Orca:
    """The question in the Orca prompt, under one system message."""

    name, version = "orca", 1

    def __init__(self, system: str):
        self.system = system

    def describe(self) -> dict:
        """Name, version, system message and how strings become tokens."""
        return {
            "name": self.name,
            "version": self.version,
            "system": self.system,
            "tokens": "BOS + prompt + response, tokenized separately",
            "max_new_tokens": 256,
        }

    def documents(self, task: Task, rows: Rows, limit: int | None) -> list[Document]:
        """The documents of a task, in the leaderboard's order and with its examples."""
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
            yield Request(context, until=STOPS[task.name], head=head)

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The score by the task's own rules; a text without the white space around it."""
        if isinstance(task, ChoiceTask):
            return task.score(document.row, [answer.value for answer in answers])
        return task.score_text(document.row, answers[0].value.strip())

    def warnings(self, task: Task) -> list[str]:
        """None: the table says in one note what the prompt does to a comparison."""
        return []
