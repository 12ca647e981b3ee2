"""Results of two groups of students, of several seeds each, in; out, the second group beside the first, as Markdown.

    python tests/student/seed_comparison.py --first a-0.json a-1.json a-2.json --second b-0.json b-1.json b-2.json

A difference is shown where two tests show it: the paired test of `orca-bench compare` on each question's mean score over the
seeds, and Student's t of the students' scores. Its own module because `compare` compares single models, in which what a seed
does and what the training does are one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from orca_bench.errors import UserError
from orca_bench.files import write_text
from orca_bench.report import grid_formats
from orca_bench.report.comparison import average_lines
from orca_bench.report.comparison_lines import ComparisonLine, detectable_difference
from orca_bench.report.grid import Grid, TextCell, format_detectable, format_difference, format_p, format_percent
from orca_bench.report.notes import Note
from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile, read_with_questions
from orca_bench.results.summary import cluster_labels_of
from orca_bench.results.task_facts import tasks_of
from orca_bench.stats.distributions import student_p_value, student_quantile
from orca_bench.stats.estimates import estimate_mean
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL, correct_by_holm, levels_of_holm
from orca_bench.stats.paired_tests import paired_difference
from orca_bench.suite import TASK_NAMES_BY_AVERAGE, TaskFacts

_POWER = 0.8


@dataclass(frozen=True)
class SeedLine:
    """One task or average: the scores of each group's students, fractions of 1, and both tests of the difference.

    `questions` is the comparison of each question's mean over the seeds. `seed_stderr` is the standard error of the difference of
    the groups' means by the spread within them, with `degrees_of_freedom`; `seed_p` its two-sided p.
    """

    questions: ComparisonLine
    first_scores: tuple[float, ...]
    second_scores: tuple[float, ...]
    seed_stderr: float
    degrees_of_freedom: int
    seed_p: float

    @property
    def p(self) -> float:
        """The larger p of the two tests, not corrected."""
        assert self.questions.difference is not None
        return max(self.questions.difference.p, self.seed_p)

    def smallest_detectable(self, level: float) -> float | None:
        """The smallest true difference that both tests show at `level` four times in five, a fraction of 1; None for none."""
        by_questions = detectable_difference(self.questions, level)
        quantiles = (student_quantile(share, self.degrees_of_freedom) for share in (1 - level / 2, _POWER))
        return None if by_questions is None else max(by_questions, sum(quantiles) * self.seed_stderr)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=Path, nargs="+", required=True, metavar="FILE", help="results of one group")
    parser.add_argument("--second", type=Path, nargs="+", required=True, metavar="FILE", help="results of the other")
    parser.add_argument(
        "--names", nargs=2, default=["first", "second"], metavar="NAME", help="what the groups are called"
    )
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args(words)
    try:
        groups = [[read_with_questions(path) for path in paths] for paths in (options.first, options.second)]
        text = grid_formats.to_markdown(to_grid(compare_groups(*groups), *options.names))
        if options.out is None:
            print(text, end="")
        else:
            write_text(options.out, text)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compare_groups(first: Sequence[ResultFile], second: Sequence[ResultFile]) -> list[SeedLine]:
    """The lines of all tasks that the results have, and of the averages.

    Raises UserError for a group of one, and for results that are not of the same questions.
    """
    for group in (first, second):
        if len(group) < 2:
            raise UserError("a spread over seeds needs two results", where=group[0].path)
    task_facts = tasks_of([file.result for file in [*first, *second]])
    task_lines = [_question_line(task, first, second) for task in task_facts]
    lines = [*task_lines, *average_lines(task_lines)]
    return [_seed_line(line, first, second) for line in lines]


def _question_line(task: TaskFacts, first: Sequence[ResultFile], second: Sequence[ResultFile]) -> ComparisonLine:
    """The paired comparison of each question's mean over the seeds."""
    questions_of_files = [_questions(file, task) for file in [*first, *second]]
    keys = list(questions_of_files[0])
    for file, questions in zip([*first, *second], questions_of_files, strict=True):
        if questions.keys() != questions_of_files[0].keys():
            raise UserError(f"has other questions of {task.name} than {first[0].path}", where=file.path)
    first_scores, second_scores = (
        [statistics.fmean(questions[key].score for questions in group) for key in keys]
        for group in (questions_of_files[: len(first)], questions_of_files[len(first) :])
    )
    questions_of_first_file = [questions_of_files[0][key] for key in keys]
    strata = [question.task for question in questions_of_first_file] if task.is_mean_of_parts else None
    difference = paired_difference(first_scores, second_scores, cluster_labels_of(questions_of_first_file), strata)
    first_score = estimate_mean(first_scores, stratum_labels=strata).value
    return ComparisonLine(task.name, task.title, task.metric, first_score, first_score + difference.value, difference)


