"""The gate's report in, one sentence out: what was found, and what would have been found.

"No loss shown" is no proof of no loss: a passing sentence says how large a loss this comparison would have found. Its own module
because the terminal, the Markdown summary and JSON all begin with the sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orca_bench.report.gate import GateReport, Outcome, TaskComparison, TaskVerdict

_MAX_NAMED_TASKS = 3  # more tasks are counted, not named


def gate_sentence(report: GateReport) -> str:
    """Passed or failed, and why."""
    if report.passed:
        return f"passed: {'; '.join(_passing_clauses(report))}"
    if report.obstacles:
        return f"failed: not comparable with {report.baseline}: {'; '.join(map(str, report.obstacles))}"
    return f"failed: {'; '.join(_failing_clauses(report))}"


def closing_line(report: GateReport) -> str:
    """The verdict again in a few words, for below what was printed since the sentence."""
    if report.passed:
        return f"passed: {_no_loss_text(report)}"
    if report.obstacles:
        return "failed: not comparable"
    return f"failed: {', '.join(verdict.title for verdict in report.verdicts if not verdict.passed)}"


def format_loss(comparison: TaskComparison) -> str:
    """The smallest loss that would have been found, points, rounded up; `none` where the score cannot fall by so much."""
    return f"{_rounded_up(100 * comparison.detectable_loss):.1f}" if comparison.can_show_loss else "none"


def _rounded_up(points: float) -> float:
    return math.ceil(10 * points - 1e-9) / 10


def _with_outcome(report: GateReport, outcome: Outcome) -> list[TaskVerdict]:
    return [verdict for verdict in report.verdicts if verdict.outcome == outcome]


def _no_loss_text(report: GateReport) -> str:
    if not any(verdict.comparison for verdict in report.verdicts):
        return "no task is below its floor"
    smallest_loss = report.rules.smallest_loss
    return f"no loss of {smallest_loss:g} points or more shown" if smallest_loss else "no loss shown"


def _passing_clauses(report: GateReport) -> list[str]:
    compared = [verdict for verdict in report.verdicts if verdict.comparison]
    if not compared:
        return [_no_loss_text(report), "nothing was compared"]
    clauses = [f"{_no_loss_text(report)} against {report.baseline}"]
    if better := _with_outcome(report, "better"):
        clauses.append(f"better on {_tasks_text(better, len(compared))}")
    if within_seeds := [verdict for verdict in compared if verdict.comparison and verdict.comparison.is_within_seeds]:
        verb = "is" if len(within_seeds) == 1 else "are"
        clauses.append(f"{_differences_text(within_seeds)} {verb} within what these seeds differ by")
    if tolerated := _with_outcome(report, "tolerated"):
        clauses.append(f"worse by less than that: {_differences_text(tolerated)}")
    return clauses + _detectable_clauses(_with_outcome(report, "no loss shown"))


def _detectable_clauses(verdicts: Sequence[TaskVerdict]) -> list[str]:
    """What would have been found on the tasks that show no loss."""
    verdicts_seeing_loss = [verdict for verdict in verdicts if verdict.comparison and verdict.comparison.can_show_loss]
    verdicts_blind_to_loss = [
        verdict for verdict in verdicts if verdict.comparison and not verdict.comparison.can_show_loss
    ]
    clauses = []
    if verdicts_seeing_loss:
        losses = sorted((_detectable_points(verdict), verdict.title) for verdict in verdicts_seeing_loss)
        (smallest, smallest_title), (largest, largest_title) = losses[0], losses[-1]
        if smallest == largest:
            loss_text = f"a loss of {largest:.1f} points would have been found"
        elif verdicts_blind_to_loss:
            loss_text = f"a loss of {smallest:.1f} to {largest:.1f} points would have been found"
        else:
            loss_text = (
                f"a loss of {smallest:.1f} ({smallest_title}) to {largest:.1f} points ({largest_title}) would have "
            )
            loss_text += "been found"
        clauses.append(
            f"on {_tasks_text(verdicts_seeing_loss, len(verdicts))} {loss_text}"
            if verdicts_blind_to_loss
            else loss_text
        )
    if verdicts_blind_to_loss:
        clauses.append(
            f"on {_tasks_text(verdicts_blind_to_loss, len(verdicts))} not even a fall to 0 would have been found"
        )
    return clauses


def _detectable_points(verdict: TaskVerdict) -> float:
    return 0.0 if verdict.comparison is None else _rounded_up(100 * verdict.comparison.detectable_loss)


def _failing_clauses(report: GateReport) -> list[str]:
    if not report.verdicts:
        return ["no task was examined"]
    clauses = []
    if worse := _with_outcome(report, "worse"):
        text = _differences_text(worse)
        if len(worse) > _MAX_NAMED_TASKS:
            worst = min(worse, key=lambda verdict: verdict.comparison.difference if verdict.comparison else 0.0)
            text = f"{_tasks_text(worse, len(report.verdicts))}, most on {_differences_text([worst])}"
        clauses.append(f"worse than {report.baseline} on {text}")
    clauses += [f"{verdict.title} {verdict.reason}" for verdict in _with_outcome(report, "below the floor")]
    clauses += [f"{verdict.title} is {verdict.reason}" for verdict in _with_outcome(report, "missing")]
    return clauses + [f"{verdict.title} is {verdict.reason}" for verdict in _with_outcome(report, "not comparable")]


def _tasks_text(verdicts: Sequence[TaskVerdict], task_count: int) -> str:
    """The titles of a few tasks; of more, how many of how many."""
    if len(verdicts) > _MAX_NAMED_TASKS:
        return f"{len(verdicts)} of {task_count} tasks"
    titles = [verdict.title for verdict in verdicts]
    return " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))


def _differences_text(verdicts: Sequence[TaskVerdict]) -> str:
    """Tasks with their differences in points."""
    return ", ".join(
        f"{verdict.title} {100 * verdict.comparison.difference:+.2f}" for verdict in verdicts if verdict.comparison
    )
