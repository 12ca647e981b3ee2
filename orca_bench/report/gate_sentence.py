"""The gate's report in, one sentence out: what was found, and what would have been found.

"No loss shown" is no proof of no loss: a passing sentence says how large a loss this comparison would have found. Its own module
because the terminal, the Markdown summary and JSON all begin with the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.report.gate import GateReport, Outcome, TaskComparison, TaskVerdict
from orca_bench.report.gate_log_probabilities import changes_text, unchanged_text
from orca_bench.report.grid import format_detectable, format_in_unit

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
    return format_detectable(comparison.detectable_loss, comparison.unit) if comparison.can_show_loss else "none"


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
    clauses = []
    if report.rules.max_log_probability_change is not None:
        clauses.append(unchanged_text(report.log_probabilities))
    clauses.append(f"{_no_loss_text(report)} against {report.baseline}")
    if better := _with_outcome(report, "better"):
        clauses.append(f"better on {_tasks_text(better, len(compared))}")
    if within_seeds := [verdict for verdict in compared if verdict.comparison and verdict.comparison.is_within_seeds]:
        verb = "is" if len(within_seeds) == 1 else "are"
        clauses.append(f"{_differences_text(within_seeds)} {verb} within what these seeds differ by")
    if tolerated := _with_outcome(report, "tolerated"):
        clauses.append(f"worse by less than that: {_differences_text(tolerated)}")
    clauses += _detectable_clauses(_with_outcome(report, "no loss shown"), len(compared))
    return clauses


def _detectable_clauses(verdicts: Sequence[TaskVerdict], compared_count: int) -> list[str]:
    """What would have been found on the tasks that show no loss, of `compared_count` tasks; named where they are not all."""
    verdicts_seeing_loss = [verdict for verdict in verdicts if verdict.comparison and verdict.comparison.can_show_loss]
    unit_verdicts = [verdict for verdict in verdicts_seeing_loss if verdict.unit]
    verdicts_seeing_loss = [verdict for verdict in verdicts_seeing_loss if not verdict.unit]
    verdicts_blind_to_loss = [
        verdict for verdict in verdicts if verdict.comparison and not verdict.comparison.can_show_loss
    ]
    clauses = []
    if verdicts_seeing_loss:
        losses = sorted(verdicts_seeing_loss, key=_detectable_loss)
        smallest, largest = (format_detectable(_detectable_loss(verdict)) for verdict in (losses[0], losses[-1]))
        if smallest == largest:
            loss_text = f"a loss of {largest} points would have been found"
        elif verdicts_blind_to_loss:
            loss_text = f"a loss of {smallest} to {largest} points would have been found"
        else:
            loss_text = f"a loss of {smallest} ({losses[0].title}) to {largest} points ({losses[-1].title}) would have been found"
        clauses.append(
            loss_text
            if len(verdicts_seeing_loss) == compared_count
            else f"on {_tasks_text(verdicts_seeing_loss, compared_count)} {loss_text}"
        )
    if unit_verdicts:
        losses_text = ", ".join(
            f"{format_detectable(_detectable_loss(verdict), verdict.unit)} {verdict.unit} ({verdict.title})"
            for verdict in unit_verdicts[:_MAX_NAMED_TASKS]
        )
        clauses.append(f"a loss of {losses_text} would have been found")
    if len(verdicts_blind_to_loss) == compared_count > 1:
        clauses.append("on no task would even a fall to 0 have been found")
    elif verdicts_blind_to_loss:
        clauses.append(
            f"on {_tasks_text(verdicts_blind_to_loss, compared_count)} not even a fall to 0 would have been found"
        )
    return clauses


def _detectable_loss(verdict: TaskVerdict) -> float:
    return 0.0 if verdict.comparison is None else verdict.comparison.detectable_loss


def _failing_clauses(report: GateReport) -> list[str]:
    if not report.verdicts:
        return ["no task was examined"]
    clauses = []
    if worse := _with_outcome(report, "worse"):
        text = _differences_text(worse)
        if len(worse) > _MAX_NAMED_TASKS:
            worst = min(worse, key=lambda verdict: verdict.comparison.improvement if verdict.comparison else 0.0)
            text = f"{_tasks_text(worse, len(report.verdicts))}, most on {_differences_text([worst])}"
        clauses.append(f"worse than {report.baseline} on {text}")
    clauses += [f"{verdict.title} {verdict.reason}" for verdict in _with_outcome(report, "below the floor")]
    clauses += [f"{verdict.title}: {verdict.reason}" for verdict in _with_outcome(report, "overlap")]
    clauses += filter(None, [changes_text(report.log_probabilities)])
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
        f"{verdict.title} {format_in_unit(verdict.comparison.difference, verdict.unit, signed=True)}"
        for verdict in verdicts
        if verdict.comparison
    )
