"""Results in, notes out: in plain words, what a reader must know before comparing a number.

A note is (subject, text): the subject is a result's heading, alone or with a task. Its own module because the table of tasks
and the leaderboard show the same notes, and because these sentences are what keeps a reader from a wrong conclusion.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.models import Result
from orca_bench.suite import TASK_BY_NAME

_UNFAIR_PROTOCOLS = {
    "orca": "the question in the Orca prompt, scored as trained; the reported scores were measured without the prompt, so a "
    "difference mixes model and protocol",
    "plain": "lm-eval's own prompts of today; the reported scores come from a 2023 harness with other prompts, draws and stop "
    "rules",
}


def result_notes(label: str, result: Result) -> list[tuple[str, str]]:
    """(subject, text) of everything a reader must know about a result: protocol, suite, limit, tasks not run, warnings."""
    notes = [(label, _protocol_text(result))]
    if not result.is_comparable():
        text = (
            f"measured on the {result.suite.name} suite, not on the leaderboard's questions; "
            "not comparable with reported scores, so no difference is shown"
        )
        notes.append((label, text))
    elif result.protocol.name in _UNFAIR_PROTOCOLS:
        notes.append((label, _UNFAIR_PROTOCOLS[result.protocol.name]))
    if result.limit:
        notes.append((label, f"only the first {result.limit} questions of each task (of each MMLU subject)"))
    if not result.complete:
        missing = [TASK_BY_NAME[name].title for name in result.missing_task_names if name in TASK_BY_NAME]
        notes.append((label, f"unfinished; ordered and not run: {', '.join(missing) or 'tasks without a number'}"))
    notes += [(label, warning) for warning in result.model.warnings]
    notes += task_notes(label, result)
    notes += [(label, text) for text in result.answer_notes]
    notes += [(label, f"asked of a server: {text}") for text in result.model.server_differences]
    for task_result in result.tasks.values():
        score_label = f"{label} {task_result.title}"
        if task_result.shortened:
            notes.append(
                (score_label, f"contexts longer than the model's window, which were cut: {task_result.shortened}")
            )
        if task_result.n < 2:
            notes.append((score_label, "one question has no standard error"))
    return notes


def task_notes(label: str, result: Result) -> list[tuple[str, str]]:
    """(subject, text) of what belongs to single numbers: their warnings, and rows not known to be the leaderboard's."""
    notes = []
    for name, task_result in result.tasks.items():
        score_label = f"{label} {task_result.title}"
        notes += [(score_label, warning) for warning in task_result.warnings]
        if result.is_comparable() and not result.is_comparable(name):
            notes.append((score_label, "other rows than the leaderboard's, so no difference is shown"))
        elif result.is_comparable() and result.format_version < 3:
            notes.append((label, "rows not verified: the result is of an earlier version"))
        elif result.is_comparable() and not result.records_row_status(name):
            notes.append((label, "rows not verified: the result does not say whether they are the leaderboard's"))
    return notes


def reported_notes(reported_scores: ReportedScores) -> list[tuple[str, str]]:
    """(subject, text): the source of the reported scores, and remarks on single ones."""
    notes = [("reported", f"{reported_scores.model}, {reported_scores.source}")]
    for name, text in reported_scores.notes.items():
        title = TASK_BY_NAME[name].title if name in TASK_BY_NAME else name
        notes.append((f"reported {title}", text))
    return notes


def merge_notes(notes: Sequence[tuple[str, str]]) -> list[str]:
    """Each note as `subject: text`; subjects with one and the same text share a line."""
    labels_by_text: dict[str, list[str]] = {}
    for score_label, text in notes:
        labels_by_text.setdefault(text, []).append(score_label)
    return [f"{', '.join(dict.fromkeys(score_labels))}: {text}" for text, score_labels in labels_by_text.items()]


def _protocol_text(result: Result) -> str:
    protocol = result.protocol
    version_text = "" if protocol.version is None else f" v{protocol.version}"
    harness_text = "" if protocol.lm_eval is None else f" (lm-eval {protocol.lm_eval})"
    requests_text = f", requests {result.requests_sha256[:16]}" if result.requests_sha256 else ""
    return f"protocol {protocol.name}{version_text}{harness_text}{requests_text}"
