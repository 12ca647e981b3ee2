"""A result in, an answer to "do its stored answers give these scores?" out: every number computed again from what is stored.

From the answers of each question, by the protocol's own rules and the benchmark's rows, come the scores (rescoring.py); from
the scores the values, errors and averages (results/consistency.py); and warnings, rows and hashes are compared. What cannot be
computed again (times, versions, the model's identity, token ids) is named; a change of it is found by the hash of the whole.
What cannot be found out here is whether a model gave those answers: for that it must be asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, overlap_marks, protocols, result_building
from orca_bench.evaluate.benchmark_rows import BenchmarkRows, Suite
from orca_bench.evaluate.overlap_marks import OverlapMarker
from orca_bench.evaluate.rescoring import NumberedQuestion, rescore_task
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Task
from orca_bench.results import consistency
from orca_bench.results.consistency import Finding
from orca_bench.results.coverage import FieldPath
from orca_bench.results.models import Question, Result
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.reading import find_questions_path, read_questions, read_result
from orca_bench.suite import TASK_BY_NAME

Progress = Callable[[int, int], None]


def verify(
    result_path: Path,
    benchmarks_folder: Path | None,
    should_check_rows: bool = True,
    report_progress: Progress = lambda n, total: None,
    data_report_path: Path | None = None,
) -> list[Finding]:
    """Recompute a result; `benchmarks_folder` are the rows, None for the hub. Without rows, scores are taken as they are stored.

    `data_report_path` is the report on the training records by which questions were marked; by default that of the model's
    folder, where that is here; another report is a finding. Raises UserError where the files cannot be read, or the rows cannot
    be had.
    """
    result = read_result(result_path)
    marker = overlap_marks.marker_of_result(result, data_report_path)
    questions_path = find_questions_path(result_path)
    numbered_questions = _questions_by_task(questions_path)
    findings = [consistency.check_result_hash(result), consistency.check_questions_hash(result, questions_path)]
    if marker is None and data_report_path is not None:
        findings.append(_other_report_finding(result, data_report_path))
    recomputed_paths: set[FieldPath] = {("format",), ("result_sha256",), ("questions_sha256",), ("requests_sha256",)}
    for index, task in enumerate(task for task in SUITE if task.name in result.tasks):
        report_progress(index, len(result.tasks))
        task_rows = benchmark_rows.reload_result_rows(result, task, benchmarks_folder) if should_check_rows else None
        task_questions = numbered_questions.get(task.name, [])
        findings += _check_task_result(result, task, task_questions, task_rows, recomputed_paths)
        if marker is not None and task_rows is not None:
            findings += _check_marks(result, task, task_questions, task_rows, marker, recomputed_paths)
    findings += [
        consistency.check_harness_task_value(
            result, name, [question for _, question in numbered_questions.get(name, [])], recomputed_paths
        )
        for name in result.tasks
        if name not in TASK_BY_NAME
    ]
    questions = [question for of_task in numbered_questions.values() for _, question in of_task]
    findings += [consistency.check_averages(result, recomputed_paths), consistency.check_requests_hash(result)]
    findings += consistency.check_tasks_and_limit(result, questions, recomputed_paths)
    if result.protocol.name in protocols.REQUEST_PROTOCOLS:
        findings.append(_check_protocol_description(result, recomputed_paths))
    if should_check_rows:
        findings.append(_check_suite_identity(result, benchmark_rows.read_suite(benchmarks_folder)))
        recomputed_paths |= {("suite", field_name) for field_name in ("name", "comparable", "note")}
    return [*findings, *consistency.check_coverage(result, recomputed_paths)]


def _questions_by_task(questions_path: Path) -> Mapping[str, Sequence[NumberedQuestion]]:
    """The questions of a file by task, each with its line number; raises UserError for a line without what is written."""
    questions_by_task: dict[str, list[NumberedQuestion]] = {}
    for line_number, question in read_questions(questions_path):
        missing_keys = [key for key in Question.REQUIRED_KEYS if key not in question.model_fields_set]
        if missing_keys:
            raise UserError(
                f"a question without '{missing_keys[0]}'",
                where=f"{questions_path}:{line_number}",
                hint="evaluate again",
            )
        questions_by_task.setdefault(question.suite_task, []).append((line_number, question))
    return questions_by_task


def _check_task_result(
    result: Result,
    task: Task,
    numbered_questions: Sequence[NumberedQuestion],
    task_rows: BenchmarkRows | None,
    recomputed_paths: set[FieldPath],
) -> list[Finding]:
    """All findings of one task; without `task_rows` its scores are taken as they are stored."""
    findings, questions = [], [question for _, question in numbered_questions]
    is_plain = result.protocol.name == "plain"
    if task_rows is not None:
        findings.append(_check_row_hashes(result, task, task_rows, recomputed_paths))
    if task_rows is not None and is_plain:
        detail = "scored by lm-eval's own task, which is not run here"
        findings.append(Finding(f"{task.title}: scores", None, detail))
    elif task_rows is not None:
        rescored_task = rescore_task(result, task, numbered_questions, task_rows)
        questions = rescored_task.questions
        findings += [*rescored_task.findings, _check_task_warnings(result, task, task_rows)]
        recomputed_paths |= {("tasks", task.name, "requests_sha256"), ("tasks", task.name, "warnings")}
        if task.generates_text:  # its token limit stands in the hash of its requests
            has_limits_by_task = isinstance(result.protocol.max_new_tokens, dict)
            recomputed_paths.add(("protocol", "max_new_tokens", *([task.name] if has_limits_by_task else [])))
    findings.append(consistency.check_task_value(result, task.facts, questions, recomputed_paths))
    findings += consistency.check_task_overlap(result, task.facts, questions, recomputed_paths)
    if not is_plain and task.name in result.lm_eval:
        findings.append(consistency.check_harness_account(result, task.facts, questions, recomputed_paths))
    return findings


def _check_row_hashes(
    result: Result, task: Task, task_rows: BenchmarkRows, recomputed_paths: set[FieldPath]
) -> Finding:
    """The hashes of the rows, how many there are, and whether they are the leaderboard's."""
    task_result, check_name = result.tasks[task.name], f"{task.title}: rows"
    if result.format_version < 3:
        return Finding(check_name, None, "hashed otherwise by the version that wrote this result")
    recomputed_paths |= {
        ("data_hashes", task.name),
        *(("tasks", task.name, field_name) for field_name in ("rows", "row_check")),
    }
    recorded_hashes = result.row_hashes_by_split(task.name) or {}
    differing_splits = [
        split
        for split in {**recorded_hashes, **task_rows.hashes_by_split}
        if recorded_hashes.get(split) != task_rows.hashes_by_split.get(split)
    ]
    if differing_splits:
        return Finding(
            check_name, False, f"not the rows that were evaluated: split {', '.join(differing_splits)} differs"
        )
    if task_result.rows != len(task_rows.evaluation_rows):
        return Finding(
            check_name, False, f"{task_result.rows} in the result, {len(task_rows.evaluation_rows)} by the rows"
        )
    row_status = benchmark_rows.row_statuses_by_split(task, task_rows) if result.suite.comparable else None
    if task_result.row_check != row_status:
        return Finding(check_name, False, f"{task_result.row_check} in the result, {row_status} by the rows")
    hashes = ", ".join(f"{split} {digest[:8]}" for split, digest in task_rows.hashes_by_split.items())
    return Finding(
        check_name,
        True,
        hashes if row_status is None else f"{hashes} ({', '.join(dict.fromkeys(row_status.values()))})",
    )


