"""The scores of a part as series: one for each model and one for the reported scores, and how a score is drawn and said.

Its own module because the two layouts of the picture of scores (scores.py, score_matrix.py) share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.axes import REPORTED_SYMBOL, Scale, interval_shapes, symbol
from orca_bench.report.pictures.drawing import Point, Role, Shape
from orca_bench.report.pictures.parts import Part, Score, percent_score, question_range
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.task_facts import display_factor
from orca_bench.suite import TaskFacts

_REPORTED_PROTOCOL = "leaderboard"


@dataclass(frozen=True)
class Series:
    """One model's scores by task, or the reported ones, which have no style."""

    name: str
    style: ModelStyle | None
    scores: Mapping[str, Score]

    def symbol(self) -> Sequence[Shape]:
        """Its marker for a legend."""
        return REPORTED_SYMBOL if self.style is None else symbol(self.style)


def series_of(part: Part, reported_scores: ReportedScores | None) -> list[Series]:
    """A series for each result, and one for the reported scores where all results may be compared with some of them."""
    all_series = [
        Series(
            styled_result.name,
            styled_result.style,
            {
                name: percent_score(entry)
                for name, entry in styled_result.result.tasks.items()
                if display_factor(entry) == 100
            },
        )
        for styled_result in part.styled_results
    ]
    if reported_scores is not None:
        scores = {
            task.name: Score(reported_scores.tasks[task.name])
            for task in part.tasks
            if task.name in reported_scores.tasks
            and all(styled_result.result.is_comparable(task.name) for styled_result in part.styled_results)
        }
        if scores:
            # Reported scores were measured under this protocol: under another one a difference may be the protocol's.
            protocol = "" if part.protocol.startswith(_REPORTED_PROTOCOL) else f" (protocol {_REPORTED_PROTOCOL})"
            all_series.append(Series(f"reported, {isolate(reported_scores.name)}{protocol}", None, scores))
    return all_series


def task_words(task: TaskFacts, all_series: Sequence[Series]) -> str:
    """A task's scores and chance in words."""
    scores = [f"{series.name} {series.scores[task.name].words}" for series in all_series if task.name in series.scores]
    chance = [] if task.chance_percent is None else [f"chance {task.chance_percent:g} percent"]
    return f"{task.title} ({task.metric}): {'; '.join(scores + chance)}"


def question_text(part: Part, task: TaskFacts) -> str:
    """How many questions of a task the results have."""
    counts = [
        styled_result.result.tasks[task.name].n
        for styled_result in part.styled_results
        if task.name in styled_result.result.tasks
    ]
    return question_range(counts)


def score_shapes(scale: Scale, y: float, score: Score, style: ModelStyle | None) -> list[Shape]:
    """A score as a marker on its interval; one without a style is a reported score, of which only the number is known."""
    x = scale.pixel(score.value)
    if style is None:
        return [Point(x, y, "x", Role.INK)]
    return [*interval_shapes(scale, y, score.low, score.high, style), Point(x, y, style.marker, style)]
