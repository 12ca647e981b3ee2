"""A result and its baselines in, out what forbids comparing them, in words.

Other suites, limits, protocols, rows, requests or token ids mean that a difference of scores is not one of the models. Its own
module because these checks read the results' descriptions, while the gate itself reads scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orca_bench.errors import UserError
from orca_bench.files import file_sha256
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.models import ProtocolDescription
from orca_bench.results.reading import ResultFile, questions_path_for
from orca_bench.suite import ALL_TASKS, TaskFacts

_FIRST_FORMAT_OF_ROW_HASHES = 3  # earlier ones hash rows in another way


def refuse_repeated_files(result: ResultFile, baselines: Sequence[ResultFile]) -> None:
    """Raise UserError where a file, or its questions, stand twice: one run counted twice would say that seeds do nothing."""
    paths = {result.path.resolve(): "it is the result itself"}
    baselines_by_content: dict[str, ResultFile] = {}
    for baseline in baselines:
        path = baseline.path.resolve()
        if path in paths:
            raise UserError(f"no baseline: {paths[path]}", where=baseline.path)
        paths[path] = "it is given twice"
        content_hash = _content_hash(baseline)
        if content_hash in baselines_by_content:
            raise UserError(
                f"its questions are those of {baselines_by_content[content_hash].path}, byte for byte",
                where=baseline.path,
                hint="several baselines are runs with other seeds",
            )
        baselines_by_content[content_hash] = baseline


def reasons_against_comparison(result: ResultFile, baselines: Sequence[ResultFile]) -> list[str]:
    """What makes the results incomparable as a whole, each reason once."""
    reasons = [reason for result_file in (result, *baselines) for reason in _soundness_problems(result_file)]
    for baseline in baselines:
        reasons += _differences(result, baseline)
    return list(dict.fromkeys(reasons))


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
    omitted_titles = [task.title for task in ALL_TASKS if task.name in present_tasks and task not in examined_tasks]
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
    notes += [
        f"the questions and answers are those of {baseline.path}, byte for byte"
        for baseline in baselines
        if _content_hash(baseline) == _content_hash(result)
    ]
    return notes


def _content_hash(result_file: ResultFile) -> str:
    return file_sha256(questions_path_for(result_file.path))


def _soundness_problems(result_file: ResultFile) -> Iterator[str]:
    """What is wrong with one result by itself."""
    if not result_file.result.complete:
        missing = result_file.result.missing_task_names
        yield f"{result_file.path} is unfinished" + (f" ({', '.join(missing)})" if missing else "")
    if not is_unchanged_since_writing(result_file.result):
        yield f"{result_file.path} was changed after it was written; orca-bench verify says where"


def _differences(result: ResultFile, baseline: ResultFile) -> list[str]:
    current_result, baseline_result = result.result, baseline.result
    reasons = []
    if current_result.suite.name != baseline_result.suite.name:
        reasons.append(
            f"other suite: {current_result.suite.name} here, {baseline_result.suite.name} in {baseline.path}"
        )
    if current_result.limit != baseline_result.limit:
        reasons.append(
            f"other limit: {current_result.limit or 'none'} here, {baseline_result.limit or 'none'} in {baseline.path}"
        )
    if differing_keys := current_result.protocol.differing_keys(
        baseline_result.protocol, current_result.tasks.keys() & baseline_result.tasks.keys()
    ):
        protocol_text, baseline_protocol_text = (
            _protocol_text(current_result.protocol, differing_keys),
            _protocol_text(baseline_result.protocol, differing_keys),
        )
        reasons.append(f"other protocol: {protocol_text} here, {baseline_protocol_text} in {baseline.path}")
    if (current_result.format_version < _FIRST_FORMAT_OF_ROW_HASHES) != (
        baseline_result.format_version < _FIRST_FORMAT_OF_ROW_HASHES
    ):
        older_file = min(result, baseline, key=lambda result_file: result_file.result.format_version)
        return [*reasons, f"rows were hashed otherwise when {older_file.path} was written: evaluate again"]
    for task in ALL_TASKS:
        if task.name in result.questions_by_task and task.name in baseline.questions_by_task:
            reasons += _task_differences(result, baseline, task, bool(reasons))
    return reasons


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
        f", {key} {str(value)!r:.60}" for key, value in fields if key not in ("name", "version")
    )
