"""Results in, paired differences out: is one result better than the base, task by task, and in all?

The same questions are compared, so that what is common to both, how hard a question is, falls out (Miller 2024, arXiv
2411.00640, section 4). Its own module because `compare`, the gate and the leaderboard rest on the same differences; the
comparison with reported scores, which has no pairs, is in reported_comparison.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.models.model_warnings import is_bits_warning, warning_rank
from orca_bench.report.comparison_lines import (
    ComparisonLine,
    compare_further_metrics,
    compare_task,
    detectable_difference,
)
from orca_bench.report.notes import Note, NotedNumber, merge_notes
from orca_bench.report.overlap_text import (
    has_overlap,
    overlap_notes,
    overlap_sentences,
    says_overlap,
    uncovered_notes,
    uncovered_titles,
)
from orca_bench.report.result_groups import protocol_titles
from orca_bench.report.score_table_notes import change_notes
from orca_bench.results.models import ModelDescription
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_facts import tasks_of
from orca_bench.stats.detectable_losses import smallest_attainable_p
from orca_bench.stats.estimates import mean_of_estimates
from orca_bench.stats.multiple_testing import correct_by_holm, levels_of_holm
from orca_bench.stats.paired_tests import PAIRED_NORMAL_TEST, normal_difference
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME, TASK_NAMES_BY_AVERAGE


@dataclass(frozen=True)
class Comparison:
    """The result headed `other_label` against the one headed `base_label`: a line for each task and average, and notes.

    `unpaired_reason` says why the comparison is not by question, if it is not. `protocols` are those of base and other, where
    they differ. `left_out` counts, by task, the questions that were left out because they overlap with training records; None
    where none is to be left out, and then `overlap_text` says which overlap. `uncovered_titles` are those of compared tasks of
    which a result does not say which questions overlap.
    """

    base_label: str
    other_label: str
    lines: list[ComparisonLine]
    notes: list[Note] = field(default_factory=list)
    unpaired_reason: str = ""
    protocols: tuple[str, str] | None = None
    left_out: dict[str, int] | None = None
    uncovered_titles: tuple[str, ...] = ()
    overlap_text: str = ""

    @property
    def is_paired(self) -> bool:
        """Whether the same questions were compared one by one."""
        return not self.unpaired_reason

    def line(self, name: str) -> ComparisonLine | None:
        """The line of a task or average."""
        return next((line for line in self.lines if line.name == name), None)


def compare(base: ResultFile, other_files: Sequence[ResultFile]) -> list[Comparison]:
    """Each of the others against the base; all tests of the call are corrected together by Holm.

    Raises UserError where a file stands twice, and where two results have no task, or too few questions, in common.
    """
    refuse_repeated_files(base, other_files)
    return correct_together([compare_pair(base, other_file) for other_file in other_files])


def compare_line(base: ResultFile, other: ResultFile, name: str) -> ComparisonLine | None:
    """One task or average of two results, not corrected; None where neither has it or it cannot be computed."""
    if name not in AVERAGE_TITLE_BY_NAME:
        facts = next((task for task in tasks_of([base.result, other.result]) if task.name == name), None)
        return None if facts is None else compare_task(base, other, facts, [], None)
    lines = [line for task in TASK_BY_NAME if (line := compare_line(base, other, task)) is not None]
    return next((line for line in average_lines(lines) if line.name == name), None)


def correct_together(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their p corrected by Holm over all lines of all of them: each line with a verdict is one test."""
    ps = [line.difference.p for comparison in comparisons for line in comparison.lines if line.difference is not None]
    corrected_ps = correct_by_holm(ps)
    remaining_tests = zip(corrected_ps, levels_of_holm(corrected_ps), strict=True)
    return [
        replace(
            comparison,
            lines=[
                line if line.difference is None else _correct_line(line, *next(remaining_tests))
                for line in comparison.lines
            ],
        )
        for comparison in comparisons
    ]


