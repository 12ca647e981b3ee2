"""A result and its baseline in, a yes or no out: has this change made the model worse, and on which questions?

A task fails where its loss against the baseline is significant (paired, corrected over the tasks) and at least as large as
the rules find interesting, or where it is below a floor. What cannot be compared fails too: a gate that is silent over the
wrong rows is worse than none. Several baselines are runs of one recipe that differ in their seed: then a loss must also be
larger than what seeds do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from orca_bench import statistics, yaml_files
from orca_bench.errors import UserError, nearest
from orca_bench.report.compare import compare
from orca_bench.report.forms import p_value
from orca_bench.result_file import Result, Scored
from orca_bench.statistics import Difference
from orca_bench.suite import BY_NAME, TASKS

_SHOWN = 10  # turned questions that are named


@dataclass(frozen=True)
class Rules:
    """What the gate holds a result to.

    `level`: of all tasks together, how often it may cry wolf. `smallest_loss`: points; a smaller one passes even if it is
    significant. `floors`: points by task, which no baseline excuses. `tasks`: those that are held; None is all of the
    baseline.
    """

    level: float = 0.05
    smallest_loss: float = 0.0
    floors: dict[str, float] = field(default_factory=dict)
    tasks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one task. `p` is corrected; `turned` are the questions whose score fell, before and after."""

    name: str
    title: str
    passed: bool
    reason: str
    before: float | None = None
    after: float | None = None
    difference: Difference | None = None
    p: float | None = None
    turned: list[tuple[tuple[str, int], Scored, Scored]] = field(default_factory=list)


@dataclass(frozen=True)
class Gate:
    """The whole verdict; `reasons` are what makes the results incomparable as a whole."""

    result: str
    baseline: str
    verdicts: list[Verdict]
    reasons: list[str]

    @property
    def passed(self) -> bool:
        """Whether nothing fails."""
        return not self.reasons and all(verdict.passed for verdict in self.verdicts)


def read_rules(path: Path | None) -> Rules:
    """Rules from a YAML file; raises UserError, with the key, for what is no rule."""
    if path is None:
        return Rules()
    said, _ = yaml_files.read(path, "rules", hint="rules are a YAML file; see orca-bench check --help")
    if said is None:
        return Rules()
    if not isinstance(said, dict):
        raise UserError("rules are a mapping with the keys level, smallest_loss, floors and tasks", where=path)
    known = ("level", "smallest_loss", "floors", "tasks")
    for key in said:
        if key not in known:
            raise UserError(
                f"unknown key '{key}'", where=path, hint=nearest(str(key), known) or f"known: {', '.join(known)}"
            )
    level = _number(path, "level", said.get("level", 0.05), 0, 1)
    loss = _number(path, "smallest_loss", said.get("smallest_loss", 0.0), 0, 100)
    floors = said.get("floors") or {}
    if not isinstance(floors, dict):
        raise UserError("floors are points by task", where=f"{path}: floors", hint="floors: {hellaswag: 60}")
    floors = {_task(path, "floors", name): _number(path, f"floors.{name}", v, 0, 100) for name, v in floors.items()}
    tasks = said.get("tasks")
    if tasks in (None, "all"):
        return Rules(level, loss, floors)
    if not isinstance(tasks, list):
        raise UserError("tasks are `all` or a list", where=f"{path}: tasks", hint="tasks: [hellaswag, gsm8k]")
    return Rules(level, loss, floors, tuple(_task(path, "tasks", name) for name in tasks))