def _check_marks(
    result: Result,
    task: Task,
    numbered_questions: Sequence[NumberedQuestion],
    task_rows: BenchmarkRows,
    marker: OverlapMarker,
    recomputed_paths: set[FieldPath],
) -> list[Finding]:
    """Whether the marks of a task's questions are those that the report gives; nothing where another report gave them."""
    overlap, check_name = result.tasks[task.name].overlap, f"{task.title}: marks"
    if overlap is None or overlap.report_sha256 != marker.report_sha256:
        return []
    if not marker.covers(task) or any(
        question.row >= len(task_rows.evaluation_rows) for _, question in numbered_questions
    ):
        return [Finding(check_name, False, f"{marker.path} does not cover these questions")]
    marks = marker.marks_of(task, task_rows, [question for _, question in numbered_questions])
    differences = [
        f"line {line_number} ({question.task} row {question.row})"
        for (line_number, question), expected in zip(numbered_questions, marks, strict=True)
        if (question.overlap, question.relative) != (expected.overlap, expected.relative)
    ]
    training_row_count = marker.report.training_row_count(task.name)
    if overlap.training_rows is not None and overlap.training_rows != training_row_count:
        differences.append(f"training_rows {overlap.training_rows} in the result, {training_row_count} in the report")
    recomputed_paths |= {("tasks", task.name, "overlap", key) for key in ("report_sha256", "training_rows")}
    shown_differences = "; ".join(differences[: consistency.MAX_DIFFERENCES_PER_FINDING])
    detail = f"not those of {marker.path}: {shown_differences}" if differences else f"those of {marker.path}"
    return [Finding(check_name, not differences, detail)]


