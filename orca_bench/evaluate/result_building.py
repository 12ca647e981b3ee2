"""A result: what one evaluation found, as one JSON file and one JSON Lines file of questions beside it.

The JSON holds, by task, value, standard error and 95 % interval (fractions of 1), n, metric, shots, a hash of all requests,
whether the rows are the leaderboard's own (`row_check`) and the warnings that belong to the number; the protocol, the suite,
the model's identity, versions, data hashes and the hash of the file of questions; lm-eval's own result; and a hash of all that
(`result_sha256`). It is written after every task, so an evaluation that is stopped leaves a readable one: `complete` is false
while a task of `order`, the tasks that were ordered, has no entry.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from orca_bench import __version__
from orca_bench.evaluate.benchmark_rows import BenchmarkRows, Suite, check
from orca_bench.evaluate.protocols import Protocol
from orca_bench.evaluate.request_files import digest_of
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks.task import Task
from orca_bench.files import sha256, write_json, write_json_lines
from orca_bench.results.reading import NOT_VERIFIED, OTHER, questions_file, seal
from orca_bench.stats import estimates
from orca_bench.suite import AVERAGE_TASKS, BY_NAME, task_of

FORMAT = "orca-bench result 3"
_LIBRARIES = ("lm_eval", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "numpy")


def start(suite: Suite, protocol: Protocol, limit: int | None, model: dict) -> dict:
    """A result without tasks, of which none is ordered. `model` says what was asked: at least `name`."""
    return {
        "format": FORMAT,
        "complete": False,
        "order": [],
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "suite": {"name": suite.name, "comparable": suite.comparable, "note": suite.note},
        "protocol": protocol.describe(),
        "requests_sha256": digest_of([]),
        "limit": limit,
        "model": model,
        "tasks": {},
        "averages": {},
        "data_hashes": {},
        "data_commits": {},
        "versions": {
            "orca_bench": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        "lm_eval": {},
    }


def add(
    result: dict,
    task: Task,
    rows: BenchmarkRows,
    protocol: Protocol,
    questions: Sequence[Question],
    requests_sha256: str,
    **more,
) -> dict:
    """Put a task's scored questions into a result; returns the task's entry. `more` are further facts of the entry."""
    entry = summarize(task, questions) | {"rows": len(rows.evaluation_rows), "requests_sha256": requests_sha256} | more
    if result["suite"]["comparable"]:
        entry["row_check"] = check(task, rows)
    entry["warnings"] = warnings(protocol, task, entry, rows)
    result["tasks"] = _in_order(result["tasks"] | {task.name: entry})
    result["data_hashes"] = _in_order(result["data_hashes"] | {task.name: rows.hashes})
    if rows.commit is not None:
        result["data_commits"] = _in_order(result["data_commits"] | {task.name: rows.commit.sha})
    result["lm_eval"] = _in_order(result["lm_eval"])
    result["averages"] = averages(result["tasks"])
    result["requests_sha256"] = digest_of([name, other["requests_sha256"]] for name, other in result["tasks"].items())
    result["complete"] = set(result["order"]) <= set(result["tasks"])
    return entry


def _in_order(by_task: dict) -> dict:
    return {name: by_task[name] for name in BY_NAME if name in by_task}


def warnings(protocol: Protocol, task: Task, entry: dict, rows: BenchmarkRows) -> list[str]:
    """What a reader of a task's number must know, from its entry without them."""
    ran_out = _ran_out_warning(entry, protocol.max_new_tokens.get(task.name))
    own = _whole_warning(entry) + ran_out + _narrowed_warning(entry)
    return protocol.warnings(task) + own + _row_warnings(task, entry.get("row_check") or {}, rows)


def _row_warnings(task: Task, row_check: dict[str, str], rows: BenchmarkRows) -> list[str]:
    warnings, sizes = [], task.facts.sizes

    def missing(rows: Sequence[dict], split: str) -> str:
        return f": {len(rows):,} here and {sizes[split]:,} in full" if len(rows) != sizes[split] else ""

    if row_check.get(task.split) == OTHER:
        warnings.append(f"other rows than the leaderboard's{missing(rows.evaluation_rows, task.split)}")
    if task.few_shot_split and row_check.get(task.few_shot_split) == OTHER:
        warnings.append(
            f"other examples than the leaderboard's, for their rows are others{missing(rows.few_shot_pool, task.few_shot_split)}"
        )
    unverified = [split for split, status in row_check.items() if status == NOT_VERIFIED]
    if unverified:
        warnings.append(f"rows not verified: no hash of the leaderboard's own is known (split {', '.join(unverified)})")
    return warnings


def _whole_warning(entry: dict) -> list[str]:
    if "whole" not in entry:
        return []
    whole = entry["whole"]
    return [
        f"the first tokens of {whole['questions']} answers, whose contexts were cut, are thrown away, as the harness did; "
        f"{100 * whole['value']:.2f} with them"
    ]


