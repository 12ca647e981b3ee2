"""A result and its baselines in, out what forbids comparing them, in words.

Other suites, limits, protocols, rows, requests or token ids mean that a difference of scores is not one of the models. Its own
module because these checks read the results' descriptions, while the gate itself reads scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orca_bench.errors import UserError
from orca_bench.report.result_groups import SETTING_NAMES, setting_text
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.reading import ResultFile, questions_hash
from orca_bench.results.task_facts import tasks_of
from orca_bench.suite import TaskFacts

_FIRST_FORMAT_OF_ROW_HASHES = 3  # earlier ones hash rows in another way
_MAX_VALUE_LENGTH = 60  # characters of a setting in a message


@dataclass(frozen=True)
class Obstacle:
    """What forbids comparing two results; `here` and `there` are what differs, as the result and the baseline have it."""

    text: str
    here: str = ""
    there: str = ""
    baseline: str = ""

    def __str__(self) -> str:
        if not self.here:
            return self.text
        return f"{self.text}: {self.here} here; {self.there} in {self.baseline}"


def refuse_repeated_files(result: ResultFile, baselines: Sequence[ResultFile]) -> None:
    """Raise UserError where a file, or its questions, stand twice: one run counted twice would say that seeds do nothing."""
    refusal_by_path = {result.path.resolve(): "it is the result itself"}
    baseline_by_content: dict[str, ResultFile] = {}
    for baseline in baselines:
        path = baseline.path.resolve()
        if path in refusal_by_path:
            raise UserError(f"no baseline: {refusal_by_path[path]}", where=baseline.path)
        refusal_by_path[path] = "it is given twice"
        content_hash = _content_hash(baseline)
        if content_hash in baseline_by_content:
            raise UserError(
                f"its questions are those of {baseline_by_content[content_hash].path}, byte for byte",
                where=baseline.path,
                hint="several baselines are runs with other seeds",
            )
        baseline_by_content[content_hash] = baseline


def obstacles_to_comparison(result: ResultFile, baselines: Sequence[ResultFile]) -> list[Obstacle]:
    """What makes the results incomparable as a whole, each obstacle once."""
    obstacles = [Obstacle(text) for result_file in (result, *baselines) for text in _soundness_problems(result_file)]
    for baseline in baselines:
        obstacles += _differences(result, baseline)
    return list(dict.fromkeys(obstacles))


def why_not_compared(task: TaskFacts, result: ResultFile, baselines: Sequence[ResultFile]) -> str | None:
    """Why a task of the result cannot be compared: a baseline lacks it, or has other questions; None where it can."""
    for baseline in baselines:
        if task.name not in baseline.questions_by_task:
            return f"not in {baseline.path}"
    question_keys = result.questions_by_task[task.name].questions_by_key.keys()
    for baseline in baselines:
        baseline_keys = baseline.questions_by_task[task.name].questions_by_key.keys()
        if question_keys != baseline_keys:
            return (
                f"{len(question_keys & baseline_keys)} questions in common, of {len(question_keys)} here "
                f"and {len(baseline_keys)} in {baseline.path}"
            )
    return None


def unexamined_notes(
    result: ResultFile, baselines: Sequence[ResultFile], examined_tasks: Sequence[TaskFacts]
) -> list[str]:
    """What was not examined, and what is not informative because both sides are the same."""
    present_tasks = {name for result_file in (result, *baselines) for name in result_file.questions_by_task}
    omitted_titles = [
        task.title
        for task in tasks_of(file.result for file in (result, *baselines))
        if task.name in present_tasks and task not in examined_tasks
    ]
    notes = [f"not examined: {', '.join(omitted_titles)}"] if omitted_titles else []
    tasks_without_token_hashes = [
        task.title
        for task in examined_tasks
        if any(
            task.name in baseline.questions_by_task
            and task.name in result.questions_by_task
            and None in _token_hashes(result, baseline, task)
            for baseline in baselines
        )
    ]
    if tasks_without_token_hashes:
        task_titles = ", ".join(tasks_without_token_hashes)
        notes.append(f"token ids were not compared, for a result does not know them: {task_titles}")
    notes += _notes_on_logs((result, *baselines), examined_tasks)
    notes += [
        f"the questions and answers are those of {baseline.path}, byte for byte"
        for baseline in baselines
        if _content_hash(baseline) == _content_hash(result)
    ]
    dtype = result.result.model.dtype
    notes += [
        f"{baseline.path} was computed in {baseline.result.model.dtype} and this result in {dtype}: "
        "a small difference may be theirs"
        for baseline in baselines
        if None not in (dtype, baseline.result.model.dtype) and baseline.result.model.dtype != dtype
    ]
    return notes


def _notes_on_logs(result_files: Sequence[ResultFile], examined_tasks: Sequence[TaskFacts]) -> list[str]:
    """What logs of other programs do not tell of the examined tasks, so that it was not compared."""
    log_files = [file for file in result_files if file.result.protocol.is_of_log]
    notes = []
    for noun, is_known in (
        ("rows", lambda result, name: result.row_hashes_by_split(name) is not None),
        ("requests", lambda result, name: result.tasks[name].requests_sha256 is not None),
    ):
        titles = [
            task.title
            for task in examined_tasks
            if any(task.name in file.result.tasks and not is_known(file.result, task.name) for file in log_files)
        ]
        if titles:
            notes.append(f"{noun} were not compared, for a log does not tell them: {', '.join(titles)}")
    return notes


def _content_hash(result_file: ResultFile) -> str:
    return questions_hash(result_file)


def _soundness_problems(result_file: ResultFile) -> Iterator[str]:
    """What is wrong with one result by itself."""
    if not result_file.result.complete:
        missing = result_file.result.missing_task_names
        yield f"{result_file.path} is unfinished" + (f" ({', '.join(missing)})" if missing else "")
    if not is_unchanged_since_writing(result_file.result):
        yield f"{result_file.path} was changed after it was written; orca-bench verify says where"


def _differences(result: ResultFile, baseline: ResultFile) -> list[Obstacle]:
    current_result, baseline_result = result.result, baseline.result
    obstacles = []

    def add(text: str, here: object, there: object) -> None:
        obstacles.append(Obstacle(text, str(here), str(there), str(baseline.path)))

    if current_result.suite.name != baseline_result.suite.name:
        add("other suite", current_result.suite.name, baseline_result.suite.name)
    limit, baseline_limit = current_result.question_limit, baseline_result.question_limit
    if limit != baseline_limit:
        add("other limit", limit or "none", baseline_limit or "none")
    if differing_keys := current_result.protocol.differing_keys(
        baseline_result.protocol, current_result.tasks.keys() & baseline_result.tasks.keys()
    ):
        protocols = (current_result.protocol, baseline_result.protocol)
        add("other protocol", *(_protocol_text(protocol, differing_keys) for protocol in protocols))
    if (current_result.format_version < _FIRST_FORMAT_OF_ROW_HASHES) != (
        baseline_result.format_version < _FIRST_FORMAT_OF_ROW_HASHES
    ):
        older_file = min(result, baseline, key=lambda result_file: result_file.result.format_version)
        return [*obstacles, Obstacle(f"rows were hashed otherwise when {older_file.path} was written: evaluate again")]
    for task in tasks_of([current_result, baseline_result]):
        if task.name in result.questions_by_task and task.name in baseline.questions_by_task:
            obstacles += map(Obstacle, _task_differences(result, baseline, task, bool(obstacles)))
    return obstacles


def _task_differences(result: ResultFile, baseline: ResultFile, task: TaskFacts, has_reasons: bool) -> Iterator[str]:
    """What forbids comparing a task; with reasons already, only what a result does not say of itself."""
    for current_hash, baseline_hash, description in (
        (
            result.result.row_hashes_by_split(task.name),
            baseline.result.row_hashes_by_split(task.name),
            f"other rows of {task.title}",
        ),
        (
            result.result.tasks[task.name].requests_sha256,
            baseline.result.tasks[task.name].requests_sha256,
            f"other requests of {task.title}: the prompt is not what it was",
        ),
    ):
        if current_hash is None or baseline_hash is None:
            result_file = result if current_hash is None else baseline
            if result_file.result.protocol.is_of_log:
                continue  # a note says that it was not compared
            yield f"{result_file.path} does not say what was asked of {task.title}"
            has_reasons = True
        elif current_hash != baseline_hash and not has_reasons:
            yield description
            has_reasons = True
    tokenizers = {result_file.result.model.tokenizer_sha256 for result_file in (result, baseline)}
    token_hashes = _token_hashes(result, baseline, task)
    if not has_reasons and len(tokenizers) == 1 and None not in token_hashes and len(token_hashes) > 1:
        yield f"other token ids of {task.title}: tokenization is not what it was"


def _token_hashes(result: ResultFile, baseline: ResultFile, task: TaskFacts) -> set[str | None]:
    return {result_file.result.tasks[task.name].tokens_sha256 for result_file in (result, baseline)}


def _protocol_text(description: ProtocolDescription, differing_keys: Sequence[str]) -> str:
    """A protocol's name and version, and its values of the keys that differ."""
    fields = [(key, value) for key, value in description.to_json().items() if key in differing_keys]
    return description.name_and_version + "".join(
        f", {SETTING_NAMES.get(key, key)} {setting_text(value, _MAX_VALUE_LENGTH)}"
        for key, value in fields
        if key not in ("name", "version")
    )
