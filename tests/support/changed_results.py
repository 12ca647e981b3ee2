"""Results like another one with questions changed; values, averages and hashes are computed again, as of a real result."""

import json
import random

from orca_bench.files import file_sha256
from orca_bench.results import hashing, reading, summary
from orca_bench.results.models import Question
from orca_bench.results.task_results import TaskResult
from orca_bench.suite import ALL_TASKS, task_name_of_part


def change_result(folder, source, target, edit_line, edit_result=lambda result: None):
    """Write `target` like `source` and return its path; both are names of result files in `folder`.

    `edit_line` changes a line of the questions in place, or drops it by returning False; `edit_result` changes the result's
    JSON before its hash is computed.
    """
    result = json.loads((folder / source).read_text())
    lines = [json.loads(line) for line in reading.questions_path_for(folder / source).read_text().splitlines()]
    lines = [line for line in lines if edit_line(line) is not False]
    file = reading.questions_path_for(folder / target)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for task in ALL_TASKS:
        own = [Question.model_validate(line) for line in lines if task_name_of_part(line["task"]) == task.name]
        if own:
            result["tasks"][task.name] |= summary.summarize_task(task, own).to_json()
        else:
            result["tasks"].pop(task.name, None)
    entries = {name: TaskResult.model_validate(entry) for name, entry in result["tasks"].items()}
    result["averages"] = {name: average.to_json() for name, average in summary.compute_averages(entries).items()}
    result["questions_sha256"] = file_sha256(file)
    edit_result(result)
    result["result_sha256"] = hashing.compute_content_sha256(result)
    (folder / target).write_text(json.dumps(result))
    return folder / target


def random_scores(seed, **shares):
    """An `edit_line` that makes each question of a task right with the task's share: `random_scores(1, hellaswag=0.9)`."""
    rng = random.Random(seed)

    def edit_line(line):
        task = task_name_of_part(line["task"])
        if task in shares:
            line["score"] = float(rng.random() < shares[task])

    return edit_line


def no_change(line):
    """An `edit_line` that changes nothing."""