def _ran_out_warning(entry: dict, room: int | None) -> list[str]:
    if not entry.get("ran_out"):
        return []
    return [
        f"{entry['ran_out']:,} of {entry['n']:,} answers had not ended after {room} tokens, and are scored as they are"
    ]


def _narrowed_warning(entry: dict) -> list[str]:
    if not entry.get("narrowed"):
        return []
    return [
        f"{entry['narrowed']} contexts lost up to two tokens more than in process: the server's window must hold the whole "
        "request and one token"
    ]


def summarize(task: Task, questions: Sequence[Question]) -> dict:
    """Value, standard error, interval and n of one task, fractions of 1.

    MMLU is the plain mean of its subjects' accuracies, as on the leaderboard. `whole` is the score with the tokens that a
    protocol threw away, `ran_out` the number of texts that ran out of room, where that is known.
    """
    values = [question.score.value for question in questions]
    clusters = None if questions[0].cluster is None else [question.cluster for question in questions]
    entry = {
        "title": task.title,
        "metric": task.metric,
        "shots": task.shots,
        "n": len(values),
        "full_size": task.facts.full_size,
    }
    ran_out = [
        answer.hit_token_limit
        for question in questions
        for answer in question.answers
        if answer.hit_token_limit is not None
    ]
    if ran_out:
        entry["ran_out"] = sum(ran_out)
    wholes = [question.score.extra.get("whole_score") for question in questions]
    if any(whole is not None for whole in wholes):
        kept = [value if whole is None else whole for value, whole in zip(values, wholes, strict=True)]
        entry["whole"] = _told(estimates.mean(kept, clusters)) | {
            "questions": sum(whole is not None for whole in wholes)
        }
    if task.name != "mmlu":
        estimate = estimates.mean(values, clusters)
        return entry | _told(estimate) | ({} if clusters is None else {"clusters": estimate.clusters})
    names = [question.task.removeprefix("mmlu_") for question in questions]
    subjects: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        subjects.setdefault(name, []).append(value)
    return (
        entry
        | _told(estimates.mean(values, strata=names))
        | {"subjects": {name: _told(estimates.mean(own)) | {"n": len(own)} for name, own in subjects.items()}}
    )


def _told(estimate: estimates.Estimate) -> dict:
    return {"value": estimate.value, "stderr": estimate.stderr, "interval": [estimate.low, estimate.high]}


def averages(tasks: dict[str, dict]) -> dict:
    """The two averages that are reported: over all seven tasks, and over the six without DROP; None where one is missing."""

    def mean(wanted: Sequence[str]) -> dict:
        if any(name not in tasks for name in wanted):
            return {"value": None, "stderr": None, "interval": None}
        value = sum(tasks[name]["value"] for name in wanted) / len(wanted)
        errors = [tasks[name]["stderr"] for name in wanted]
        if None in errors:
            return {"value": value, "stderr": None, "interval": None}
        # A task without spread still has an interval: half of it stands for two standard errors.
        widths = [
            e or (tasks[n]["interval"][1] - tasks[n]["interval"][0]) / 4 for n, e in zip(wanted, errors, strict=True)
        ]
        error = math.sqrt(sum(e * e for e in errors)) / len(wanted)
        width = math.sqrt(sum(w * w for w in widths)) / len(wanted)
        return {"value": value, "stderr": error, "interval": list(estimates.normal_interval(value, width, 0.0))}

    return {name: mean(wanted) for name, wanted in AVERAGE_TASKS.items()}


def write(path: Path, result: dict, questions: Sequence[Question], others: Sequence[dict] = ()) -> None:
    """Write the result and, beside it, every question's prediction, gold and score; `others` are lines of further questions."""
    lines = [*others, *map(_line, questions)]
    order = list(BY_NAME)
    lines.sort(key=lambda line: order.index(task_of(line["task"])))  # stable: within a task as the protocol asked
    write_json_lines(questions_file(path), lines)
    result["questions_sha256"] = sha256(questions_file(path))
    result["result_sha256"] = seal(result)
    write_json(path, result)


def _line(question: Question) -> dict:
    score = question.score
    return (
        {
            "task": question.task,
            "index": question.index,
            "row": question.row_number,
            "prediction": score.prediction,
            "gold": score.gold,
            "score": score.value,
            **score.extra,
            "answers": [answer.value for answer in question.answers],
        }
        | {
            name: values
            for name, values in (
                ("greedy", [answer.greedy for answer in question.answers]),
                ("whole", [answer.full_text for answer in question.answers]),
                ("ran_out", [answer.hit_token_limit for answer in question.answers]),
            )
            if any(value is not None for value in values)
        }
        | ({} if question.cluster is None else {"cluster": question.cluster})
    )
