"""What is evaluated and how: the one value that describes an evaluation, for this process and its helpers.

Its own module because helper processes and commands need it without the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench.evaluate.engine_choice import EngineConfig
from orca_bench.evaluate.tasks import Task
from orca_bench.models.model_folder import ModelSource


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how; `result_paths` gives each protocol its result file, in the order in which they run.

    `name` is what results call the model. `benchmarks` is a folder of rows, None is the hub, `benchmarks_revisions` are those
    of the hub's data sets, by task. `limit` is the most questions of each task (of each MMLU subject). With `fresh`, answers
    of an earlier evaluation are not used. After `max_seconds` nothing more is begun. `max_new_tokens` gives tasks another
    limit for their answers than the protocol's own, tokens.
    """

    model: ModelSource
    name: str
    tasks: Sequence[Task]
    result_paths: Mapping[str, Path]
    system: str
    benchmarks: Path | None
    limit: int | None
    dtype: str
    fresh: bool = False
    engine: EngineConfig = EngineConfig()
    max_seconds: float | None = None
    benchmarks_revisions: Mapping[str, str] = field(default_factory=dict)
    max_new_tokens: Mapping[str, int] = field(default_factory=dict)