def _number(path: Path, key: str, value: object, least: float, most: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise UserError(f"{value!r} is no number from {least} to {most}", where=f"{path}: {key}")
    return float(value)


def _task(path: Path, key: str, name: object) -> str:
    known = list(BY_NAME)
    if name not in known:
        raise UserError(
            f"no task '{name}'", where=f"{path}: {key}", hint=nearest(str(name), known) or f"known: {', '.join(known)}"
        )
    return str(name)


def check(result: Result, baselines: Sequence[Result], rules: Rules) -> Gate:
    """Hold a result against its baselines; the first is the one that questions are compared with by name."""
    reasons = [reason for baseline in baselines for reason in _incomparable(result, baseline)]
    label = str(baselines[0].path) if len(baselines) == 1 else f"{len(baselines)} baselines"
    if reasons:
        return Gate(str(result.path), label, [], list(dict.fromkeys(reasons)))
    held = [
        (task.name, task.title)
        for task in TASKS
        if (rules.tasks is None and any(task.name in b.tasks for b in baselines))
        or task.name in (rules.tasks or rules.floors)
    ]
    ps: dict[str, float] = {}
    found: dict[str, tuple[float, float, Difference]] = {}
    compared = [compare(baseline, [result])[0] for baseline in baselines]
    for name, _ in held:
        lines = [line for line in (c.of(name) for c in compared) if line is not None and line.difference is not None]
        if len(lines) == len(baselines):
            found[name], ps[name] = _against(lines, result.tasks[name].estimate(name == "mmlu").value)
    adjusted = dict(zip(ps, statistics.holm(list(ps.values())), strict=True))
    verdicts = [
        _verdict(name, title, result, baselines, rules, found.get(name), adjusted.get(name)) for name, title in held
    ]
    return Gate(str(result.path), label, verdicts, [])


def _against(lines: list, after: float) -> tuple[tuple[float, float, Difference], float]:
    """((before, after, difference), p) of one task; with several baselines the larger p of questions' chance and seeds'."""
    if len(lines) == 1:
        return (lines[0].first, lines[0].second, lines[0].difference), lines[0].difference.p
    befores = [line.first for line in lines]
    before = sum(befores) / len(befores)
    middle = min(lines, key=lambda line: abs(line.first - before))
    p = max(statistics.new_one_p(befores, after), middle.difference.p)
    return (before, after, middle.difference), p


def _verdict(name, title, result, baselines, rules: Rules, found, p: float | None) -> Verdict:
    if name not in result.tasks:
        return Verdict(name, title, False, "not in the result")
    after = result.tasks[name].estimate(name == "mmlu").value
    floor = rules.floors.get(name)
    turned = _turned(result, baselines[0], name)
    before, difference = (found[0], found[2]) if found else (None, None)

    def say(passed: bool, reason: str) -> Verdict:
        return Verdict(name, title, passed, reason, before, after, difference, p, turned)

    if floor is not None and 100 * after < floor:
        return say(False, f"{100 * after:.2f} is below the floor of {floor:g}")
    if found is None:
        where = next((b for b in baselines if name not in b.tasks), None)
        if where is not None and rules.tasks is None and floor is not None:
            return say(True, f"above the floor of {floor:g}")
        return say(
            False, f"not comparable: {'not in the baseline' if where is not None else 'other rows or questions'}"
        )
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


def _turned(result: Result, baseline: Result, name: str) -> list[tuple[tuple[str, int], Scored, Scored]]:
    before = baseline.tasks[name].questions if name in baseline.tasks else {}
    after = result.tasks[name].questions
    return [(key, before[key], after[key]) for key in before if key in after and after[key].score < before[key].score]


def _incomparable(result: Result, baseline: Result) -> list[str]:
    reasons = []
    for what, mine, theirs in (
        ("suite", result.data["suite"].get("name"), baseline.data["suite"].get("name")),
        ("protocol", _protocol(result), _protocol(baseline)),
        ("limit", result.data.get("limit"), baseline.data.get("limit")),
    ):
        if mine != theirs:
            reasons.append(f"other {what}: {_shown(mine)} here, {_shown(theirs)} in {baseline.path}")
    hashes = [r.data.get("data_hashes") or {} for r in (result, baseline)]
    same_tokenizer = len({r.data["model"].get("tokenizer_sha256") for r in (result, baseline)}) == 1
    for name, title in ((task.name, task.title) for task in TASKS):
        if name in hashes[0] and name in hashes[1] and hashes[0][name] != hashes[1][name]:
            reasons.append(f"other rows of {title}")
        elif not reasons and _differ(result, baseline, name, "requests_sha256"):
            reasons.append(f"other requests of {title}: the prompt is not what it was")
        elif not reasons and same_tokenizer and _differ(result, baseline, name, "tokens_sha256"):
            reasons.append(f"other token ids of {title}: tokenization is not what it was")
    for read in (result, baseline):
        if not read.data.get("complete"):
            reasons.append(f"{read.path} is unfinished")
    return reasons


def _differ(one: Result, other: Result, name: str, hash_: str) -> bool:
    """Whether a hash of a task is told by both results, and another one."""
    return len({(read.data["tasks"].get(name) or {}).get(hash_) for read in (one, other)} - {None}) > 1


def _protocol(result: Result) -> str:
    protocol = result.data["protocol"]
    system = f", system message {protocol['system'][:40]!r}" if protocol.get("system") else ""
    return f"{protocol.get('name')} v{protocol.get('version')}{system}, window {protocol.get('max_length')}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


# --- the forms ------------------------------------------------------------------------------------------------------


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def headline(gate: Gate) -> str:
    """One line: passed or failed, and why."""
    failed = [verdict.title for verdict in gate.verdicts if not verdict.passed]
    if gate.passed:
        return f"passed: {gate.result} is not worse than {gate.baseline}"
    if gate.reasons:
        return f"failed: not comparable with {gate.baseline}: {'; '.join(gate.reasons)}"
    return f"failed: {', '.join(failed)}"


def to_rich(gate: Gate):
    """The verdict as a rich renderable."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "Task", "baseline", "now", "turned", "why"):
        drawn.add_column(heading, justify="right" if heading in ("baseline", "now", "turned") else "left")
    for verdict in gate.verdicts:
        style = "green" if verdict.passed else "red"
        cells = [
            verdict.title,
            _points(verdict.before),
            _points(verdict.after),
            str(len(verdict.turned)),
            verdict.reason,
        ]
        drawn.add_row(Text("✓" if verdict.passed else "✗", style=style), *map(Text, cells))
    parts = [drawn] if gate.verdicts else []
    named = [Text(f"  {line}", style="dim") for v in gate.verdicts if not v.passed for line in _named(v)]
    return Group(*parts, *named, Text(headline(gate), style="green" if gate.passed else "red"))


def _named(verdict: Verdict) -> list[str]:
    """The first turned questions in words."""
    lines = [
        f"{part} row {row}: {a.score:g} → {b.score:g}, {_said(a)} → {_said(b)}"
        for (part, row), a, b in verdict.turned[:_SHOWN]
    ]
    left = len(verdict.turned) - _SHOWN
    return lines + ([f"… and {left} more"] if left > 0 else [])


def _said(question: Scored) -> str:
    return repr(question.line.get("prediction"))[:40]


def to_markdown(gate: Gate) -> str:
    """A summary for a pull request."""
    lines = [f"### orca-bench: {'✅' if gate.passed else '❌'} {_escaped(headline(gate))}", ""]
    if gate.verdicts:
        lines += ["| | task | baseline | now | turned | why |", "|---|---|--:|--:|--:|---|"]
    for verdict in gate.verdicts:
        sign = "✅" if verdict.passed else "❌"
        lines.append(
            f"| {sign} | {verdict.title} | {_points(verdict.before)} | {_points(verdict.after)} "
            f"| {len(verdict.turned)} | {_escaped(verdict.reason)} |"
        )
    for verdict in gate.verdicts:
        if not verdict.passed and verdict.turned:
            lines += ["", f"<details><summary>{verdict.title}: questions that turned</summary>", ""]
            lines += [f"- `{line.replace('`', chr(39))}`" for line in _named(verdict)]
            lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def to_junit(gate: Gate) -> str:
    """JUnit XML: one test a task, one for whether the results can be compared."""
    failures = sum(not verdict.passed for verdict in gate.verdicts) + bool(gate.reasons)
    suite = ElementTree.Element(
        "testsuite", name="orca-bench", tests=str(len(gate.verdicts) + 1), failures=str(failures), errors="0"
    )
    case = ElementTree.SubElement(suite, "testcase", classname="orca-bench", name="comparable")
    if gate.reasons:
        ElementTree.SubElement(case, "failure", message=_xml("; ".join(gate.reasons)))
    for verdict in gate.verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname="orca-bench", name=verdict.title)
        if not verdict.passed:
            failure = ElementTree.SubElement(case, "failure", message=_xml(verdict.reason))
            failure.text = _xml("\n".join(_named(verdict)))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """A text without the characters that XML 1.0 cannot hold."""
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "�" for c in text
    )


def annotations(gate: Gate) -> list[str]:
    """Workflow commands of GitHub Actions, one a failure."""
    said = [("not comparable", reason) for reason in gate.reasons]
    said += [(verdict.title, verdict.reason) for verdict in gate.verdicts if not verdict.passed]
    return [f"::error title=orca-bench {_command(title, True)}::{_command(text)}" for title, text in said]


def _command(text: str, key: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if key else text


def to_json(gate: Gate) -> dict:
    """All facts, fractions of 1; with every turned question."""
    return {
        "passed": gate.passed,
        "headline": headline(gate),
        "reasons": gate.reasons,
        "tasks": [
            {
                "task": verdict.name,
                "passed": verdict.passed,
                "reason": verdict.reason,
                "baseline": verdict.before,
                "value": verdict.after,
                "p": None if verdict.p is None or not math.isfinite(verdict.p) else verdict.p,
                "turned": [
                    {"task": part, "row": row, "before": a.score, "after": b.score}
                    for (part, row), a, b in verdict.turned
                ],
            }
            for verdict in gate.verdicts
        ],
    }