def _other_report_finding(result: Result, path: Path) -> Finding:
    """What is said of a result whose questions the named report did not mark."""
    if all(entry.overlap is None for entry in result.tasks.values()):
        return Finding("marks", None, "no question of this result was compared with training records")
    return Finding("marks", False, f"marked by another report than {path}")


def _check_task_warnings(result: Result, task: Task, task_rows: BenchmarkRows) -> Finding:
    """The warnings of a task, which follow from its entry, the protocol and the rows."""
    task_result, check_name = result.tasks[task.name], f"{task.title}: warnings"
    protocol = protocols.protocol_of_result(result.protocol)
    if result.format_version < 3 or result.protocol.version != protocol.version:
        return Finding(check_name, None, "worded otherwise by the version that wrote this result")
    expected_warnings = result_building.reader_warnings(protocol, task, task_result, task_rows)
    differing_warnings = [
        warning
        for warning in {*expected_warnings, *task_result.warnings}
        if (warning in expected_warnings) != (warning in task_result.warnings)
    ]
    return Finding(
        check_name,
        expected_warnings == task_result.warnings,
        "; ".join(differing_warnings)[:200] or f"{len(expected_warnings)}",
    )


def _check_protocol_description(result: Result, recomputed_paths: set[FieldPath]) -> Finding:
    """The protocol's description, where it has the same version today."""
    current_description = protocols.protocol_of_result(result.protocol).describe()
    if result.protocol.version != current_description["version"]:
        return Finding(
            "protocol", None, f"version {result.protocol.version}; this orca-bench has {current_description['version']}"
        )
    tasks = {*result.tasks, *(result.protocol.scoring or ())}  # a task of the suite that is in neither was added later
    differing_keys = result.protocol.differing_keys(ProtocolDescription.model_validate(current_description), tasks)
    described_differences = [
        key for key in current_description if key in differing_keys
    ]  # other keys, as the model's window, are the result's own
    # The token limit of an answer is read from the result itself: only the hash of requests that have it can tell.
    recomputed_paths |= {("protocol", key) for key in current_description if key != "max_new_tokens"}
    return Finding(
        "protocol",
        not described_differences,
        f"other {', '.join(described_differences)}" if described_differences else "as it is here",
    )


def _check_suite_identity(result: Result, suite: Suite) -> Finding:
    recorded_suite = result.suite
    is_same = (recorded_suite.name, recorded_suite.comparable, recorded_suite.note or "") == (
        suite.suite_name,
        suite.is_comparable,
        suite.suite_note,
    )
    detail = suite.suite_name if is_same else f"{recorded_suite.name} in the result, {suite.suite_name} by the rows"
    return Finding("suite", is_same, detail)
