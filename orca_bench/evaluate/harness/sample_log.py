"""lm-eval's results of tasks in, the files that its own `--log_samples --output_path` writes out.

Users of lm-eval have scripts that read results_TIME.json and samples_TASK_TIME.jsonl; `eval --log-samples` gives them both, after
every task, so that a stopped evaluation leaves a whole log of the tasks that it finished. lm-eval's own tracker writes the
samples. Its own module because only it knows the keys of lm-eval's files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import lm_eval
import transformers
from lm_eval.api.metrics import mean_stderr
from lm_eval.loggers import EvaluationTracker
from lm_eval.utils import handle_non_serializable, hash_string

from orca_bench.errors import WriteError
from orca_bench.files import make_writable_folder, write_text
from orca_bench.question_limit import QuestionLimit
from orca_bench.results.models import ModelDescription
from orca_bench.results.protocol_description import ProtocolDescription

#: The parts of lm-eval's result that are by task or group, samples apart.
KEYS_BY_TASK = (
    "results",
    "groups",
    "group_subtasks",
    "configs",
    "versions",
    "n-shot",
    "higher_is_better",
    "n-samples",
)
_NOT_KNOWN = "N/A"  # lm-eval's standard error where it computed none


class SampleLog:
    """The log of one protocol of an evaluation, as lm-eval writes it into `folder`/MODEL."""

    def __init__(
        self, folder: Path, model: ModelDescription, protocol: ProtocolDescription, question_limit: QuestionLimit
    ):
        """Raises UserError where the folder cannot be written."""
        self._tracker = EvaluationTracker(output_path=str(make_writable_folder(folder)))
        self._tracker.general_config_tracker.log_experiment_args(
            model_source="orca-bench",
            model_args={"pretrained": model.name},
            system_instruction=protocol.system,
            chat_template=None,
            fewshot_as_multiturn=protocol.few_shot == "turns",
        )
        self._tracker.date_id = datetime.now().isoformat().replace(":", "-")
        self._folder = folder / str(self._tracker.general_config_tracker.model_name_sanitized)
        self._content: dict[str, Any] = {key: {} for key in KEYS_BY_TASK}
        self._task_hashes: dict[str, str] = {}
        self._config = {
            "model": "orca-bench",
            "model_args": {"pretrained": model.name, "protocol": protocol.name_and_version},
            "model_num_parameters": model.parameters,
            "model_dtype": model.dtype,
            "model_revision": model.revision,
            "model_sha": model.commit or "",
            "device": model.device,
            "limit": question_limit.count,
            "bootstrap_iters": 0,
            "gen_kwargs": {},
        }

    @property
    def results_file(self) -> Path:
        """The file of results."""
        return self._folder / f"results_{self._tracker.date_id}.json"

    def add(self, harness_result: Mapping[str, Any]) -> None:
        """Write the samples of some tasks, and the results of all tasks so far; raises UserError where the disk is full."""
        make_writable_folder(self._folder)
        for task_name, samples in harness_result["samples"].items():
            # The tracker replaces keys of the samples, which belong to the caller.
            self._tracker.save_results_samples(task_name, [dict(sample) for sample in samples])
            if not self._samples_file(task_name).is_file():  # the tracker logs an error and goes on
                raise WriteError("lm-eval could not write samples", where=self._samples_file(task_name))
            self._task_hashes[task_name] = hash_string(
                "".join(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in samples)
            )
        for key in KEYS_BY_TASK:
            self._content[key] |= harness_result.get(key) or {}
        for task_name, samples in harness_result["samples"].items():
            self._content["results"][task_name] = _with_standard_errors(self._content["results"][task_name], samples)
        self._tracker.general_config_tracker.log_end_time()
        content = {
            **{key: value for key, value in self._content.items() if value or key != "groups"},
            "config": self._config,
            "git_hash": None,
            "date": datetime.now().timestamp(),
            "transformers_version": transformers.__version__,
            "lm_eval_version": lm_eval.__version__,
            "task_hashes": self._task_hashes,
            **asdict(self._tracker.general_config_tracker),
        }
        text = json.dumps(content, indent=2, default=handle_non_serializable, ensure_ascii=False)
        write_text(self.results_file, text)

    def _samples_file(self, task_name: str) -> Path:
        return self._folder / f"samples_{task_name}_{self._tracker.date_id}.jsonl"


def _with_standard_errors(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A task's results with lm-eval's standard error of each mean; without bootstrap `evaluate` computes none."""
    filled = dict(results)
    for key, value in results.items():
        metric, comma, filter_name = key.partition(",")
        if value != _NOT_KNOWN or not comma or not metric.endswith("_stderr"):
            continue
        name = metric.removesuffix("_stderr")
        values = [sample.get(name) for sample in samples if sample["filter"] == filter_name]
        if len(values) > 1 and all(isinstance(value, int | float) for value in values):
            filled[key] = mean_stderr(values)
    return filled
