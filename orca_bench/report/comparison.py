"""Two results in, paired differences out: is the second better than the first, task by task, and in all?

The same questions are compared, so that what is common to both, how hard a question is, falls out (Miller 2024, arXiv
2411.00640, section 4). Where only a reported number is known there are no pairs, and the comparison is weaker; it says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orca_bench.errors import UserError
from orca_bench.report.grid_formats import Cell, Grid, p_value
from orca_bench.results.models import Question
from orca_bench.results.reading import OTHER, ResultFile, clusters, rows_are
from orca_bench.stats.estimates import Estimate, mean, mean_of_estimates, wilson_interval
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL, holm
from orca_bench.stats.paired_tests import Difference, normal_difference, paired_difference
from orca_bench.suite import AVERAGE_TASKS, AVERAGES, BY_NAME, TASKS, TaskFacts

_LEAST_COMMON = 0.1  # of the smaller result's questions


@dataclass(frozen=True)
class Line:
    """One task or average: both values and their difference, fractions of 1; `adjusted` is Holm's p.

    `difference` is None where nothing could be compared, and `note` says why.
    """

    name: str
    title: str
    metric: str
    first: float | None = None
    second: float | None = None
    difference: Difference | None = None
    adjusted: float | None = None
    note: str | None = None

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        found = self.difference
        if found is None:
            return self.note or "not compared"
        p = found.p if self.adjusted is None else self.adjusted
        if p < SIGNIFICANCE_LEVEL:
            return "better" if found.value > 0 else "worse"
        return "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """Second against first: a line for each task and average, and notes."""

    first: str
    second: str
    lines: list[Line]
    notes: list[str] = field(default_factory=list)

    def of(self, name: str) -> Line | None:
        """The line of a task or average."""
        return next((line for line in self.lines if line.name == name), None)


def compare(first: ResultFile, others: Sequence[ResultFile]) -> list[Comparison]:
    """Each of the others against the first; all tests of the call are corrected together by Holm.

    Raises UserError where two results have no task, or too few questions, in common.
    """
    return _corrected([_pair(first, other) for other in others])


def pair(first: ResultFile, second: ResultFile, name: str) -> Line | None:
    """One task, or average, of two results; None where it is in neither, or cannot be had."""
    if name in BY_NAME:
        return _task(first, second, BY_NAME[name], [])
    lines = [line for task in BY_NAME if (line := pair(first, second, task)) is not None]
    return next((line for line in _averages(lines) if line.name == name), None)


def against_reported(result: ResultFile, reported: dict) -> Comparison:
    """A result against reported scores, of which only the number is known: unpaired, and weaker.

    The reported score's own standard error is taken as that of right-or-wrong scores over the task's full number of
    questions, which is the most that scores between 0 and 1 can have.
    """
    if not result.data["suite"].get("comparable"):
        raise UserError(
            f"measured on the {result.data['suite']['name']} suite, which no reported score is of", where=result.path
        )
    lines = []
    for task in TASKS:
        told, entry = reported["tasks"].get(task.name), result.data["tasks"].get(task.name)
        if told is None or entry is None or task.name not in result.tasks:
            lines.append(Line(task.name, task.title, task.metric, note="not in both"))
            continue
        if rows_are(entry, task.split) == OTHER:
            lines.append(Line(task.name, task.title, task.metric, note="other rows"))
            continue
        estimate = result.tasks[task.name].estimate(task.name == "mmlu")
        lines.append(_unpaired(task, told / 100, estimate))
    notes = [
        "reported: only the number is known, so the questions are not paired and the comparison is weaker; its standard error "
        "is taken as that of right-or-wrong scores over all its questions"
    ]
    if result.data["protocol"]["name"] != "leaderboard":
        own = result.data["protocol"]["name"]
        notes.append(f"{result.label}: protocol {own}, reported: leaderboard; a difference mixes model and protocol")
    made = Comparison(f"reported {reported['model'].split('/')[-1]}", result.label, lines, notes)
    return _corrected([made])[0]


# --- inside ---------------------------------------------------------------------------------------------------------


def _pair(first: ResultFile, second: ResultFile) -> Comparison:
    lines, notes = [], _notes(first, second)
    for task in TASKS:
        line = _task(first, second, task, notes)
        if line is not None:
            lines.append(line)
    if not any(line.difference for line in lines):
        reasons = "; ".join(f"{line.title}: {line.note}" for line in lines) or "no task is in both"
        raise UserError(f"nothing to compare with {first.path} ({reasons})", where=second.path)
    return Comparison(first.label, second.label, lines + _averages(lines), notes)


def _task(first: ResultFile, second: ResultFile, task: TaskFacts, notes: list[str]) -> Line | None:
    name, title, metric = task.name, task.title, task.metric
    mine, theirs = first.tasks.get(name), second.tasks.get(name)
    if mine is None and theirs is None:
        return None
    if mine is None or theirs is None:
        return Line(name, title, metric, note=f"not in {(first if mine is None else second).label}")
    if _asked_hash(first, name) != _asked_hash(second, name):
        return Line(name, title, metric, note="other rows")
    common = [key for key in mine.questions if key in theirs.questions]
    fewer = min(len(mine.questions), len(theirs.questions))
    if len(common) < _LEAST_COMMON * fewer or not common:
        return Line(name, title, metric, note=f"{len(common)} questions in common, of {fewer}")
    if len(common) < max(len(mine.questions), len(theirs.questions)):
        notes.append(
            f"{title}: {len(common):,} questions in common, of {len(mine.questions):,} and {len(theirs.questions):,}"
        )
    a, b = [mine.questions[key] for key in common], [theirs.questions[key] for key in common]
    return _compared(name, title, metric, a, b, [part for part, _ in common] if name == "mmlu" else None)


def _compared(
    name: str, title: str, metric: str, a: list[Question], b: list[Question], strata: list[str] | None
) -> Line:
    before, after = [question.score for question in a], [question.score for question in b]
    found = paired_difference(before, after, clusters(a), strata)
    first = mean(before, strata=strata).value
    return Line(name, title, metric, first, first + found.value, found)


def _unpaired(task: TaskFacts, told: float, estimate: Estimate) -> Line:
    n = task.full_size
    low, high = wilson_interval(told, n)
    theirs = math.sqrt(told * (1 - told) / n) or (high - low) / 4
    mine = estimate.stderr or (estimate.high - estimate.low) / 4
    error, value = math.hypot(theirs, mine), estimate.value - told
    found = normal_difference(value, error, "unpaired z", estimate.n, estimate.clusters)
    return Line(task.name, task.title, task.metric, told, estimate.value, found)


def _averages(lines: list[Line]) -> list[Line]:
    """The two averages, where all their tasks were compared."""
    made = []
    compared = {line.name: line for line in lines if line.difference}
    for name, title in AVERAGES.items():
        wanted = AVERAGE_TASKS[name]
        if any(task not in compared for task in wanted):
            continue
        parts = [compared[task] for task in wanted]
        value, error = mean_of_estimates([line.difference for line in parts])
        if not error:
            continue
        n = sum(line.difference.n for line in parts)
        found = normal_difference(value, error, "paired z", n, n)
        first = sum(line.first for line in parts) / len(parts)
        made.append(Line(name, title, "mean", first, first + value, found))
    return made


def _corrected(made: list[Comparison]) -> list[Comparison]:
    """Holm's correction over all lines of all comparisons: whatever gets a verdict is one of the tests that may cry wolf."""
    tested = [(i, j) for i, comparison in enumerate(made) for j, line in enumerate(comparison.lines) if line.difference]
    adjusted = holm([made[i].lines[j].difference.p for i, j in tested])
    for (i, j), p in zip(tested, adjusted, strict=True):
        made[i].lines[j] = replace(made[i].lines[j], adjusted=p)
    return made


