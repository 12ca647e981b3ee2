"""What a result says of one task: of a task of the suite, or of any other task of lm-eval or of another program.

`TaskResult` is an entry of the suite's tasks: all values are fractions of 1. `HarnessTaskResult` is one of a task that the
suite does not have, or of a group of such tasks; it describes itself (unit, direction, metrics, parts), for no table of this
program knows the task. An entry with the key `harness` is of this second kind. Its own module because a result has many
entries, and models.py says what they stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, PlainSerializer, Tag

from orca_bench.results.json_object import (
    ConfidenceInterval,
    Count,
    Fraction,
    JsonObject,
    PositiveCount,
    Seconds,
    StandardError,
    as_tuple,
)

#: Any finite number.
Number = Annotated[float, Field()]
#: Two of them, as of an interval.
NumberPair = Annotated[tuple[Number, Number], BeforeValidator(as_tuple), PlainSerializer(list)]

RowStatus = Literal["true", "not verified", "other"]
#: Whether the rows of a split are the leaderboard's own: they are; no hash of the true ones is known; they are others.
TRUE_ROWS: RowStatus = "true"
UNVERIFIED_ROWS: RowStatus = "not verified"
OTHER_ROWS: RowStatus = "other"


class Measurement(JsonObject):
    """A value with its standard error (None where it has none) and its 95 % interval, in some unit."""

    value: Number
    stderr: StandardError | None = None
    interval: NumberPair | None = None


class Estimate(Measurement):
    """The same as fractions of 1."""

    value: Fraction
    interval: ConfidenceInterval | None = None


class PartResult(Measurement):
    """A part of a group of tasks, in the unit of the group's entry; `n` counts its questions."""

    n: PositiveCount


class SubjectResult(PartResult):
    """One of MMLU's subjects, a fraction of 1; `n` counts its questions."""

    value: Fraction
    interval: ConfidenceInterval | None = None


class WholeAnswers(Estimate):
    """A task's value when nothing of its answers is thrown away; `questions` counts those whose answer changes by that."""

    questions: Count | None = None


class Overlap(JsonObject):
    """How many of a task's questions stand in the training records too, and the value without them.

    `without` is None where no question is left. `relatives` counts those of which only a relative stands there; they are not
    left out. `training_rows` counts the rows of the benchmark's other splits that stand in the records: training on them is
    legal, and the task is then one that the model was tuned for. `subjects` counts the subjects (MMLU) that `without` is of,
    where some have no other question.
    `report_sha256` is the hash of the report that says so (`DataReport.sha256`).
    """

    questions: Count
    without: Estimate | None = None
    relatives: Count | None = None
    training_rows: Count | None = None
    subjects: Count | None = None
    report_sha256: str | None = None


class Average(JsonObject):
    """A mean of tasks' values; `value` is None where one of its tasks has none."""

    value: Fraction | None
    stderr: StandardError | None = None
    interval: ConfidenceInterval | None = None


class TaskResult(Estimate):
    """One task: its value, what it was measured on, and what a reader of the number must know (`warnings`).

    `n` counts questions, `rows` the benchmark rows there were, `shortened` the contexts that were cut to the model's window,
    `narrowed` those that a server's window cut further, `ran_out` the texts that reached their token limit, `clusters` the
    groups of questions that are not independent. `chance` is what guessing scores, a fraction of 1 (`TaskFacts.chance` is
    percent); this program does not write it.
    """

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["harness"]}})

    title: str
    metric: str
    shots: Count | None = None
    n: PositiveCount
    full_size: PositiveCount | None = None
    chance: Fraction | None = None
    ran_out: Count | None = None
    whole: WholeAnswers | None = None
    clusters: Count | None = None
    subjects: dict[str, SubjectResult] | None = None
    rows: Count | None = None
    requests_sha256: str | None = None
    tokens_sha256: str | None = None
    shortened: Count | None = None
    narrowed: Count | None = None
    seconds: Seconds | None = None
    overlap: Overlap | None = None
    row_check: dict[str, str] | None = None
    warnings: list[str] = []

    def row_status(self, split: str) -> str:
        """Whether the rows of a split are the leaderboard's (TRUE_ROWS), other ones, or UNVERIFIED_ROWS."""
        return (self.row_check or {}).get(split, UNVERIFIED_ROWS)


class MetricResult(Measurement):
    """A metric of a task outside the suite; `unit` and `higher_is_better` as in `HarnessTaskResult`.

    `aggregation` says how values of questions become the metric's, by lm-eval's names (mean, weighted_perplexity, f1, …).
    `n` counts the questions that it is of, where these are not all.
    """

    unit: str = ""
    higher_is_better: bool = True
    aggregation: str = "mean"
    n: Count | None = None


class HarnessTask(JsonObject):
    """What another program says of a task that the suite does not have.

    `program` is its name (lm_eval, inspect_ai), `version` the task's own, `dataset_path` and `dataset_name` its data set on
    the hub, `split` the one that holds the questions. `output_type` is lm-eval's, `generation` how texts are generated, and
    `aggregation` how scores of questions become the value, by lm-eval's names: with `mean` the value is their mean; with
    `perplexity`, `weighted_perplexity` and `bits_per_byte` a score is a log-likelihood in nats; with any other one a score
    says only whether the question is right.
    """

    program: str = "lm_eval"
    version: str | int | float | None = None
    output_type: str | None = None
    dataset_path: str | None = None
    dataset_name: str | None = None
    split: str | None = None
    aggregation: str = "mean"
    generation: dict[str, Any] | None = None


class HarnessTaskResult(TaskResult):
    """The entry of a task that the suite does not have, or of a group of tasks.

    `metric` is the name of the value's metric, with its filter where lm-eval has one (`exact_match,strict-match`), and
    `metrics` has all metrics by such names, this one among them. `unit` is empty for fractions of 1, which are shown in
    percent; else it is a word (perplexity, bits per byte, points), and values are any numbers. Of a group, `subjects` are the
    tasks that it is made of, and `weighting` says what counts alike in its value: each question or each part.
    `interval_note` says why there is no interval, or how it was computed where that is not the usual way.
    """

    model_config = ConfigDict(json_schema_extra=None)

    value: Number
    interval: NumberPair | None = None
    subjects: dict[str, PartResult] | None = None  # type: ignore[assignment]  # read as any subjects
    harness: HarnessTask
    unit: str = ""
    higher_is_better: bool = True
    weighting: Literal["questions", "parts"] | None = None
    metrics: dict[str, MetricResult] = {}
    interval_note: str | None = None


def _entry_kind(entry: Any) -> str:
    """The kind of an entry, of JSON or typed, by its keys."""
    has_harness = "harness" in entry if isinstance(entry, Mapping) else isinstance(entry, HarnessTaskResult)
    return HARNESS_ENTRY_TAG if has_harness else SUITE_ENTRY_TAG


#: What pydantic calls the two kinds of an entry in the place of an error.
SUITE_ENTRY_TAG, HARNESS_ENTRY_TAG = "suite task", "harness task"

#: An entry of `Result.tasks`, of the kind that its keys say.
AnyTaskResult = Annotated[
    Annotated[TaskResult, Tag(SUITE_ENTRY_TAG)] | Annotated[HarnessTaskResult, Tag(HARNESS_ENTRY_TAG)],
    Discriminator(_entry_kind),
]
