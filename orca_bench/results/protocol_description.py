"""How questions became requests and answers became scores, as a result says it: a JSON object in, a typed part out.

Its own module because two descriptions are compared key by key and task by task, and the other parts of a result are not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from orca_bench.results.json_object import Count, JsonObject


class ProtocolDescription(JsonObject):
    """How questions became requests and answers became scores: all that two results must have in common.

    `max_length` is the model's window in tokens, `max_new_tokens` the token limit of a text, by task where tasks differ;
    `system` is the system message of the protocols `orca` and `chat`, `harness` and `lm_eval` are the versions of the other two's
    harness. Of `chat`, `few_shot` says how few-shot examples are shown, `template_sha256` is the hash of the model's chat
    template, `template_system` the system message that it writes by itself, `template_date` what it is given for today's date.
    `lm-eval` and `inspect` are the programs whose logs are read as results; of them `shots` has the examples by task.
    """

    name: Literal["leaderboard", "orca", "plain", "chat", "lm-eval", "inspect"]
    version: int | None = None
    system: str | None = None
    harness: str | None = None
    lm_eval: str | None = None
    few_shot: str | None = None
    template_sha256: str | None = None
    template_system: str | None = None
    template_date: str | None = None
    tokens: str | None = None
    max_new_tokens: Count | dict[str, Count] | None = None
    scoring: dict[str, str] | None = None
    max_length: int | None = None
    shots: dict[str, Count] | None = None

    @property
    def is_of_log(self) -> bool:
        """Whether another program measured the result, and this one read its log."""
        return self.name in ("lm-eval", "inspect")

    @property
    def name_and_version(self) -> str:
        """Name and version, as `orca v2`; the name alone where the version is not known."""
        return self.name if self.version is None else f"{self.name} v{self.version}"

    def differing_keys(self, other_protocol: ProtocolDescription, task_names: Collection[str]) -> list[str]:
        """The keys whose values differ, as far as they are about `task_names`.

        A description has the rules and token limits of all tasks that its program knew. Those of other tasks are left out,
        so that a task which is added to the suite later makes no earlier result incomparable.
        """
        this_json, other_json = self.to_json(), other_protocol.to_json()

        def is_equal(key: str) -> bool:
            this_value, other_value = this_json.get(key), other_json.get(key)
            if key in _PROTOCOL_KEYS_BY_TASK:
                return _agree_on_tasks(this_value, other_value, task_names)
            return bool(this_value == other_value)

        return [key for key in dict.fromkeys((*this_json, *other_json)) if not is_equal(key)]


#: The keys of a protocol's description whose value may be a mapping by task.
_PROTOCOL_KEYS_BY_TASK = ("scoring", "max_new_tokens", "shots")


def _agree_on_tasks(left: Any, right: Any, task_names: Collection[str]) -> bool:
    """Whether two values of a description agree on `task_names`; a mapping is by task, another value is that of all tasks."""
    if not isinstance(left, dict) and not isinstance(right, dict):
        return bool(left == right)
    names = {name for values in (left, right) if isinstance(values, dict) for name in values} & set(task_names)
    mappings = (values if isinstance(values, dict) else dict.fromkeys(names, values) for values in (left, right))
    left_value_by_task, right_value_by_task = ({name: values.get(name) for name in names} for values in mappings)
    return left_value_by_task == right_value_by_task
