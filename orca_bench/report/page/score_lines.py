"""A group of results in, the lines of its table out: a line for each task that a result has, and apart from them the means.

The numbers are those of score_table.py; added are the verdict of two results, by question, or of one against the reported
scores, and of several results which is the best. Its own module because the wide table, the table of many models and the cards
of a narrow screen show the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.report.best_scores import paired_p_value, significantly_best
from orca_bench.report.comparison import Comparison
from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN, ComparisonLine
from orca_bench.report.page.page_groups import PageGroup
from orca_bench.report.reported_comparison import compare_two_where_possible
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.result_groups import lower_and_higher
from orca_bench.report.score_table import COMMON_MEAN, MeasuredScore, TableLine, build_score_table
from orca_bench.results.harness_summary import entry_of_metric
from orca_bench.results.reading import ResultFile
from orca_bench.results.summary import score_interval
from orca_bench.results.task_facts import display_factor, tasks_of
from orca_bench.results.task_results import HarnessTaskResult, TaskResult
from orca_bench.stats.estimates import normal_interval
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME


@dataclass(frozen=True)
class PageScore:
    """A number of the table, percent or in its metric's unit, with its standard error and 95 % interval where they are known.

    `is_best` says that it is significantly the best of its line, `is_percent` that it has a place on a scale from 0 to 100.
    """

    value: float
    stderr: float | None
    interval: tuple[float, float] | None
    is_best: bool = False
    is_percent: bool = True


@dataclass(frozen=True)
class PageVerdict:
    """What the difference of a line shows, in words, and its numbers; `value` is None where nothing was compared.

    They are in points, those of a metric that has a `unit` in it.
    """

    words: str
    value: float | None = None
    stderr: float | None = None
    smallest_detectable: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class PageLine:
    """A task or mean: `scores` has an entry for each result, None where it has no such number; percent."""

    name: str
    title: str
    details: str
    is_mean: bool
    chance: float | None
    reported: float | None
    scores: list[PageScore | None]
    verdict: PageVerdict | None = None


def group_comparison(group: PageGroup) -> Comparison | None:
    """One of two results against the other; None for another number of results, and where nothing can be compared.

    It is by question where both have their questions, as the sentence of what was found is. The base is the one with the lower
    mean.
    """
    if len(group.results) != 2:
        return None
    base, other = lower_and_higher(group.results)
    return compare_two_where_possible(base, other)


def score_lines(
    group: PageGroup, reported_scores: ReportedScores | None, comparison: Comparison | None
) -> list[PageLine]:
    """The lines of a group; reported scores where they may stand beside the results. `comparison` is that of two results."""
    is_comparable = group.results[0].result.suite.comparable
    table = build_score_table(
        [(result_file.label, result_file.result) for result_file in group.results],
        reported_scores if is_comparable else None,
    )
    lines = [line for line in table.lines if line.is_measured]
    best_results = {} if comparison else _best_results(group.results, lines)
    return [_page_line(group, line, comparison, best_results.get(line.name)) for line in lines]


def _best_results(result_files: Sequence[ResultFile], lines: Sequence[TableLine]) -> dict[str, int]:
    """By task and mean, the index of the result that is significantly better than each other one, as in the leaderboard."""
    facts = {task.name: task for task in tasks_of(result_file.result for result_file in result_files)}
    scores_by_line = {
        line.name: {
            index: score.value if line.name not in facts or facts[line.name].higher_is_better else -score.value
            for index, score in enumerate(line.scores)
            if score.value is not None
        }
        for line in lines
        if ":" not in line.name
    }
    return significantly_best(
        scores_by_line,
        lambda other_index, best_index, name: paired_p_value(result_files[other_index], result_files[best_index], name),
    )


def _page_line(group: PageGroup, line: TableLine, comparison: Comparison | None, best_index: int | None) -> PageLine:
    is_mean = line.name in (*AVERAGE_TITLE_BY_NAME, COMMON_MEAN)
    task_name = line.name.partition(":")[0]  # a further metric of a task is called TASK:METRIC
    facts = {task.name: task for task in tasks_of(result_file.result for result_file in group.results)}
    task = None if is_mean else facts.get(task_name) or TASK_BY_NAME.get(task_name)
    counts = sorted({score.n for score in line.scores if score.n is not None})
    details = ""
    if task is not None:
        count_text = " or ".join(f"{count:,}" for count in counts[:2])
        shots_text = "" if line.shots is None else f"{line.shots}-shot · "
        details = f"{shots_text}{line.metric} · {count_text} question{'s' if counts != [1] else ''}"
    verdict = None
    if comparison is not None:
        comparison_line = comparison.line(line.name)
        verdict = None if comparison_line is None else _verdict_of_comparison(comparison_line)
    elif len(group.results) == 1:
        verdict = _verdict_on_reported(line.scores[0])
    entries = [_line_entry(result_file.result.tasks.get(task_name), line.name) for result_file in group.results]
    scores = [
        _page_score(score, None if is_mean else entries[index], index == best_index)
        for index, score in enumerate(line.scores)
    ]
    chance = None if task is None else task.chance_percent
    return PageLine(line.name, line.title, details, is_mean, chance, line.reported, scores, verdict)


def _line_entry(entry: TaskResult | None, line_name: str) -> TaskResult | None:
    """The entry that a line shows: its task's own, or that of a further metric, `TASK:METRIC`."""
    metric_name = line_name.partition(":")[2]
    if not metric_name or not isinstance(entry, HarnessTaskResult) or metric_name not in entry.metrics:
        return None if metric_name else entry
    return entry_of_metric(entry, metric_name)


def _page_score(score: MeasuredScore, task_result: TaskResult | None, is_best: bool) -> PageScore | None:
    """The number of an entry with its interval; `task_result` is its task's entry in the result, None for a mean."""
    if score.value is None:
        return None
    interval = score.interval
    if task_result is not None:
        low, high = score_interval(task_result)
        factor = display_factor(task_result)
        is_known = score.interval is not None or not isinstance(task_result, HarnessTaskResult)
        interval = (factor * low, factor * high) if is_known else None
    elif interval is None and score.stderr:  # a mean of format 1
        low, high = normal_interval(score.value / 100, score.stderr / 100, 0.0)
        interval = (100 * low, 100 * high)
    if interval is not None:  # an edited result may have a mean outside its interval
        interval = (min(interval[0], score.value), max(interval[1], score.value))
    return PageScore(
        score.value, score.stderr, interval, is_best, task_result is None or display_factor(task_result) == 100
    )


def _verdict_of_comparison(line: ComparisonLine) -> PageVerdict:
    difference = line.difference
    if difference is None:
        return PageVerdict(line.verdict)
    return PageVerdict(
        line.verdict,
        100 * difference.value,
        100 * difference.error,
        None if line.smallest_detectable is None else 100 * line.smallest_detectable,
        line.unit,
    )


def _verdict_on_reported(score: MeasuredScore) -> PageVerdict | None:
    if score.difference is None:
        return None
    words = NO_DIFFERENCE_SHOWN
    if score.is_difference_shown:
        words = "better" if score.difference > 0 else "worse"
    return PageVerdict(words, score.difference, score.difference_stderr)
