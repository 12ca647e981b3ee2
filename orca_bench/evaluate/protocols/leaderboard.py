"""Open LLM Leaderboard v1's protocol: the requests and the scores of lm-evaluation-harness b281b092, byte for byte.

The harness of the reported scores no longer installs, and today's asks other questions in other words. What is kept here,
slips included, was read in commit b281b0921b636bc36ad05c0b0b0763bd6dd43463 (evaluator.py, base.py, models/huggingface.py,
tasks/*.py); `tests/benchmarks/against_b281b092.py` runs that commit's own evaluator beside it and compares. How its strings
become tokens, the cut contexts and the stop rules are in request_encoding.py; stop strings stand with the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

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

HARNESS_COMMIT = "b281b0921b636bc36ad05c0b0b0763bd6dd43463"


class Leaderboard:
    """The question as Open LLM Leaderboard v1 asked it: no prompt wrapper, no BOS."""

    name, version = "leaderboard", 1
    #: The most tokens of a text, by task.
    DEFAULT_MAX_NEW_TOKENS_BY_TASK: Mapping[str, int] = {
        task.name: task.leaderboard_text_rules.default_max_new_tokens for task in GENERATION_TASKS
    }

    def __init__(self, other_max_new_tokens_by_task: Mapping[str, int] = MappingProxyType({})):
        """`other_max_new_tokens_by_task` gives tasks another limit than the leaderboard's."""
        self.max_new_tokens_by_task: Mapping[str, int] = {
            **self.DEFAULT_MAX_NEW_TOKENS_BY_TASK,
            **other_max_new_tokens_by_task,
        }

    def describe(self) -> dict[str, Any]:
        """Name, version, the harness's commit and how strings become tokens."""
        return {
            "name": self.name,
            "version": self.version,
            "harness": f"lm-evaluation-harness {HARNESS_COMMIT}",
            "tokens": "no BOS; context and continuation encoded together, cut where the context's own tokens end",
            "max_new_tokens": describe_token_limits(self.max_new_tokens_by_task),
        }

    def documents(self, task: Task, rows: BenchmarkRows, question_limit: int | None) -> list[Document]:
        """The documents of a task in the harness's order, with the few-shot examples that it drew."""
        return documents_of(task, rows, question_limit, self._requests_of_row)

    def _requests_of_row(self, task: Task, row: Row, few_shot_examples: Sequence[Row]) -> Iterator[Request]:
        preceding_text = context_before_question(task, row, few_shot_examples)
        if isinstance(task, GenerationTask):
            stop_strings = task.leaderboard_text_rules.stop_strings
            yield Request(
                preceding_text + task.question(row),
                stop_strings=stop_strings,
                max_new_tokens=self.max_new_tokens_by_task[task.name],
            )
            return
        for context, continuation in as_choice_task(task).harness_requests(row, preceding_text):
            yield Request(context, continuation)

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The task's metric; all metrics that the harness gave for the document stand in `extra_fields`.

        A text is scored as it is: the answering part has cut it at the stop strings. Where tokens were removed from its
        start, the score of the full text stands in `extra_fields` too.
        """
        if not isinstance(task, GenerationTask):
            return as_choice_task(task).harness_score(document.row, [answer.log_probability for answer in answers])
        score = task.harness_score(document.row, answers[0].text)
        if answers[0].full_text is None:
            return score
        full_score = task.harness_score(document.row, answers[0].full_text)
        return Score(
            score.metric_value,
            score.prediction,
            score.gold_answer,
            {**score.extra_fields, "whole_score": full_score.metric_value},
        )

    def reader_warnings(self, task: Task) -> list[str]:
        """The warning that belongs to the numbers of a task whose answers are cut early."""
        warning = task.leaderboard_text_rules.reader_warning if isinstance(task, GenerationTask) else ""
        return [warning] if warning else []