def _asked_hash(result: ResultFile, name: str) -> str | None:
    """The hash of the rows that were asked."""
    return (result.data.get("data_hashes") or {}).get(name, {}).get(BY_NAME[name].split)


def _notes(first: ResultFile, second: ResultFile) -> list[str]:
    notes = []
    protocols = [r.data["protocol"] for r in (first, second)]
    if protocols[0] != protocols[1]:
        named = [f"{p['name']} v{p.get('version')}" for p in protocols]
        if named[0] == named[1]:
            named = [f"{n} ({p.get('system') or p.get('max_length')})" for n, p in zip(named, protocols, strict=True)]
        notes.append(f"protocols {named[0]} and {named[1]}: a difference mixes model and protocol")
    for result in (first, second):
        if not result.data.get("complete"):
            notes.append(f"{result.label}: unfinished")
    return notes


# --- the forms ------------------------------------------------------------------------------------------------------


def _percent(value: float | None, sign: bool = False) -> str:
    return "–" if value is None else f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"


def _p(line: Line) -> str:
    if line.difference is None:
        return "–"
    p = line.difference.p if line.adjusted is None else line.adjusted
    return p_value(p)


def grid(made: Comparison) -> Grid:
    """The grid of a comparison, percent."""
    headings = [
        "Task",
        made.first,
        made.second,
        "Δ",
        "95 % interval",
        "p (Holm)",
        "shows from",
        "↑",
        "↓",
        "n",
        "verdict",
    ]
    rows = []
    for line in made.lines:
        found = line.difference
        if found is None:
            rows.append([line.title, "–", "–", "–", "–", "–", "", "", "", "", line.verdict])
            continue
        paired = line.name not in AVERAGES and found.test != "unpaired z"
        rows.append(
            [
                line.title,
                _percent(line.first),
                _percent(line.second),
                _percent(found.value, sign=True),
                f"{_percent(found.low, True)} … {_percent(found.high, True)}",
                _p(line),
                "" if found.smallest_detectable is None else f"{100 * found.smallest_detectable:.1f}",
                str(found.better) if paired else "",
                str(found.worse) if paired else "",
                str(found.n),
                line.verdict,
            ]
        )
    colours = {"better": "green", "worse": "red"}
    cells = [[*map(Cell, row[:-1]), Cell(row[-1], style=colours.get(row[-1], ""))] for row in rows]
    tasks = sum(line.name not in AVERAGES for line in made.lines)
    spare = ("n", "↑", "↓", "shows from", "p (Holm)", made.first)
    return Grid(headings, cells, legend(made), left=frozenset({0, len(headings) - 1}), rule=tasks - 1, spare=spare)