def _questions(file: ResultFile, task: TaskFacts) -> dict[tuple[str, int], Question]:
    if task.name not in file.questions_by_task:
        raise UserError(f"has no questions of {task.name}", where=file.path)
    return dict(file.questions_by_task[task.name].questions_by_key)


def _seed_line(line: ComparisonLine, first: Sequence[ResultFile], second: Sequence[ResultFile]) -> SeedLine:
    """The line with Student's t of two groups with one variance.

    No variance is taken to be less than that of two students that differ in one question (as in stats/seed_tests.py).
    """
    assert line.difference is not None
    scores = [tuple(_score(file, line) for file in group) for group in (first, second)]
    degrees_of_freedom = len(first) + len(second) - 2
    variance = sum(sum((score - statistics.fmean(group)) ** 2 for score in group) for group in scores)
    variance = max(variance / degrees_of_freedom, 1 / (2 * line.difference.n**2))
    stderr = math.sqrt(variance * (1 / len(first) + 1 / len(second)))
    seed_p = student_p_value(line.difference.value / stderr, degrees_of_freedom)
    return SeedLine(line, scores[0], scores[1], stderr, degrees_of_freedom, seed_p)


def _score(file: ResultFile, line: ComparisonLine) -> float:
    names = TASK_NAMES_BY_AVERAGE[line.name] if line.is_average else (line.name,)
    return statistics.fmean(file.result.tasks[name].value for name in names)


def to_grid(lines: Sequence[SeedLine], first_name: str, second_name: str) -> Grid:
    """A table of the lines, percent, with all p corrected together by Holm, and how it was computed."""
    corrected_ps = correct_by_holm([line.p for line in lines])
    rows = [_row(*entry) for entry in zip(lines, corrected_ps, levels_of_holm(corrected_ps), strict=True)]
    counts = f"{len(lines[0].first_scores)} and {len(lines[0].second_scores)}"
    headings = ["Task", first_name, second_name, "Δ", "95 % interval", "p of questions", "p of seeds", "p (Holm)"]
    notes = (
        "p of questions: each question's mean score over the seeds, paired, by the t-test of orca-bench compare (MMLU by "
        "subject, DROP by passage): would other questions say the same of these students?",
        f"p of seeds: Student's t of the students' scores, {lines[0].degrees_of_freedom} degrees of freedom: would other seeds "
        "say the same of these questions?",
        f"p (Holm): the larger of the two, corrected over the {len(lines)} lines; better or worse: below {SIGNIFICANCE_LEVEL}",
        "would be: the smallest true difference that both tests show four times in five, with this correction",
    )
    return Grid(
        [*headings, "n", "verdict"],
        [list(map(TextCell, texts)) for texts in rows],
        [Note(text) for text in notes],
        f"percent; mean of {counts} seeds ± standard deviation over the seeds; Δ {second_name} minus {first_name}, in points, "
        "± its standard error by questions, with the interval of it; ( ) no difference shown",
        left_columns=frozenset({0, len(headings) + 1}),
    )


def _row(line: SeedLine, corrected_p: float, level: float) -> list[str]:
    """The texts of a line; `level` is that of its test by Holm."""
    difference = line.questions.difference
    assert difference is not None
    is_significant = corrected_p < SIGNIFICANCE_LEVEL
    verdict = "better" if difference.value > 0 else "worse"
    if not is_significant:
        smallest = line.smallest_detectable(level)
        verdict = "not shown" if smallest is None else f"not shown ({format_detectable(smallest)} would be)"
    return [
        line.questions.title,
        *(
            f"{format_percent(statistics.fmean(scores))} ± {format_percent(statistics.stdev(scores))}"
            for scores in (line.first_scores, line.second_scores)
        ),
        format_difference(difference.value, difference.error, is_significant),
        f"{format_percent(difference.low, True)} … {format_percent(difference.high, True)}",
        *map(format_p, (difference.p, line.seed_p, corrected_p)),
        f"{difference.n:,}",
        verdict,
    ]


if __name__ == "__main__":
    sys.exit(main())
