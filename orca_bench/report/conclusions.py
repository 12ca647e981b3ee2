"""Results and comparisons in, one plain sentence out: what was found, and what could have been found.

Every report begins with such a sentence. It says "better" and "worse" only of differences that are significant after correction,
and "no difference is shown" only together with the smallest difference that would have been shown (the smallest detectable
difference: four times in five). Results of different suites or protocols are never ranked together. Its own module because
table, comparison, page, card and published folder say the same of the same results.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.report.comparison import Comparison
from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN, ComparisonLine
from orca_bench.report.difference_words import MOST_NAMED_TASKS, detectable_text, difference_text, join_words
from orca_bench.report.grid import format_detectable, format_percent
from orca_bench.report.overlap_text import left_out_sentence, overlap_sentence
from orca_bench.report.reported_comparison import (
    compare_two_where_possible,
    compare_where_possible,
    compare_with_reported,
)
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.result_groups import (
    group_by_setting,
    group_protocol_titles,
    limit_text,
    lower_and_higher,
    mean_value,
    ranking_title,
)
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.results.summary import score_interval
from orca_bench.results.task_facts import display_factor, has_interval, suite_title, tasks_of, unit_words
from orca_bench.suite import AVERAGE_TITLE_BY_NAME


def comparison_sentence(comparison: Comparison, says_overlap: bool = True) -> str:
    """What a comparison shows of its other result against its base, and how large a difference it would have shown.

    `says_overlap` says whether questions in training records are named.
    """
    task_lines = [line for line in comparison.lines if line.is_task]
    compared_lines = [line for line in task_lines if line.difference is not None]
    if not compared_lines:
        reasons = _reasons_text(task_lines) or "no task is in both"
        return f"{comparison.other_label} and {comparison.base_label} cannot be compared ({reasons})."
    sentences = [_verdict_sentence(comparison, compared_lines)]
    if comparison.is_paired:  # of scores alone, a task that one side has not was not asked for
        sentences += _not_compared_sentences(task_lines)
    if comparison.protocols is not None:
        base_protocol, other_protocol = comparison.protocols
        sentences.append(f"The protocols differ ({other_protocol}, {base_protocol}): a difference may be theirs.")
    if comparison.left_out is not None:
        sentences.append(left_out_sentence(comparison.left_out, comparison.uncovered_titles))
    elif says_overlap and comparison.overlap_text:
        sentences.append(comparison.overlap_text)
    if comparison.unpaired_reason:
        sentences.append(comparison.unpaired_reason)
    return " ".join(sentences)


def comparisons_sentence(comparisons: Sequence[Comparison]) -> str:
    """What several comparisons with one base show: which results are better and worse than it, and on how many tasks."""
    if len(comparisons) == 1:
        return comparison_sentence(comparisons[0])
    labels_by_verdict: dict[str, list[str]] = {}
    for comparison in comparisons:
        verdict, task_counts = _overall_verdict(comparison)
        labels_by_verdict.setdefault(verdict, []).append(f"{comparison.other_label}{task_counts}")
    base_label = comparisons[0].base_label
    opening_by_verdict = {
        "better": f"better than {base_label} on some tasks and worse on none: ",
        "worse": f"worse than {base_label} on some tasks and better on none: ",
        "mixed": "better on some and worse on others: ",
        "none": f"{NO_DIFFERENCE_SHOWN}: ",
        "not compared": "not comparable: ",
    }
    verdict_texts = [
        opening + join_words(labels_by_verdict[verdict])
        for verdict, opening in opening_by_verdict.items()
        if verdict in labels_by_verdict
    ]
    sentence = "; ".join(verdict_texts)
    overlap_text = ""
    if any(comparison.overlap_text for comparison in comparisons):
        overlap_text = " Some questions overlap with training records; compare --clean leaves them out."
    return f"{sentence[0].upper()}{sentence[1:]}.{overlap_text}"


def scores_sentence(
    result_files: Sequence[ResultFile],
    reported_scores: ReportedScores | None = None,
    protocol_title: str = "",
    comparison: Comparison | None = None,
) -> str:
    """What some results show, of whatever suites and protocols; `label` heads each.

    `protocol_title` names their protocol where its name alone does not tell it from that of other results beside them.
    `comparison` is that of two results, the base with the lower mean, where the caller has it already.

    Two results of one suite and protocol are compared, if their questions are there; one result stands against the reported
    scores, if it may; results of several suites or protocols are described, not ranked.
    """
    if not result_files:
        return (
            "" if reported_scores is None else f"The reported scores of {reported_scores.name}; nothing was measured."
        )
    groups = group_by_setting(result_files)
    if len(groups) > 1:
        return _several_settings_sentence(groups)
    setting_text = (
        f"suite {suite_title(result_files[0].result)}, protocol {protocol_title or group_protocol_titles(groups)[0]}"
    )
    if limits := limit_text(result_files):
        setting_text += f", {limits}"
    if len(result_files) == 1:
        (result_file,) = result_files
        sentences = [_single_sentence(result_file, setting_text), _reported_sentence(result_file, reported_scores)]
    else:
        if len(result_files) == 2 and comparison is None:
            comparison = compare_two_where_possible(*lower_and_higher(result_files))
        is_of_two = len(result_files) == 2 and comparison is not None
        sentences = [
            comparison_sentence(comparison, False)
            if is_of_two and comparison
            else _many_sentence(result_files, setting_text)
        ]
    labels_and_results = [(result_file.label, result_file.result) for result_file in result_files]
    return " ".join(filter(None, [*sentences, overlap_sentence(labels_and_results)]))


def _points(fraction: float) -> str:
    """A difference, a fraction of 1, in points: whole from ten on, else with one decimal."""
    size = 100 * abs(fraction)
    return f"{size:.0f}" if size >= 9.95 else f"{size:.1f}" if size >= 0.05 else "<0.1"


def _verdict_sentence(comparison: Comparison, compared_lines: Sequence[ComparisonLine]) -> str:
    base = f"the {comparison.base_label}" if comparison.base_label.startswith("reported ") else comparison.base_label
    other = comparison.other_label
    better_lines, worse_lines, open_lines = (
        [line for line in compared_lines if line.verdict == verdict]
        for verdict in ("better", "worse", NO_DIFFERENCE_SHOWN)
    )
    mean_text = _mean_text(comparison, better_lines, worse_lines)
    if not better_lines and not worse_lines:
        where = (
            f"on {compared_lines[0].title}" if len(compared_lines) == 1 else f"on any of {len(compared_lines)} tasks"
        )
        sentence = (
            f"no difference between {other} and {base} is shown {where} ({detectable_text(open_lines)}){mean_text}."
        )
        return sentence[0].upper() + sentence[1:]
    clauses = []
    if better_lines:
        clauses.append(f"better than {base} on {_tasks_text(better_lines, len(compared_lines))}")
    if worse_lines:
        than_text = "" if better_lines else f" than {base}"
        clauses.append(
            f"worse{than_text} on {_tasks_text(worse_lines, len(compared_lines), is_first=not better_lines)}"
        )
    sentence = f"{other} is {' and '.join(clauses)}"
    if len(compared_lines) == 1:
        sentence += f" ({difference_text(compared_lines[0])})"
    if open_lines:
        rest_text = (
            join_words([line.title for line in open_lines])
            if len(open_lines) <= MOST_NAMED_TASKS
            else f"the other {len(open_lines)}"
        )
        sentence += f"; on {rest_text} no difference is shown ({detectable_text(open_lines)})"
    return f"{sentence}{mean_text}."


def _reasons_text(task_lines: Sequence[ComparisonLine]) -> str:
    """Why tasks were not compared, each reason once with its tasks."""
    titles_by_reason: dict[str, list[str]] = {}
    for line in task_lines:
        titles_by_reason.setdefault(line.verdict, []).append(line.title)
    return "; ".join(
        f"{join_words(titles)}: {reason}"
        if len(titles) <= MOST_NAMED_TASKS
        else f"{f'all {len(titles)}' if len(titles) == len(task_lines) else len(titles)} tasks: {reason}"
        for reason, titles in titles_by_reason.items()
    )


def _tasks_text(verdict_lines: Sequence[ComparisonLine], compared_count: int, is_first: bool = True) -> str:
    """The tasks by name where they are few, and how many of those compared, if it is not said yet."""
    if len(verdict_lines) == compared_count:
        return f"all {compared_count} tasks" if compared_count > 1 else verdict_lines[0].title
    names_text = join_words([line.title for line in verdict_lines])
    count_text = f"{len(verdict_lines)} of {compared_count} tasks" if is_first else f"{len(verdict_lines)}"
    if len(verdict_lines) > MOST_NAMED_TASKS or (
        is_first and len(verdict_lines) + MOST_NAMED_TASKS >= compared_count > 4
    ):
        return count_text
    return f"{names_text} ({count_text})" if is_first else names_text


def _mean_text(
    comparison: Comparison, better_lines: Sequence[ComparisonLine], worse_lines: Sequence[ComparisonLine]
) -> str:
    """What the mean over the tasks adds to the verdicts on tasks; empty where it says the same, or there is none."""
    line = next((line for line in comparison.lines if line.is_average and line.difference is not None), None)
    if (
        line is None
        or (line.verdict == "better" and better_lines and not worse_lines)
        or (line.verdict == "worse" and worse_lines and not better_lines)
    ):
        return ""
    mean_title = line.title[0].lower() + line.title[1:]
    if not line.is_significant:
        size = (
            ""
            if line.smallest_detectable is None
            else f" ({format_detectable(line.smallest_detectable)} points would have been)"
        )
        return (
            f"; in the {mean_title} none is shown{size}"
            if better_lines or worse_lines
            else f", nor in the {mean_title}{size}"
        )
    conjunction = "; in" if better_lines or worse_lines else ", but in"
    return f"{conjunction} the {mean_title} {comparison.other_label} is {line.verdict} ({difference_text(line)})"


def _not_compared_sentences(task_lines: Sequence[ComparisonLine]) -> list[str]:
    uncompared_lines = [line for line in task_lines if line.difference is None]
    if not uncompared_lines:
        return []
    verdicts_text = "; ".join(dict.fromkeys(line.verdict for line in uncompared_lines))
    if len(uncompared_lines) > MOST_NAMED_TASKS:
        return [f"{len(uncompared_lines)} tasks were not compared ({verdicts_text})."]
    verb = "was" if len(uncompared_lines) == 1 else "were"
    titles_text = join_words([line.title for line in uncompared_lines])
    return [f"{titles_text} {verb} not compared ({verdicts_text})."]


def _overall_verdict(comparison: Comparison) -> tuple[str, str]:
    """(better, worse, mixed, none or not compared; on how many tasks) of one comparison among several."""
    compared_lines = [line for line in comparison.lines if line.is_task and line.difference is not None]
    better_count, worse_count = (
        sum(line.verdict == verdict for line in compared_lines) for verdict in ("better", "worse")
    )
    if not compared_lines:
        return "not compared", ""
    if better_count and worse_count:
        return "mixed", f" ({better_count} and {worse_count} of {len(compared_lines)})"
    if better_count or worse_count:
        return "better" if better_count else "worse", f" ({better_count or worse_count} of {len(compared_lines)})"
    return "none", ""


def _single_sentence(result_file: ResultFile, setting_text: str) -> str:
    result = result_file.result
    tasks = [result.tasks[task.name] for task in tasks_of([result])]
    if not tasks:
        return f"{result_file.label} has no finished task ({setting_text})."
    question_count = sum(task.n for task in tasks)
    count_text = f"{question_count:,} question{'s' if question_count != 1 else ''}"
    if len(tasks) == 1:
        factor, unit_text = display_factor(tasks[0]), unit_words(tasks[0])
        score_text = f"{factor * tasks[0].value:.1f}{unit_text} on {tasks[0].title}"
        if tasks[0].n > 1 and has_interval(tasks[0]):
            low, high = (factor * bound for bound in score_interval(tasks[0]))
            return (
                f"{result_file.label} scores {score_text} ({setting_text}, {count_text}); "
                f"the true score lies between {low:.1f} and {high:.1f} (95 % interval)."
            )
        no_interval_text = "too few to conclude from" if tasks[0].n == 1 else "no interval is known"
        return f"{result_file.label} scores {score_text} ({setting_text}, {count_text}): {no_interval_text}."
    mean_name, mean = next(
        (
            (AVERAGE_TITLE_BY_NAME[name], average)
            for name, average in result.averages.items()
            if average.value is not None
        ),
        ("", None),
    )
    mean_text = (
        f"scores {100 * mean.value:.1f} % in the {mean_name[0].lower()}{mean_name[1:]}"
        if mean is not None and mean.value is not None
        else f"has scores on {len(tasks)} tasks"
    )
    return f"{result_file.label} {mean_text} ({setting_text}, {count_text}){_precision_text(result)}."


def _precision_text(result: Result) -> str:
    """How precisely the scores of a result are known: half the width of their intervals."""
    entries = [entry for entry in result.tasks.values() if display_factor(entry) == 100 and has_interval(entry)]
    if not entries:
        return ""
    half_widths = [(high - low) / 2 for low, high in map(score_interval, entries)]
    smallest, largest = _points(min(half_widths)), _points(max(half_widths))
    size = smallest if smallest == largest else f"{smallest} to {largest}"
    of_which = "each task's score" if len(entries) == len(result.tasks) else "each score in percent"
    return f"; {of_which} is known to within {size} points (95 % interval)"


def _reported_sentence(result_file: ResultFile, reported_scores: ReportedScores | None) -> str:
    if reported_scores is None or not result_file.result.suite.comparable:
        return ""
    comparison = compare_with_reported(result_file, reported_scores)
    return comparison_sentence(comparison, False) if any(line.difference for line in comparison.lines) else ""


def _many_sentence(result_files: Sequence[ResultFile], setting_text: str) -> str:
    """Which of several results of one suite and protocol has the highest mean, and over which others that is shown."""
    ranked_files = sorted(result_files, key=lambda file: -mean_value(file))
    best_file = ranked_files[0]
    if mean_value(best_file) < 0 and all(file.result.tasks for file in result_files):
        return f"{len(result_files)} results ({setting_text}) of tasks that have no mean, so none is best over all."
    if mean_value(best_file) < 0 or any(set(file.result.tasks) != set(best_file.result.tasks) for file in result_files):
        return f"{len(result_files)} results ({setting_text}), not all of them of the same tasks, so none is best over all."
    if len({file.result.question_limit for file in result_files}) > 1:
        return f"{len(result_files)} results ({setting_text}), not all of them of the same questions, so none is best over all."
    comparisons = compare_where_possible(best_file, ranked_files[1:])
    beaten_labels = {comparison.other_label for comparison in comparisons if _is_worse_over_all(comparison)}
    undecided_labels = [file.label for file in ranked_files[1:] if file.label not in beaten_labels]
    mean_title = ranking_title(best_file.result)
    setting = f"Of {len(result_files)} results ({setting_text})"
    best_labels = [file.label for file in ranked_files if _is_same_mean(file, best_file)]
    if len(best_labels) == len(result_files):
        # Equal means may hide differences on tasks, so the sentence claims nothing about these.
        return f"{setting}, all have the same {mean_title}; none is shown to be better over all."
    if len(best_labels) > 1:
        labels_text = (
            join_words(best_labels) if len(best_labels) <= MOST_NAMED_TASKS else f"{len(best_labels)} of the results"
        )
        return f"{setting}, {labels_text} share the highest {mean_title}; none of them is shown to be best."
    opening = f"{setting}, {best_file.label} has the highest {mean_title}"
    if not undecided_labels:
        is_of_one_score = all(len(comparison.lines) == 1 or _averages(comparison) for comparison in comparisons)
        better_text = "better" if is_of_one_score else "better on some tasks and worse on none"
        return f"{opening}, and is shown to be {better_text} than each of the others."
    if not beaten_labels and len(result_files) > 2:
        return f"{opening}, but is not shown to be better than any of the others."
    rest_text = (
        join_words(undecided_labels)
        if len(undecided_labels) <= MOST_NAMED_TASKS
        else f"{len(undecided_labels)} of the others"
    )
    return f"{opening}{';' if beaten_labels else ', but'} it is not shown to be better than {rest_text}."


def _is_same_mean(one: ResultFile, other: ResultFile) -> bool:
    """Whether two means are the same as tables show them, with two decimals of a percent."""
    return format_percent(mean_value(one)) == format_percent(mean_value(other))


def _is_worse_over_all(comparison: Comparison) -> bool:
    """Whether the other result is worse than the base in the mean, or, without a mean, on some tasks and better on none."""
    averages = _averages(comparison)
    return any(line.verdict == "worse" for line in averages) if averages else _overall_verdict(comparison)[0] == "worse"


def _averages(comparison: Comparison) -> list[ComparisonLine]:
    """The means among the lines of a comparison."""
    return [line for line in comparison.lines if line.is_average]


def _several_settings_sentence(groups: Sequence[Sequence[ResultFile]]) -> str:
    suites = list(dict.fromkeys(group[0].result.suite.name for group in groups))
    protocols = list(dict.fromkeys(group_protocol_titles(groups)))
    kinds = []
    if len(suites) > 1:
        kinds.append(f"suites ({join_words(suites)})")
    if len(protocols) > 1:
        kinds.append(f"protocols ({join_words(protocols)})")
    return (
        f"{sum(map(len, groups))} results of different {' and '.join(kinds)}: their scores are numbers of different "
        "kinds, and are ranked only within each."
    )
