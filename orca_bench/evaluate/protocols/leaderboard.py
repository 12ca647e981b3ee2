"""Open LLM Leaderboard v1's protocol: the requests and the scores of lm-evaluation-harness b281b092, byte for byte.

The harness of the reported scores no longer installs, and today's asks other questions in other words. What is kept here,
slips included, was read in commit b281b0921b636bc36ad05c0b0b0763bd6dd43463 (evaluator.py, base.py, models/huggingface.py,
tasks/*.py); `tests/benchmarks/against_b281b092.py` runs that commit's own evaluator beside it and compares. How its strings
become tokens, the cut contexts and the stop rules are in request_encoding.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols.protocol import (
    Answer,
    Document,
    Request,
    context_before,
    described_limits,
    documents_with_examples,
)
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS
from orca_bench.evaluate.tasks.task import ChoiceTask, Score, Task

COMMIT = "b281b0921b636bc36ad05c0b0b0763bd6dd43463"

#: tasks/gsm8k.py and tasks/drop.py of that commit; EOS ends a text besides.
STOPS = {"gsm8k": (":", "Question:", "Question"), "drop": (".",)}

#: In the words of results/reported/, so that a table says them once.
_WARNINGS = {
    "gsm8k": "scored on the text before the first colon: a model that writes 'Answer:' or 'Step 1:' is cut off before "
    "its answer",
    "drop": "scored on the text before the first full stop: 12.25 becomes 12; the leaderboard later withdrew DROP",
}


class Leaderboard:
    """The question as Open LLM Leaderboard v1 asked it: no prompt wrapper, no BOS."""

    name, version = "leaderboard", 1
    DEFAULT_MAX_NEW_TOKENS = dict.fromkeys(STOPS, MAX_NEW_TOKENS)

    def __init__(self, max_new_tokens: Mapping[str, int] = MappingProxyType({})):
        self.max_new_tokens = self.DEFAULT_MAX_NEW_TOKENS | max_new_tokens

    def describe(self) -> dict:
        """Name, version, the harness's commit and how strings become tokens."""
        return {
            "name": self.name,
            "version": self.version,
            "harness": f"lm-evaluation-harness {COMMIT}",
            "tokens": "no BOS; context and continuation encoded together, cut where the context's own tokens end",
            "max_new_tokens": described_limits(self.max_new_tokens),
        }

    def documents(self, task: Task, rows: BenchmarkRows, limit: int | None) -> list[Document]:
        """The documents of a task in the harness's order, with the examples that it drew."""
        return [
            Document(
                name, index, number, row, tuple(self._requests(task, row, context_before(task, row, few_shot_examples)))
            )
            for name, index, number, row, few_shot_examples in documents_with_examples(task, rows, limit)
        ]

    def _requests(self, task: Task, row: dict, before: str) -> Iterator[Request]:
        if not isinstance(task, ChoiceTask):
            yield Request(
                before + task.question(row), until=STOPS[task.name], max_new_tokens=self.max_new_tokens[task.name]
            )
        elif task.name == "winogrande":
            # The harness put the filled sentence in the place of everything behind the last blank line of the context.
            parts = (before + task.question(row)).split("\n\n")[:-1]
            for question, continuation in task.pairs(row):
                yield Request("\n\n".join([*parts, question]), continuation)
        else:
            for question, continuation in task.harness_pairs(row):
                yield Request(before + question, continuation)

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The task's metric; all metrics that the harness gave for the document stand in `extra`.

        A text is scored as it is: the answering part has cut it at the stop strings. Where tokens were thrown away, the
        score of the whole text stands in `extra` too.
        """
        if isinstance(task, ChoiceTask):
            return task.harness_score(document.row, [answer.value for answer in answers])
        score = task.harness_score(document.row, answers[0].value)
        if answers[0].full_text is None:
            return score
        whole = task.harness_score(document.row, answers[0].full_text)
        return Score(score.value, score.prediction, score.gold, score.extra | {"whole_score": whole.value})

    def warnings(self, task: Task) -> list[str]:
        """The warning that belongs to GSM8K's and DROP's numbers."""
        return [_WARNINGS[task.name]] if task.name in _WARNINGS else []
