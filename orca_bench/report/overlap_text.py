"""What a result says of its questions in the training records in, the words that every report has for it out.

A score on questions that a model was trained on says little, so the number never stands without them: tables, the page, the card
and the gate have these words. Its own module so that they are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orca_bench.counts import counted
from orca_bench.report.grid import format_score
from orca_bench.report.notes import Note, NotedNumber
from orca_bench.results.models import Result
from orca_bench.results.summary import mean_of_tasks
from orca_bench.results.task_results import Average, TaskResult
from orca_bench.suite import TASK_NAMES_BY_AVERAGE

#: What is said of a task whose questions were not compared with the training records, where those of other tasks were.
NOT_COMPARED_TEXT = "not compared with the training records"


def overlap_text(task_result: TaskResult) -> str:
    """`12 of 200 questions overlap with the training records; without them 31.20 ± 1.50`; empty where none does."""
    overlap = task_result.overlap
    if overlap is None or not overlap.questions:
        return ""
    if overlap.without is None:
        return f"all {counted(task_result.n, 'question')} overlap with the training records"
    verb, pronoun = ("overlaps", "it") if overlap.questions == 1 else ("overlap", "them")
    score_text = format_score(overlap.without.value, overlap.without.stderr, overlap.without.interval)
    subjects_text = ""
    if overlap.subjects is not None:
        subjects_text = f" (of {overlap.subjects} of {len(task_result.subjects or ())} subjects)"
    return (
        f"{overlap.questions:,} of {counted(task_result.n, 'question')} {verb} with the training records; without {pronoun} "
        f"{score_text}{subjects_text}"
    )


def overlap_sentence(labels_and_results: Sequence[tuple[str, Result]]) -> str:
    """Which tasks of some results have questions in the training records, and how many; empty where none has."""
    clauses = []
    for label, result in labels_and_results:
        counts = [
            f"{'all' if entry.overlap.questions == entry.n else f'{entry.overlap.questions:,} of'} {entry.n:,} of {entry.title}"
            for entry in result.tasks.values()
            if entry.overlap is not None and entry.overlap.questions
        ]
        if counts:
            of_label = f" of {label}" if len(labels_and_results) > 1 else ""
            clauses.append(f"with the training records{of_label}: {', '.join(counts)}")
    return f"Questions overlap {'; '.join(clauses)}." if clauses else ""


def overlap_sentences(labels_and_results: Sequence[tuple[str, Result]]) -> str:
    """The same of a comparison, and how these questions are left out of it."""
    sentence = overlap_sentence(labels_and_results)
    return f"{sentence} compare --clean leaves them out." if sentence else ""


def left_out_text(left_out_count: int, question_count: int) -> str:
    """`12 of 200 questions overlap with training records and are left out`: of a comparison without them."""
    verbs = "overlaps with training records and is" if left_out_count == 1 else "overlap with training records and are"
    return f"{left_out_count:,} of {counted(question_count, 'question')} {verbs} left out"


def left_out_sentence(left_out_count_by_task: Mapping[str, int], uncovered_titles: Sequence[str] = ()) -> str:
    """The same of all tasks of a comparison, in sentences.

    `uncovered_titles` are those of compared tasks of which a result does not say which questions are in its training records.
    """
    count = sum(left_out_count_by_task.values())
    if not count:
        sentence = (
            "No question is left out."
            if uncovered_titles
            else "No question that was compared overlaps with training records."
        )
    else:
        verb = "overlaps" if count == 1 else "overlap"
        sentence = f"Left out: {counted(count, 'question')} that {verb} with training records."
    if not uncovered_titles:
        return sentence
    return (
        f"{sentence} Not all results say which questions are in their training records: {', '.join(uncovered_titles)}."
    )


def relatives_text(task_result: TaskResult) -> str:
    """`3 of 200 questions resemble training records`: relatives, which count as no overlap; empty where there are none."""
    if task_result.overlap is None or not task_result.overlap.relatives:
        return ""
    verb = "resembles a training record" if task_result.overlap.relatives == 1 else "resemble training records"
    return f"{task_result.overlap.relatives:,} of {counted(task_result.n, 'question')} {verb}"


def training_rows_text(task_result: TaskResult) -> str:
    """`tuned on 969 rows of the benchmark's own training data`: no overlap, and to be known; empty where there are none."""
    if task_result.overlap is None or not task_result.overlap.training_rows:
        return ""
    return f"tuned on {counted(task_result.overlap.training_rows, 'row')} of the benchmark's own training data"


def no_overlap_text(result: Result) -> str:
    """`no overlap with the training records (1,319 questions compared)`; empty where some question does, or none was compared."""
    compared = [entry for entry in result.tasks.values() if entry.overlap is not None]
    if not compared or has_overlap(result):
        return ""
    return f"no overlap with the training records ({counted(sum(entry.n for entry in compared), 'question')} compared)"


def has_overlap(result: Result) -> bool:
    """Whether a question of any task is in the training records."""
    return any(entry.overlap is not None and entry.overlap.questions for entry in result.tasks.values())


def says_overlap(result: Result) -> bool:
    """Whether the questions of any task were compared with the training records."""
    return any(entry.overlap is not None for entry in result.tasks.values())


def uncovered_titles(task_names: Sequence[str], *results: Result) -> tuple[str, ...]:
    """The titles of those of some tasks of which a result does not say which questions are in its training records."""
    return tuple(
        results[0].tasks[name].title
        for name in task_names
        if any(result.tasks[name].overlap is None for result in results)
    )


def uncovered_notes(label: str, result: Result) -> list[Note]:
    """A warning on each task whose questions were not compared with the training records, where those of another were."""
    if not says_overlap(result):
        return []
    return [
        Note(NOT_COMPARED_TEXT, "warning", (NotedNumber(label, name),), is_always_shown=True)
        for name, entry in result.tasks.items()
        if entry.overlap is None
    ]


def average_without_overlap(result: Result, name: str) -> Average | None:
    """An average of the values without overlapping questions.

    None where no task of it has any, and where a task has no others, or was not compared with the training records.
    """
    entries = [result.tasks[task_name] for task_name in TASK_NAMES_BY_AVERAGE[name] if task_name in result.tasks]
    if len(entries) < len(TASK_NAMES_BY_AVERAGE[name]) or not any(overlap_text(entry) for entry in entries):
        return None
    estimates = [None if entry.overlap is None else entry.overlap.without for entry in entries]
    if any(estimate is None for estimate in estimates):
        return None
    return mean_of_tasks([estimate for estimate in estimates if estimate is not None])


def overlap_notes(label: str, result: Result) -> list[Note]:
    """What belongs to the numbers of a result headed `label`; nothing where its questions were not compared."""
    notes = []
    for name, entry in result.tasks.items():
        if text := overlap_text(entry):
            notes.append(Note(text, "warning", (NotedNumber(label, name),), is_always_shown=True))
        if text := training_rows_text(entry):
            notes.append(Note(text, "remark", (NotedNumber(label, name),), is_always_shown=True))
        if text := relatives_text(entry):
            notes.append(Note(text, "remark", (NotedNumber(label, name),)))
    for name in TASK_NAMES_BY_AVERAGE:
        average = average_without_overlap(result, name)
        if average is not None:
            score_text = format_score(average.value, average.stderr, average.interval)
            text = f"without the questions that overlap with the training records {score_text}"
            notes.append(Note(text, "warning", (NotedNumber(label, name),), is_always_shown=True))
    notes += uncovered_notes(label, result)
    if text := no_overlap_text(result):
        covered_names = [name for name, entry in result.tasks.items() if entry.overlap is not None]
        is_whole = len(covered_names) == len(result.tasks)
        notes += [Note(text, "remark", (NotedNumber(label, name),)) for name in ([""] if is_whole else covered_names)]
    return notes
