"""The typed result: everything that a result file (`NAME.json`, format 3) and a line of its questions may hold.

JSON values come in and typed parts go out; `to_json` gives the same JSON back, keys in their old order and unknown keys
included. This module owns the format's name and version. Its own module because evaluation writes results, every report reads
them, and the JSON schema (schema.json) is generated from these classes; the entries of its tasks are in task_results.py.
Hashes are SHA-256 in hexadecimal. A `Result` that was read is valid: every attribute below has its type, and what an older
program did not write is None or empty.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator

from orca_bench.question_limit import QuestionLimit
from orca_bench.results.json_object import Count, Fraction, JsonObject, ParameterCount, PositiveCount, copy_list
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.task_results import OTHER_ROWS, AnyTaskResult, Average, Number
from orca_bench.suite import TASK_BY_NAME, TaskFacts, task_name_of_part

#: How the value of the key `format` begins; the version follows.
RESULT_FORMAT_PREFIX = "orca-bench result "
#: The version that is written.
RESULT_FORMAT_VERSION = 3
#: The value of the key `format` of what is written.
RESULT_FORMAT = f"{RESULT_FORMAT_PREFIX}{RESULT_FORMAT_VERSION}"


class SuiteDescription(JsonObject):
    """The benchmark suite: its name, and whether its scores may stand beside the leaderboard's reported ones."""

    name: str
    comparable: bool
    note: str | None = None


class EngineDescription(JsonObject):
    """What computed the answers; of a server its window in tokens, its sampling, and how it differs from this engine.

    `processes` counts worker processes, `path` says how this engine's passes share prefixes, `probe` is what a server
    answered to a fixed request, `settings` are llama.cpp's. `prefix_cache` counts the tokens of the prompts that were sent and
    those of them that a server had computed before."""

    name: str | None = None
    processes: Count | None = None
    path: str | None = None
    served_model: str | None = None
    base_url: str | None = None
    sampling: Any = None
    window: Count | None = None
    differences: list[str] = []
    probe: Any = None
    version: str | None = None
    settings: dict[str, str | int] | None = None
    prefix_cache: dict[str, int | str] | None = None


class ModelDescription(JsonObject):
    """The model: its name, where it lay, and the hashes that say whether two results are of the same one.

    `identity` has a hash of everything that can change an answer by part (config, generation, tokenizer, weights, …) and one
    of all (`sha256`); `fingerprint` is the hash of the weights, `gguf_sha256` that of the GGUF file, whatever engine read it;
    `bits` are those of a quantized weight. `run` and `step` name the training run and the optimizer step of the model.
    """

    path: str | None = None
    name: Annotated[str, Field(min_length=1)]
    identity: dict[str, str] | None = None
    fingerprint: str | None = None
    tokenizer_sha256: str | None = None
    parameters: ParameterCount | None = None
    dtype: str | None = None
    bits: Annotated[float, Field(gt=0)] | None = None
    gguf_sha256: str | None = None
    device: str | None = None
    engine: EngineDescription | None = None
    revision: str | None = None
    commit: str | None = None
    run: str | None = None
    step: Count | None = None
    tokenizer_note: str | None = None
    warnings: list[str] = []

    def part_hash(self, part_name: str) -> str | None:
        """The hash of a part of the model: `fingerprint` (the weights), or a part of the identity such as `config`."""
        own_hash = self.to_json().get(part_name)
        return own_hash if isinstance(own_hash, str) and own_hash else (self.identity or {}).get(part_name)

    @property
    def server_differences(self) -> list[str]:
        """How the server that answered differs from this program's own engine."""
        return [] if self.engine is None else self.engine.differences


class AnswersFile(JsonObject):
    """The file of answers made elsewhere that a result was scored from, and what its reader should know."""

    path: str | None = None
    sha256: str | None = None
    notes: list[str] = []


