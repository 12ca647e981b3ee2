"""The Orca protocol: the leaderboard's question in the prompt that the student was trained with.

The leaderboard's context (description, few-shot examples, question) stands unchanged in the User turn under one system
message; the response is the leaderboard's continuation without its leading space. Prompt and response are tokenized
separately and concatenated behind BOS, as in training. A response ends at EOS or at another turn's header.

Version 2 scores texts by rules of its own (tasks/final_answer.py, tasks/drop.py) and gives GSM8K, where a model explains, 512
tokens; DROP keeps 256, for a longer answer would cost every fifth context more of its beginning. Version 1 compared
GSM8K's numbers as strings, took DROP's text for one span whatever stood in it, and gave both 256 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from orca_bench import prompt
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols.protocol import (
    Answer,
    Document,
    Request,
    context_before,
    described_limits,
    documents_with_examples,
)
from orca_bench.evaluate.tasks.task import ChoiceTask, Score, Task

# After few-shot examples a model that is not tuned writes the next example; a DROP answer is one line.
STOPS = {"gsm8k": (*prompt.TURN_HEADERS, "\n\nQuestion:"), "drop": (*prompt.TURN_HEADERS, "\n")}

SCORING = {
    "gsm8k": "numbers by value: behind ####, else 'answer is', \\boxed, bold, the last equation, the last number",
    "drop": "F1, the better of the text as one span and as a list; punctuation at the ends of words does not count",
}


class Orca:
    """The question in the Orca prompt, under one system message."""

    name, version = "orca", 2
    DEFAULT_MAX_NEW_TOKENS = MappingProxyType({"gsm8k": 512, "drop": 256})

    def __init__(self, system: str, max_new_tokens: Mapping[str, int] = MappingProxyType({})):
        self.system, self.max_new_tokens = system, self.DEFAULT_MAX_NEW_TOKENS | max_new_tokens

    def describe(self) -> dict:
        """Name, version, system message, how strings become tokens, and how texts are scored."""
        return {
            "name": self.name,
            "version": self.version,
            "system": self.system,
            "tokens": "BOS + prompt + response, tokenized separately",
            "max_new_tokens": described_limits(self.max_new_tokens),
            "scoring": SCORING,
        }

    def documents(self, task: Task, rows: BenchmarkRows, limit: int | None) -> list[Document]:
        """The documents of a task, in the leaderboard's order and with its examples."""
        return [
            Document(name, index, number, row, tuple(self._requests(task, row, few_shot_examples)))
            for name, index, number, row, few_shot_examples in documents_with_examples(task, rows, limit)
        ]

    def _requests(self, task: Task, row: dict, few_shot_examples: list[dict]) -> Iterator[Request]:
        before = context_before(task, row, few_shot_examples)
        fixed_prefix = len(prompt.fixed_prefix(self.system))
        if isinstance(task, ChoiceTask):
            for question, continuation in task.pairs(row):
                context = prompt.render(self.system, before + question)
                yield Request(context, continuation.removeprefix(" "), fixed_prefix=fixed_prefix)
        else:
            context = prompt.render(self.system, before + task.question(row))
            yield Request(
                context,
                until=STOPS[task.name],
                fixed_prefix=fixed_prefix,
                max_new_tokens=self.max_new_tokens[task.name],
            )

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The score by the task's own rules; a text without the white space around it."""
        if isinstance(task, ChoiceTask):
            return task.score(document.row, [answer.value for answer in answers])
        return task.score_text(document.row, answers[0].value.strip())

    def warnings(self, task: Task) -> list[str]:
        """None: the table says in one note what the prompt does to a comparison."""
        return []
