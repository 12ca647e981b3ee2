"""What is evaluated and how: the one value that describes an evaluation, for this process and its helpers.

Its own module because helper processes and commands need it without the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench.evaluate.engine_config import EngineConfig
from orca_bench.evaluate.tasks import Task
from orca_bench.models.model_folder import ModelFolder
from orca_bench.question_limit import QuestionLimit


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how; `result_paths_by_protocol` gives each protocol its result file, in the order in which they run.

    `model_name` is what results call the model. `benchmarks_folder` is a folder of rows, None is the hub,
    `dataset_revisions_by_task` are those of the hub's data sets, by task. `question_limit` is the most questions of each task
    (of each MMLU subject). With `ignores_cached_answers`, answers of an earlier evaluation are not used. After `max_seconds`
    nothing more is begun. `max_new_tokens_by_task` gives tasks another limit for their answers than the protocol's own, tokens.
    `data_report_path` is a report of `orca-bench data check` on the records that the model was trained on;
    `has_named_report` says that a user named it, so that it must be of these rows. `few_shot` says how protocol `chat` shows
    few-shot examples. `harness_task_names` are names of lm-eval's tasks and groups that the suite does not have; protocol
    `plain` alone has them. `sample_log_folders_by_protocol` are the folders into which lm-eval's own files are written too.
    """

    model_folder: ModelFolder
    model_name: str
    tasks: Sequence[Task]
    result_paths_by_protocol: Mapping[str, Path]
    system_text: str | None
    benchmarks_folder: Path | None
    question_limit: QuestionLimit
    dtype: str
    ignores_cached_answers: bool = False
    engine_config: EngineConfig = EngineConfig()
    max_seconds: float | None = None
    dataset_revisions_by_task: Mapping[str, str] = field(default_factory=dict)
    max_new_tokens_by_task: Mapping[str, int] = field(default_factory=dict)
    data_report_path: Path | None = None
    has_named_report: bool = True
    few_shot: str = "turns"
    harness_task_names: Sequence[str] = ()
    sample_log_folders_by_protocol: Mapping[str, Path] = field(default_factory=dict)