class Result(JsonObject):
    """A result file: one model under one protocol, an entry for each task that is finished.

    `order` are the tasks that were ordered; `complete` says whether each of them has an entry. `limit` is the most questions
    of each task (of each MMLU subject), or of some tasks by name; absent, there is none (`question_limit`). `data_hashes` are
    those of the rows by task and split, `data_commits` the hub's commits by task, `benchmarks` the folder that the rows came
    from where it was not the hub, `lm_eval` lm-evaluation-harness's own result by task, as it gave it. `result_sha256` covers
    all else.
    """

    format: str
    complete: bool = False
    order: list[str] | None = None
    created: str | None = None
    suite: SuiteDescription
    protocol: ProtocolDescription
    requests_sha256: str | None = None
    limit: PositiveCount | dict[str, PositiveCount] | None = None
    model: ModelDescription
    tasks: dict[str, AnyTaskResult]
    averages: dict[str, Average]
    data_hashes: dict[str, dict[str, str]] = {}
    data_commits: dict[str, str] = {}
    benchmarks: str | None = None
    versions: dict[str, Any] = {}
    lm_eval: dict[str, dict[str, Any]] = {}
    answers: AnswersFile | None = None
    questions_sha256: str | None = None
    result_sha256: str | None = None

    _file_content: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def question_limit(self) -> QuestionLimit:
        """The limit of the tasks that the result has or is to have, of each task and in words."""
        return QuestionLimit.of_file(self.limit, {*(self.order or []), *self.tasks})

    @property
    def file_content(self) -> dict[str, Any]:
        """The JSON that the result was read from, or would be written as. For the hashes of this package alone."""
        return self.to_json() if self._file_content is None else self._file_content

    def forget_file_content(self) -> None:
        """Let `file_content` be what the result would be written as; for a result that is not as it was read any more."""
        self._file_content = None

    def records_row_status(self, task_name: str) -> bool:
        """Whether the JSON of the file itself, not `migrate_result`, says if a task's rows are the leaderboard's."""
        if self._file_content is None:
            return self.tasks[task_name].row_check is not None
        return self._file_content["tasks"][task_name].get("row_check") is not None

    @classmethod
    def from_file_content(cls, file_json: dict[str, Any]) -> Result:
        """The result that a file's JSON holds; raises pydantic.ValidationError where a key is missing or of another type."""
        result = cls.model_validate(file_json)
        result._file_content = file_json
        return result

    @property
    def format_version(self) -> int:
        """The version of the format that the file is of: 1, 2 or 3."""
        return int(self.format.removeprefix(RESULT_FORMAT_PREFIX))

    def is_comparable(self, *task_names: str) -> bool:
        """Whether a difference to a reported score means anything.

        It does not on another suite than the leaderboard's, nor where one of `task_names` was measured on other rows.
        """
        entries = [
            (self.tasks[name], facts)
            for name, facts in TASK_BY_NAME.items()
            if name in task_names and name in self.tasks
        ]
        return self.suite.comparable and all(
            entry.row_status(facts.evaluation_split) != OTHER_ROWS for entry, facts in entries
        )

    @property
    def missing_task_names(self) -> list[str]:
        """The names of the tasks that were ordered and have no entry."""
        return [task_name for task_name in self.order or [] if task_name not in self.tasks]

    def row_hashes_by_split(self, task_name: str) -> dict[str, str] | None:
        """The hashes of a task's rows by split, or None where the result does not know them."""
        return self.data_hashes.get(task_name)

    def evaluation_row_hash(self, task: TaskFacts) -> str | None:
        """The hash of the rows that a task's questions were made from, or None where the result does not know it."""
        return self.data_hashes.get(task.name, {}).get(task.evaluation_split)

    @property
    def answer_notes(self) -> list[str]:
        """What a reader should know of answers that were made elsewhere."""
        return [] if self.answers is None else self.answers.notes


