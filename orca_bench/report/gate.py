"""A result and its baseline in, a yes or no out: has this change made the model worse, and on which questions?

A task fails where its loss against the baseline is significant (paired, corrected over the tasks) and at least as large as
the rules find interesting, or where it is below a floor. What cannot be compared fails too: a gate that is silent over the
wrong rows is worse than none. Several baselines are runs of one recipe that differ in their seed: then a loss must also be
larger than what seeds do (stats/seed_tests.py). What is not examined is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orca_bench.errors import UserError
from orca_bench.files import sha256
from orca_bench.report.comparison import Line, compare
from orca_bench.report.gate_rules import Rules
from orca_bench.report.grid_formats import p_value
from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile, is_sealed, questions_file, version_of
from orca_bench.stats.multiple_testing import holm
from orca_bench.stats.seed_tests import SeedTest, seed_tests
from orca_bench.suite import TASKS, TaskFacts


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one task. `p` is corrected; `turned` are the questions whose score fell, before and after."""

    name: str
    title: str
    passed: bool
    reason: str
    before: float | None = None
    after: float | None = None
    p: float | None = None
    turned: list[tuple[tuple[str, int], Question, Question]] = field(default_factory=list)


@dataclass(frozen=True)
class Gate:
    """The whole verdict; `reasons` are what makes the results incomparable as a whole, `notes` what was not examined."""

    result: str
    baseline: str
    verdicts: list[Verdict]
    reasons: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was held, and nothing fails."""
        return bool(self.verdicts) and not self.reasons and all(verdict.passed for verdict in self.verdicts)


def check(result: ResultFile, baselines: Sequence[ResultFile], rules: Rules) -> Gate:
    """Hold a result against its baselines; the first is the one that questions are compared with by name.

    Raises UserError where one file is given twice, and where two results have nothing in common.
    """
    _refuse_twice(result, baselines)
    label = str(baselines[0].path) if len(baselines) == 1 else f"{len(baselines)} baselines"
    reasons = [reason for read in (result, *baselines) for reason in _unsound(read)]
    reasons += [reason for baseline in baselines for reason in _incomparable(result, baseline)]
    compared_names = (
        {name for baseline in baselines for name in baseline.tasks} if rules.tasks is None else {*rules.tasks}
    )
    held = [task for task in TASKS if task.name in compared_names or task.name in rules.floors]
    if not held:
        reasons.append("no task is held: the baseline has none")
    if reasons:
        return Gate(str(result.path), label, [], list(dict.fromkeys(reasons)))
    comparisons = _comparisons(result, baselines, compared_names, rules.level)
    verdicts = [
        _verdict(task, result, baselines, rules, comparisons.get(task.name), task.name in compared_names)
        for task in held
    ]
    return Gate(str(result.path), label, verdicts, [], _notes(result, baselines, held))


@dataclass(frozen=True)
class _Comparison:
    """A task's value in the baselines (their mean) and now, fractions of 1, and the corrected p of no difference."""

    before: float
    after: float
    p: float


def _comparisons(
    result: ResultFile, baselines: Sequence[ResultFile], names: set[str], level: float
) -> dict[str, _Comparison]:
    """By task, what is compared: those of `names` that all results have on the same questions."""
    lines: dict[str, list[Line]] = {}
    for comparison in (compare(baseline, [result])[0] for baseline in baselines):
        for line in comparison.lines:
            if line.difference is not None and line.name in result.tasks:
                lines.setdefault(line.name, []).append(line)
    lines = {name: own for name, own in lines.items() if len(own) == len(baselines)}
    befores = {name: [line.first for line in own] for name, own in lines.items()}
    afters = {name: own[0].second for name, own in lines.items()}
    seeds = {name: SeedTest(0.0, 0.0) for name in lines}
    if len(baselines) > 1:
        steps = [1 / len(result.tasks[name].questions) for name in lines]
        seeds = dict(zip(lines, seed_tests(list(befores.values()), list(afters.values()), steps), strict=True))
    means = {name: sum(values) / len(values) for name, values in befores.items()}
    held = [name for name in lines if name in names]
    ps = []
    for name in held:
        # Of several baselines the questions are compared with the one in the middle.
        middle = min(lines[name], key=lambda line, name=name: abs(line.first - means[name]))
        ps.append(max(seeds[name].p, middle.difference.p))
    corrected = dict(zip(held, holm(ps), strict=True))
    return {name: _Comparison(means[name], afters[name], max(corrected[name], seeds[name].task_p)) for name in held}