def legend(made: Comparison) -> list[str]:
    """What the columns mean, and the notes."""
    tests = list(dict.fromkeys(line.difference.test for line in made.lines if line.difference))
    unpaired = tests == ["unpaired z"]
    same = "" if unpaired else ", on the same questions; ↑ ↓ questions whose score rose, fell"
    return [
        f"Δ is {made.second} minus {made.first}, in points{same}",
        f"p by {', '.join(tests)}; corrected by Holm over all lines that are compared; better or worse: p < {SIGNIFICANCE_LEVEL}",
        "95 % interval: of each line by itself, not corrected",
        "shows from: the smallest true difference that a comparison of this size shows four times in five",
        *made.notes,
    ]


def to_json(made: Sequence[Comparison]) -> list[dict[str, object]]:
    """All facts of some comparisons, fractions of 1."""
    return [
        {
            "first": comparison.first,
            "second": comparison.second,
            "lines": [_line_json(line) for line in comparison.lines],
            "notes": comparison.notes,
        }
        for comparison in made
    ]


def _line_json(line: Line) -> dict[str, object]:
    facts = dataclasses.asdict(line) | {"verdict": line.verdict}
    if line.difference is not None:
        facts["difference"]["smallest"] = facts["difference"].pop("smallest_detectable")
    return facts