class Question(JsonObject):
    """One scored question: a line of `NAME.questions.jsonl`.

    `task` is the task or MMLU's subject (`mmlu_SUBJECT`), `index` the place in the protocol's order, `row` the row number in
    the benchmark. `answers` has a log-probability (nats) or a text for each request; `greedy` whether a continuation is the
    model's own choice; `whole` the text before the protocol threw its first tokens away, with its score `whole_score`;
    `ran_out` whether a text reached its token limit. Questions of one `cluster` are not independent. `overlap` is the share
    of the question that stands in the training records, `relative` that of a relative where only this stands there.
    """

    #: Keys that every line of this program has; a line without one of them is read by reports all the same.
    REQUIRED_KEYS: ClassVar[tuple[str, ...]] = ("task", "index", "row", "score", "answers")

    task: str
    index: int = 0
    row: int
    prediction: Any = None
    gold: Any = None
    score: Fraction
    acc: Fraction | None = None
    mc1: Fraction | None = None
    em: Fraction | None = None
    rule: str | None = None
    whole_score: Fraction | None = None
    answers: list[float | str] = []
    greedy: list[bool | None] | None = None
    whole: list[str | None] | None = None
    ran_out: list[bool | None] | None = None
    overlap: Fraction | None = None
    relative: Fraction | None = None
    cluster: str | None = None

    @model_validator(mode="after")
    def _check_value_counts(self) -> Question:
        for field_name in ("greedy", "whole", "ran_out"):
            values_by_answer = getattr(self, field_name)
            if values_by_answer and len(values_by_answer) != len(self.answers):
                raise ValueError(f"'{field_name}' has {len(values_by_answer)} values for {len(self.answers)} answers")
        return self

    def to_json(self) -> dict[str, Any]:
        """As `JsonObject.to_json`, without pydantic's serializer: a result has 28,000 questions."""
        known_fields = {
            field_name: self.__dict__[field_name]
            for field_name in type(self).model_fields
            if field_name in self.model_fields_set
        }
        json_fields = known_fields | (self.model_extra or {})
        return {key: copy_list(json_fields[key]) for key in (*self._key_order, *json_fields) if key in json_fields}

    @property
    def suite_task(self) -> str:
        """The name of the result's entry that the question belongs to; MMLU's subjects belong to `mmlu`."""
        return task_name_of_part(self.task)

    @property
    def subject(self) -> str:
        """The subject of the question in a task of subjects, as MMLU is; of other tasks the task."""
        facts = TASK_BY_NAME.get(self.suite_task)
        return self.task if facts is None or facts.subject_column is None else facts.subject_of_part(self.task)

    @property
    def part_and_row(self) -> tuple[str, int]:
        """(part, row number): what names the question in every result over the same rows."""
        return self.task, self.row


class HarnessQuestion(Question):
    """One scored question of a task that the suite does not have: a line with the key `group`.

    `group` is the name of the result's entry: the task, or a group that has it as a part. `score` is any number: what the
    value is the mean of, or a log-likelihood in nats with its `weight`, the words or bytes that it is of (`HarnessTask`).
    `metrics` has the question's own values of all metrics, by the names that the entry has; a pair is a log-likelihood and its
    weight. `document_sha256` is lm-eval's hash of the row (`doc_hash`).
    """

    group: Annotated[str, Field(min_length=1)]
    score: Number
    weight: Annotated[float, Field(ge=0)] | None = None
    metrics: dict[str, Number | list[Number]] = {}
    document_sha256: str | None = None

    @property
    def suite_task(self) -> str:
        """The name of the result's entry that the question belongs to."""
        return self.group

    @property
    def subject(self) -> str:
        """The part of the entry: a task of lm-eval."""
        return self.task


def question_from_json(question_json: Any) -> Question:
    """The question that a line holds, of the kind that its keys say; raises pydantic.ValidationError for a wrong one."""
    has_group = isinstance(question_json, dict) and "group" in question_json
    return (HarnessQuestion if has_group else Question).model_validate(question_json)