def _verdict(
    task: TaskFacts,
    result: ResultFile,
    baselines: Sequence[ResultFile],
    rules: Rules,
    comparison: _Comparison | None,
    is_compared: bool,
) -> Verdict:
    """The verdict on one task; where it is not compared, it is only held to its floor."""
    if task.name not in result.tasks:
        return Verdict(task.name, task.title, False, "not in the result")
    after = result.tasks[task.name].estimate(task.name == "mmlu").value
    before, p = (comparison.before, comparison.p) if comparison else (None, None)
    turned = _turned(result, baselines[0], task.name) if is_compared else []

    def say(passed: bool, reason: str) -> Verdict:
        return Verdict(task.name, task.title, passed, reason, before, after, p, turned)

    floor = rules.floors.get(task.name)
    if floor is not None and 100 * after < floor:
        return say(False, f"{100 * after:.2f} is below the floor of {floor:g}")
    if not is_compared:
        return say(True, f"not below the floor of {floor:g}; not compared")
    reason = _why_not_compared(task, result, baselines, comparison)
    if reason is not None:
        return say(False, f"not comparable: {reason}")
    loss = round(100 * (before - after), 2) + 0.0  # and no minus zero
    if loss > 0 and p < rules.level:
        if loss >= rules.smallest_loss:
            return say(False, f"worse by {loss:.2f} points (p {p_value(p)})")
        return say(
            True, f"worse by {loss:.2f} points (p {p_value(p)}), less than the smallest loss of {rules.smallest_loss:g}"
        )
    if loss < 0 and p < rules.level:
        return say(True, f"better by {-loss:.2f} points (p {p_value(p)})")
    return say(True, f"no loss shown ({0.0 - loss:+.2f} points, p {p_value(p)})")


def _why_not_compared(
    task: TaskFacts, result: ResultFile, baselines: Sequence[ResultFile], comparison: _Comparison | None
) -> str | None:
    lacking = next((baseline for baseline in baselines if task.name not in baseline.tasks), None)
    if lacking is not None:
        return f"not in {lacking.path}"
    questions = result.tasks[task.name].questions.keys()
    for baseline in baselines:
        theirs = baseline.tasks[task.name].questions.keys()
        if questions != theirs:
            return f"{len(questions & theirs)} questions in common, of {len(questions)} here and {len(theirs)} in {baseline.path}"
    return None if comparison is not None else "other rows or questions"


def _turned(result: ResultFile, baseline: ResultFile, name: str) -> list[tuple[tuple[str, int], Question, Question]]:
    before = baseline.tasks[name].questions if name in baseline.tasks else {}
    after = result.tasks[name].questions
    return [(key, before[key], after[key]) for key in before if key in after and after[key].score < before[key].score]


# --- what makes results incomparable ----------------------------------------------------------------------------------


def _refuse_twice(result: ResultFile, baselines: Sequence[ResultFile]) -> None:
    """One run counted twice would say that seeds do nothing."""
    seen = {result.path.resolve(): "it is the result itself"}
    contents: dict[str, ResultFile] = {}
    for baseline in baselines:
        if baseline.path.resolve() in seen:
            raise UserError(f"no baseline: {seen[baseline.path.resolve()]}", where=baseline.path)
        seen[baseline.path.resolve()] = "it is given twice"
        content = _content(baseline)
        if content in contents:
            raise UserError(
                f"its questions are those of {contents[content].path}, byte for byte",
                where=baseline.path,
                hint="several baselines are runs with other seeds",
            )
        contents[content] = baseline


