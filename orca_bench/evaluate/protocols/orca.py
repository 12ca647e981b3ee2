"""The Orca protocol: the leaderboard's question in the prompt that the student was trained with.

The leaderboard's context (description, few-shot examples, question) stands unchanged in the User turn under one system
message; the response is the leaderboard's continuation without its leading space. Prompt and response are tokenized
separately and concatenated after BOS, as in training. A response ends at EOS or at another turn's header.

Version 2 scores texts by rules of its own (tasks/final_answer.py, tasks/drop.py) and gives GSM8K, where a model explains, 512
tokens; DROP keeps 256, for a longer answer would cost every fifth context more of its beginning. Version 1 compared GSM8K's
numbers as strings, took DROP's text for one span whatever stood in it, and gave both 256 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from orca_bench import prompt
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols.protocol import (
    Answer,
    Document,
    Request,
    context_before_question,
    describe_token_limits,
    documents_of,
)
from orca_bench.evaluate.tasks import GENERATION_TASKS
from orca_bench.evaluate.tasks.task import GenerationTask, Row, Score, Task, as_choice_task


class Orca:
    """The question in the Orca prompt, under one system message."""

    name, version = "orca", 2
    #: The most tokens of a text, by task.
    DEFAULT_MAX_NEW_TOKENS_BY_TASK: Mapping[str, int] = {
        task.name: task.orca_text_rules.default_max_new_tokens for task in GENERATION_TASKS
    }

    def __init__(self, system_text: str, other_max_new_tokens_by_task: Mapping[str, int] = MappingProxyType({})):
        """`system_text` is the system message; `other_max_new_tokens_by_task` gives other limits than the protocol's own."""
        self.system_text = system_text
        self.max_new_tokens_by_task: Mapping[str, int] = {
            **self.DEFAULT_MAX_NEW_TOKENS_BY_TASK,
            **other_max_new_tokens_by_task,
        }

    def describe(self) -> dict[str, Any]:
        """Name, version, system message, how strings become tokens, and how texts are scored."""
        return {
            "name": self.name,
            "version": self.version,
            "system": self.system_text,
            "tokens": "BOS + prompt + response, tokenized separately",
            "max_new_tokens": describe_token_limits(self.max_new_tokens_by_task),
            "scoring": {task.name: task.orca_text_rules.scoring_description for task in GENERATION_TASKS},
        }

    def documents(self, task: Task, rows: BenchmarkRows, question_limit: int | None) -> list[Document]:
        """The documents of a task, in the leaderboard's order and with its few-shot examples."""
        return documents_of(task, rows, question_limit, self._requests_of_row)

    def _requests_of_row(self, task: Task, row: Row, few_shot_examples: Sequence[Row]) -> Iterator[Request]:
        preceding_text = context_before_question(task, row, few_shot_examples)
        fixed_prefix_characters = len(prompt.fixed_prefix(self.system_text))
        if isinstance(task, GenerationTask):
            # After few-shot examples a model that is not tuned writes the next example, with or without the header of a turn.
            yield Request(
                prompt.render(self.system_text, preceding_text + task.question(row)),
                stop_strings=(*prompt.TURN_HEADERS, *task.orca_text_rules.stop_strings),
                fixed_prefix_characters=fixed_prefix_characters,
                max_new_tokens=self.max_new_tokens_by_task[task.name],
            )
            return
        for question_text, continuation in as_choice_task(task).question_continuation_pairs(row):
            context = prompt.render(self.system_text, preceding_text + question_text)
            yield Request(context, continuation.removeprefix(" "), fixed_prefix_characters=fixed_prefix_characters)

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The score by `score_by_task_rules`."""
        return score_by_task_rules(task, document, answers)

    def reader_warnings(self, task: Task) -> list[str]:
        """None: the table says in one note what the prompt does to a comparison."""
        return []


def score_by_task_rules(task: Task, document: Document, answers: Sequence[Answer]) -> Score:
    """The score by the task's own rules, those of version 2; a text without the white space around it."""
    if isinstance(task, GenerationTask):
        return task.score_text(document.row, answers[0].text.strip())
    return as_choice_task(task).score(document.row, [answer.log_probability for answer in answers])
