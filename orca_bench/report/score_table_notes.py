"""Results in, notes out: in plain words, what a reader must know before comparing a number.

Its own module because the table of tasks, the leaderboard and the page show the same notes, and because these sentences are what
keeps a reader from a wrong conclusion.
"""

from __future__ import annotations

from orca_bench.models.model_warnings import warning_rank
from orca_bench.report.notes import Note, NotedNumber, NoteKind
from orca_bench.report.overlap_text import overlap_notes
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.models import Result
from orca_bench.results.task_results import HarnessTaskResult
from orca_bench.suite import TASK_BY_NAME

#: The heading of the numbers that are reported, as a note has it.
REPORTED = "reported"
_UNFAIR_PROTOCOLS = {
    "orca": "measured in the Orca prompt, the reported scores without it: a difference mixes model and protocol",
    "chat": "measured in the model's own chat template, the reported scores without one: a difference mixes model and protocol",
    "plain": "measured in lm-eval's own prompts of today, the reported scores by a harness of 2023 with other prompts, draws and "
    "stop rules: a difference mixes model and protocol",
}


def result_notes(label: str, result: Result, has_reported_scores: bool = True) -> list[Note]:
    """Everything a reader must know about a result: protocol, suite, limit, tasks not run, warnings.

    `has_reported_scores` says whether reported scores stand beside it.
    """
    whole_result = (NotedNumber(label),)
    notes = [Note(_protocol_text(result), "provenance", whole_result), *change_notes(label, result)]
    if has_reported_scores and not result.is_comparable():
        text = (
            f"measured on the {result.suite.name} suite and not comparable with the reported scores, so the column of "
            "differences is left out"
        )
        notes.append(Note(text, "warning", whole_result))
    elif has_reported_scores and result.protocol.name in _UNFAIR_PROTOCOLS:
        notes.append(Note(_UNFAIR_PROTOCOLS[result.protocol.name], "warning", whole_result))
    if result.question_limit:
        notes.append(Note(f"only the {result.question_limit.full_text}", "remark", whole_result))
    if not result.complete:
        missing_titles = [
            TASK_BY_NAME[name].title if name in TASK_BY_NAME else name for name in result.missing_task_names
        ]
        text = f"unfinished; ordered and not run: {', '.join(missing_titles) or 'tasks without a number'}"
        notes.append(Note(text, "warning", whole_result))
    notes += [Note(warning, "warning", whole_result, rank=warning_rank(warning)) for warning in result.model.warnings]
    notes += task_notes(label, result)
    notes += overlap_notes(label, result)
    notes += [Note(text, "remark", whole_result) for text in result.answer_notes]
    prefix = "" if result.model.engine is not None and result.model.engine.name == "llamacpp" else "asked of a server: "
    notes += [Note(f"{prefix}{text}", "remark", whole_result) for text in result.model.server_differences]
    for name, task_result in result.tasks.items():
        if task_result.shortened:
            text = f"contexts longer than the model's window, which were cut: {task_result.shortened}"
            notes.append(_number_note(text, "remark", label, name))
        if task_result.n < 2:
            notes.append(_number_note("one question has no standard error", "remark", label, name))
        elif isinstance(task_result, HarnessTaskResult) and task_result.interval_note is not None:
            notes.append(_number_note(task_result.interval_note, "remark", label, name))
    return notes


def change_notes(label: str, result: Result) -> list[Note]:
    """A warning where a result is not as it was written, so that its numbers may be invented."""
    if is_unchanged_since_writing(result):
        return []
    text = "changed after it was written, so its numbers prove nothing; orca-bench verify says where"
    return [Note(text, "warning", (NotedNumber(label),))]


def task_notes(label: str, result: Result) -> list[Note]:
    """What belongs to single numbers: their warnings, and rows not known to be the leaderboard's."""
    notes = []
    for name, task_result in result.tasks.items():
        notes += [_number_note(warning, "warning", label, name) for warning in task_result.warnings]
        if isinstance(task_result, HarnessTaskResult):
            continue  # whose rows are not the leaderboard's
        if result.is_comparable() and not result.is_comparable(name):
            text = "other rows than the leaderboard's, so its difference is left out"
            notes.append(_number_note(text, "warning", label, name))
        elif result.is_comparable() and result.format_version < 3:
            text = "rows not verified: the result is of an earlier version"
            notes.append(Note(text, "remark", (NotedNumber(label),)))
        elif result.is_comparable() and not result.records_row_status(name):
            text = "rows not verified: the result does not say whether they are the leaderboard's"
            notes.append(Note(text, "remark", (NotedNumber(label),)))
    return notes


def reported_notes(reported_scores: ReportedScores, is_comparable: bool = True) -> list[Note]:
    """The source of the reported scores, and remarks on single ones, which matter where some result may be compared with them."""
    source = Note(f"{reported_scores.model}, {reported_scores.source}", "provenance", (NotedNumber(REPORTED),))
    kind: NoteKind = "remark" if is_comparable else "provenance"
    return [source, *(_number_note(text, kind, REPORTED, name) for name, text in reported_scores.notes.items())]


def _number_note(text: str, kind: NoteKind, label: str, name: str) -> Note:
    return Note(text, kind, (NotedNumber(label, name),))


def _protocol_text(result: Result) -> str:
    protocol = result.protocol
    harness_text = "" if protocol.lm_eval is None else f" (lm-eval {protocol.lm_eval})"
    requests_text = f", requests {result.requests_sha256[:16]}" if result.requests_sha256 else ""
    return f"protocol {protocol.name_and_version}{harness_text}{requests_text}"
