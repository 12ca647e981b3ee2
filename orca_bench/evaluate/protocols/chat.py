"""The chat protocol: the leaderboard's question in the model's own chat template, as its users ask it.

A request's context is a chat: JSON of messages, which `chat_encoding.py` turns into ids by the template of the model. So the
requests are the same for every model; a result has the hash of the template and that of the ids that it gave. The
few-shot examples are turns of the chat (`turns`, the default: the model sees its answers where it gives them, as on Open LLM
Leaderboard v2 and in lm-eval 0.4.13), or stand with the question in one turn (`one-turn`, as in the Orca prompt). Answers are
scored by the rules of `orca`, version 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from orca_bench.errors import check_choice
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols.orca import Orca, score_by_task_rules
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

#: Where few-shot examples stand; the first is the default.
FEW_SHOT_NAMES = ("turns", "one-turn")

#: The keys of a protocol's description that are about the model's template (`chat_encoding.describe_template`).
TEMPLATE_KEYS = ("template_sha256", "template_system", "template_date")

_TOKENS_DESCRIPTION = (
    "those of apply_chat_template, special tokens included; the response as the template's assistant turn has it, without what "
    "ends the turn"
)


@dataclass(frozen=True)
class ChatSettings:
    """The options of the chat protocol besides a system message.

    `few_shot` is one of FEW_SHOT_NAMES; raises UserError for any other. `template_description` has what a result says of the
    model's template, by TEMPLATE_KEYS; empty where no model is known.
    """

    few_shot: str = FEW_SHOT_NAMES[0]
    template_description: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        check_choice(self.few_shot, FEW_SHOT_NAMES, "few_shot")


class Chat:
    """The question in the model's chat template, with a system message or without."""

    name, version = "chat", 1
    #: The most tokens of a text, by task.
    DEFAULT_MAX_NEW_TOKENS_BY_TASK: Mapping[str, int] = Orca.DEFAULT_MAX_NEW_TOKENS_BY_TASK

    def __init__(
        self,
        system_text: str | None = None,
        other_max_new_tokens_by_task: Mapping[str, int] = MappingProxyType({}),
        settings: ChatSettings = ChatSettings(),
    ):
        """`system_text` None is a chat without a system message, the empty text is one with an empty message."""
        self.system_text, self.settings = system_text, settings
        self.max_new_tokens_by_task: Mapping[str, int] = {
            **self.DEFAULT_MAX_NEW_TOKENS_BY_TASK,
            **other_max_new_tokens_by_task,
        }

    def describe(self) -> dict[str, Any]:
        """Name, version, system message, template, few-shot examples, tokens, and how texts are scored."""
        return {
            "name": self.name,
            "version": self.version,
            **({} if self.system_text is None else {"system": self.system_text}),
            "few_shot": self.settings.few_shot,
            **self.settings.template_description,
            "tokens": _TOKENS_DESCRIPTION,
            "max_new_tokens": describe_token_limits(self.max_new_tokens_by_task),
            "scoring": {task.name: task.orca_text_rules.scoring_description for task in GENERATION_TASKS},
        }

    def documents(self, task: Task, rows: BenchmarkRows, question_limit: int | None) -> list[Document]:
        """The documents of a task, in the leaderboard's order and with its few-shot examples."""
        return documents_of(task, rows, question_limit, self._requests_of_row)

    def _requests_of_row(self, task: Task, row: Row, few_shot_examples: Sequence[Row]) -> Iterator[Request]:
        # What must stay of the first turn where earlier ones do not fit: the description of the task.
        description = context_before_question(task, row, ())
        if isinstance(task, GenerationTask):
            yield Request(
                self._context(task, row, few_shot_examples, task.question(row)),
                stop_strings=task.orca_text_rules.stop_strings,
                fixed_prefix_characters=len(description),
                max_new_tokens=self.max_new_tokens_by_task[task.name],
            )
            return
        for question_text, continuation in as_choice_task(task).question_continuation_pairs(row):
            yield Request(
                self._context(task, row, few_shot_examples, question_text),
                continuation.removeprefix(" "),
                fixed_prefix_characters=len(description),
            )

    def _context(self, task: Task, row: Row, few_shot_examples: Sequence[Row], question_text: str) -> str:
        """The chat that ends with the question, as JSON."""
        messages = [] if self.system_text is None else [("system", self.system_text)]
        if self.settings.few_shot == "turns":
            description = context_before_question(task, row, ())
            for example in few_shot_examples:
                messages += [
                    ("user", description + task.question(example)),
                    ("assistant", task.few_shot_answer(example).removeprefix(" ")),
                ]
                description = ""
            messages.append(("user", description + question_text))
        else:
            messages.append(("user", context_before_question(task, row, few_shot_examples) + question_text))
        return json.dumps([{"role": role, "content": content} for role, content in messages], ensure_ascii=False)

    def score(self, task: Task, document: Document, answers: Sequence[Answer]) -> Score:
        """The score by the rules of `orca`."""
        return score_by_task_rules(task, document, answers)

    def reader_warnings(self, task: Task) -> list[str]:
        """None: what the model's template does stands in the description of the protocol and in the model's warnings."""
        return []


def readable_context(context: str) -> str:
    """A request's context for people: each message under its role."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages_of_context(context))


def messages_of_context(context: str) -> list[dict[str, str]]:
    """The messages of a request's context, each with `role` and `content`."""
    messages: list[dict[str, str]] = json.loads(context)
    return messages