def _correct_line(line: ComparisonLine, corrected_p: float, level: float) -> ComparisonLine:
    """The line with its corrected p, and what it would have shown at the level of its test (`levels_of_holm`)."""
    return replace(
        line,
        corrected_p=corrected_p,
        smallest_detectable=detectable_difference(line, level),
        has_too_few_questions=line.difference is not None and smallest_attainable_p(line.difference) >= level,
    )


def refuse_repeated_files(base: ResultFile, other_files: Sequence[ResultFile]) -> None:
    """Raise UserError where a file stands twice."""
    refusal_by_path = {base.path.resolve(): "it is the first result itself"}
    for other_file in other_files:
        path = other_file.path.resolve()
        if path in refusal_by_path:
            raise UserError(
                f"nothing to compare: {refusal_by_path[path]}", where=other_file.path, hint="name another result"
            )
        refusal_by_path[path] = "it is named twice"


def compare_pair(base: ResultFile, other: ResultFile, leaves_out_overlap: bool = False) -> Comparison:
    """The other result against the base by question, not corrected yet.

    With `leaves_out_overlap`, questions that overlap with the training records of either are left out. Raises UserError where
    they have no task, or too few questions, in common.
    """
    lines, notes = [], comparison_notes(base, other, leaves_out_overlap)
    left_out: dict[str, int] | None = {} if leaves_out_overlap else None
    for task in tasks_of([base.result, other.result]):
        line = compare_task(base, other, task, notes, left_out)
        if line is not None:
            lines += [line, *(compare_further_metrics(base, other, task) if line.difference is not None else [])]
    if not any(line.difference for line in lines):
        reasons = "; ".join(f"{line.title}: {line.note}" for line in lines) or "no task is in both"
        raise UserError(f"nothing to compare with {base.path} ({reasons})", where=other.path)
    return Comparison(
        base.label,
        other.label,
        lines + average_lines(lines),
        notes,
        protocols=protocol_names(base, other),
        left_out=left_out,
        uncovered_titles=uncovered_titles(
            [line.name for line in lines if line.difference and line.is_task], base.result, other.result
        ),
        overlap_text=""
        if leaves_out_overlap
        else overlap_sentences(((base.label, base.result), (other.label, other.result))),
    )


def comparison_notes(base: ResultFile, other: ResultFile, leaves_out_overlap: bool = False) -> list[Note]:
    """What a reader of the comparison of two results must know of them as a whole, each text once.

    `leaves_out_overlap` says whether questions in training records are left out; raises UserError where neither says which.
    """
    notes = _overlap_notes((base, other), leaves_out_overlap)
    protocols = protocol_names(base, other)
    if protocols is not None:
        base_protocol, other_protocol = protocols
        text = f"protocols {base_protocol} and {other_protocol}: a difference mixes model and protocol"
        notes.append(Note(text, "method"))  # the sentence says it too
    notes += _engine_notes(base.result.model, other.result.model)
    notes += [note for result_file in (base, other) for note in change_notes(result_file.label, result_file.result)]
    notes += [
        Note("unfinished", "warning", (NotedNumber(result_file.label),))
        for result_file in (base, other)
        if not result_file.result.complete
    ]
    notes += [
        Note(warning, "warning", (NotedNumber(result_file.label),), rank=warning_rank(warning))
        for result_file in (base, other)
        for warning in result_file.result.model.warnings
        if is_bits_warning(warning)
    ]
    if base.result.questions_sha256 is not None and base.result.questions_sha256 == other.result.questions_sha256:
        text = f"the questions and answers of {base.path} and {other.path} are the same, byte for byte"
        notes.append(Note(text, "warning"))
    return merge_notes(notes, [base.label, other.label])


def _overlap_notes(result_files: Sequence[ResultFile], leaves_out_overlap: bool) -> list[Note]:
    """What the results say of their questions in training records; where these are left out, which result says nothing."""
    if not leaves_out_overlap:
        return [
            note
            for result_file in result_files
            for note in (overlap_notes if has_overlap(result_file.result) else uncovered_notes)(
                result_file.label, result_file.result
            )
        ]
    check_says_overlap(result_files)
    notes = [note for result_file in result_files for note in uncovered_notes(result_file.label, result_file.result)]
    return notes + [
        Note(
            "does not say which of its questions are in its training records",
            "warning",
            (NotedNumber(result_file.label),),
        )
        for result_file in result_files
        if not says_overlap(result_file.result)
    ]