def _content(read: ResultFile) -> str:
    return sha256(questions_file(read.path))


def _unsound(read: ResultFile) -> Iterator[str]:
    if not read.data.get("complete"):
        missing = [name for name in read.data.get("order") or [] if name not in read.data["tasks"]]
        yield f"{read.path} is unfinished" + (f" ({', '.join(missing)})" if missing else "")
    if not is_sealed(read.data):
        yield f"{read.path} was changed after it was written; orca-bench verify says where"


def _incomparable(result: ResultFile, baseline: ResultFile) -> list[str]:
    reasons = []
    for what, mine, theirs in (
        ("suite", result.data["suite"].get("name"), baseline.data["suite"].get("name")),
        ("limit", result.data.get("limit"), baseline.data.get("limit")),
    ):
        if mine != theirs:
            reasons.append(f"other {what}: {_shown(mine)} here, {_shown(theirs)} in {baseline.path}")
    protocols = [read.data["protocol"] for read in (result, baseline)]
    if protocols[0] != protocols[1]:
        reasons.append(
            f"other protocol: {_protocol(*protocols)} here, {_protocol(*reversed(protocols))} in {baseline.path}"
        )
    if (version_of(result.data) < 3) != (version_of(baseline.data) < 3):
        older = min(result, baseline, key=lambda read: version_of(read.data))
        return [*reasons, f"rows were hashed otherwise when {older.path} was written: evaluate again"]
    same_tokenizer = len({r.data["model"].get("tokenizer_sha256") for r in (result, baseline)}) == 1
    for task in TASKS:
        if task.name not in result.tasks or task.name not in baseline.tasks:
            continue
        for known, what in (
            (_rows, "other rows of {}"),
            (_requests, "other requests of {}: the prompt is not what it was"),
        ):
            mine, theirs = known(result, task), known(baseline, task)
            if mine is None or theirs is None:
                reasons.append(
                    f"{(result if mine is None else baseline).path} does not say what was asked of {task.title}"
                )
            elif mine != theirs and not reasons:
                reasons.append(what.format(task.title))
        if (
            not reasons
            and same_tokenizer
            and None not in (tokens := _tokens(result, baseline, task))
            and len(tokens) > 1
        ):
            reasons.append(f"other token ids of {task.title}: tokenization is not what it was")
    return reasons


def _rows(read: ResultFile, task: TaskFacts) -> dict[str, str] | None:
    return (read.data.get("data_hashes") or {}).get(task.name)


def _requests(read: ResultFile, task: TaskFacts) -> str | None:
    return read.data["tasks"][task.name].get("requests_sha256")


def _tokens(one: ResultFile, other: ResultFile, task: TaskFacts) -> set[str | None]:
    return {read.data["tasks"][task.name].get("tokens_sha256") for read in (one, other)}


def _protocol(own: dict, other: dict) -> str:
    """A protocol's name and version, and what else of it is not as in the other."""
    differing = [key for key in own if own[key] != other.get(key) and key not in ("name", "version")]
    return f"{own.get('name')} v{own.get('version')}" + "".join(f", {key} {str(own[key])!r:.60}" for key in differing)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _notes(result: ResultFile, baselines: Sequence[ResultFile], held: Sequence[TaskFacts]) -> list[str]:
    """What was not examined, or says nothing."""
    present = {name for read in (result, *baselines) for name in read.tasks}
    left_out = [task.title for task in TASKS if task.name in present and task not in held]
    notes = [f"not examined: {', '.join(left_out)}"] if left_out else []
    untokened = [
        task.title
        for task in held
        if any(
            task.name in b.tasks and task.name in result.tasks and None in _tokens(result, b, task) for b in baselines
        )
    ]
    if untokened:
        notes.append(f"token ids were not compared, for a result does not know them: {', '.join(untokened)}")
    notes += [
        f"the questions and answers are those of {baseline.path}, byte for byte"
        for baseline in baselines
        if _content(baseline) == _content(result)
    ]
    return notes