def check_says_overlap(result_files: Sequence[ResultFile]) -> None:
    """Raise UserError where no result says which of its questions are in its training records."""
    if not any(says_overlap(result_file.result) for result_file in result_files):
        raise UserError(
            "no result says which of its questions are in the training records",
            where=result_files[-1].path,
            hint="evaluate with --data-report FILE, a report of `orca-bench data check`",
        )


def _engine_notes(base_model: ModelDescription, other_model: ModelDescription) -> list[Note]:
    """A remark where llama.cpp has computed one of the results and something else the other."""
    names = [None if model.engine is None else model.engine.name for model in (base_model, other_model)]
    if names[0] == names[1] or "llamacpp" not in names or None in names:
        return []
    computation, rounding = f"computed by {names[0]} and by {names[1]}", "a difference is one of how they round"
    hashes = [_gguf_sha256(model) for model in (base_model, other_model)]
    text = f"{computation}: a difference mixes model and engine"
    if _settings_hashes(base_model) == _settings_hashes(other_model):
        if None not in hashes and hashes[0] == hashes[1]:
            text = f"the same file, {computation}: {rounding}"
        elif None in hashes and _has_same_file_name(base_model, other_model) and base_model.bits == other_model.bits:
            text = f"a file of the same name, {computation}: if its weights are the same too, {rounding}"
    return [Note(text, "remark")]


def _gguf_sha256(model: ModelDescription) -> str | None:
    """The hash of the GGUF file that a model comes from; an older result has it where llama.cpp computed it."""
    is_run_by_llamacpp = model.engine is not None and model.engine.name == "llamacpp"
    return model.gguf_sha256 or (model.part_hash("weights") if is_run_by_llamacpp else None)


def _settings_hashes(model: ModelDescription) -> tuple[str | None, str | None]:
    return model.part_hash("config"), model.part_hash("tokenizer")


def _has_same_file_name(model: ModelDescription, other_model: ModelDescription) -> bool:
    if model.path is None or other_model.path is None:
        return False
    return Path(model.path).name == Path(other_model.path).name


def protocol_names(base: ResultFile, other: ResultFile) -> tuple[str, str] | None:
    """The protocols of both, with what tells them apart where name and version do not; None where they are the same."""
    if base.result.protocol == other.result.protocol:
        return None
    base_title, other_title = protocol_titles([base.result.protocol, other.result.protocol], with_versions=True)
    return base_title, other_title


def average_lines(lines: Sequence[ComparisonLine]) -> list[ComparisonLine]:
    """The lines of the two averages, where all their tasks were compared."""
    lines_of_averages = []
    difference_by_task = {line.name: line.difference for line in lines if line.difference is not None}
    base_score_by_task = {line.name: line.base_score for line in lines if line.base_score is not None}
    for name, title in AVERAGE_TITLE_BY_NAME.items():
        tasks = TASK_NAMES_BY_AVERAGE[name]
        if any(task not in difference_by_task for task in tasks):
            continue
        mean_difference, stderr = mean_of_estimates([difference_by_task[task] for task in tasks])
        if not stderr:
            continue
        question_count = sum(difference_by_task[task].n for task in tasks)
        # As many questions in equal shares would have the variance of this mean.
        equal_share_count = round(len(tasks) ** 2 / sum(1 / difference_by_task[task].n for task in tasks))
        difference = normal_difference(mean_difference, stderr, PAIRED_NORMAL_TEST, question_count, equal_share_count)
        base_average = sum(base_score_by_task[task] for task in tasks) / len(tasks)
        lines_of_averages.append(
            ComparisonLine(name, title, "mean", base_average, base_average + mean_difference, difference)
        )
    return lines_of_averages
