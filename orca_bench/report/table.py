"""Result files in, a leaderboard-style table out: reported beside measured, difference, standard error, n, both averages.

A difference is shown only where the two numbers may be compared; where protocol, limit or suite make it unfair the table
says so in plain words. Numbers are percent, as on the leaderboard. Reads result files only; knows no model.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import read_json, shipped
from orca_bench.report import grid_formats
from orca_bench.report.grid_formats import Grid
from orca_bench.results.reading import OTHER, rows_are
from orca_bench.suite import AVERAGE_TASKS, AVERAGES, BY_NAME, TASKS


@dataclass(frozen=True)
class Cell:
    """One measured number in percent: value, standard error, n, difference to the reported one, interval; None: unknown."""

    value: float | None = None
    stderr: float | None = None
    n: int | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """One task or average: its name, shots and metric, the reported number, and a cell for each result."""

    name: str
    title: str
    shots: int | None
    metric: str
    reported: float | None
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """A whole table: a heading for each result, lines, and notes on what may not be compared."""

    title: str
    columns: list[str]
    lines: list[Line]
    notes: list[str] = field(default_factory=list)
    #: By column: protocol, its version, a hash of all requests, and by task such a hash and the warnings.
    sources: dict[str, dict] = field(default_factory=dict)


def read_reported(name: str = "orca_mini_13b") -> dict:
    """The reported scores of a model, as data with their source."""
    path = Path(name) if name.endswith(".json") else shipped("reported") / f"{name}.json"
    reported = read_json(path)
    if not isinstance(reported, dict) or "tasks" not in reported:
        raise UserError("not a file of reported scores", where=path)
    return reported


def build(results: list[tuple[str, dict]], reported: dict) -> Table:
    """The table of some results, each with its column heading, beside the reported scores."""
    lines = []
    for task in TASKS:
        score = reported["tasks"].get(task.name)
        cells = [_task_cell(result, task.name, score) for _, result in results]
        metric = _metric(results, task.name, task.metric)
        lines.append(Line(task.name, task.title, task.shots, metric, score, cells))
    for name, title in AVERAGES.items():
        score = reported["averages"].get(name)
        cells = [_average_cell(result, name, score) for _, result in results]
        lines.append(Line(name, title, None, "mean", score, cells))
    suites = list(dict.fromkeys(result["suite"]["name"] for _, result in results))
    notes = _reported_notes(reported) + [note for label, result in results for note in _notes(label, result)]
    measured = list(dict.fromkeys(result["model"]["name"] for _, result in results))
    # Where the headings do not name the one model, the title does.
    of = f"{measured[0]}, " if len(measured) == 1 and measured[0] not in results[0][0] else ""
    return Table(
        f"{of}{', '.join(suites) or reported['suite']}: percent ± standard error; "
        f"reported: {reported['model'].split('/')[-1]}",
        [label for label, _ in results],
        lines,
        merged(notes),
        {label: _source(result) for label, result in results},
    )


def _source(result: dict) -> dict:
    return {
        "model": result["model"]["name"],
        "protocol": result["protocol"]["name"],
        "version": result["protocol"].get("version"),
        "requests_sha256": result.get("requests_sha256"),
        "tasks": {
            name: {"requests_sha256": entry.get("requests_sha256"), "warnings": entry.get("warnings", [])}
            for name, entry in result["tasks"].items()
        },
    }


def merged(notes: list[tuple[str, str]]) -> list[str]:
    """Notes (subject, text) as `subject: text`; subjects with one and the same text share a line."""
    subjects: dict[str, list[str]] = {}
    for subject, text in notes:
        subjects.setdefault(text, []).append(subject)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in subjects.items()]


def comparable(result: dict, *tasks: str) -> bool:
    """Whether a difference to a reported score means anything: not on another suite, nor on other rows of one of `tasks`."""
    entries = [(result["tasks"][name], BY_NAME[name].split) for name in tasks if name in result["tasks"]]
    return bool(result["suite"].get("comparable")) and all(rows_are(*entry) != OTHER for entry in entries)


def task_notes(label: str, result: dict) -> list[tuple[str, str]]:
    """(subject, text) of what belongs to single numbers: their warnings, and rows that are not known to be the leaderboard's."""
    notes = []
    for name, entry in result["tasks"].items():
        about = f"{label} {entry['title']}"
        notes += [(about, warning) for warning in entry.get("warnings", [])]
        if comparable(result) and not comparable(result, name):
            notes.append((about, "other rows than the leaderboard's, so no difference is shown"))
        elif comparable(result) and "row_check" not in entry:
            notes.append((label, "rows not verified: the result is of an earlier version"))
    return notes


def labels(results: list[dict]) -> list[str]:
    """A short heading for each result, told apart by protocol and limit where names are the same.

    Results of one model under different protocols are called by the protocol alone.
    """
    names = [result["model"]["name"] for result in results]
    if len(set(names)) == len(names):
        return names
    kinds = [result["protocol"]["name"] for result in results]
    if len(set(names)) == 1 and len(set(kinds)) == len(kinds):
        return kinds
    made = [f"{r['model']['name']} {r['protocol']['name']}" for r in results]
    if len(set(made)) < len(made):
        made = [f"{label} n≤{r['limit']}" if r.get("limit") else label for label, r in zip(made, results, strict=True)]
    return made if len(set(made)) == len(made) else [f"{i}: {label}" for i, label in enumerate(made, 1)]


def _task_cell(result: dict, name: str, reported: float | None) -> Cell:
    entry = result["tasks"].get(name)
    if entry is None:
        return Cell()
    return _cell(entry, reported, comparable(result, name))


def _average_cell(result: dict, name: str, reported: float | None) -> Cell:
    entry = result["averages"].get(name) or {}
    if entry.get("value") is None:
        return Cell()
    return _cell(entry, reported, comparable(result, *AVERAGE_TASKS[name]))


def _cell(entry: dict, reported: float | None, fair: bool) -> Cell:
    percent, stderr, interval = 100 * entry["value"], entry.get("stderr"), entry.get("interval")
    difference = percent - reported if fair and reported is not None else None
    return Cell(
        percent,
        None if stderr is None else 100 * stderr,
        entry.get("n"),
        difference,
        None if interval is None else (100 * interval[0], 100 * interval[1]),
    )


def _metric(results: list[tuple[str, dict]], name: str, default: str) -> str:
    return next((r["tasks"][name]["metric"] for _, r in results if name in r["tasks"]), default)


def _reported_notes(reported: dict) -> list[tuple[str, str]]:
    notes = [("reported", f"{reported['model']}, {reported['source']}")]
    titles = {task.name: task.title for task in TASKS}
    return notes + [(f"reported {titles.get(name, name)}", text) for name, text in reported.get("notes", {}).items()]


def _notes(label: str, result: dict) -> list[tuple[str, str]]:
    """(subject, text) of all that a reader must know of a result before comparing it."""
    notes = [(label, _identity(result))]
    if not comparable(result):
        notes.append(
            (
                label,
                f"measured on the {result['suite']['name']} suite, not on the leaderboard's questions; "
                "not comparable with reported scores, so no difference is shown",
            )
        )
    elif result["protocol"]["name"] in _UNFAIR:
        notes.append((label, _UNFAIR[result["protocol"]["name"]]))
    if result.get("limit"):
        notes.append((label, f"only the first {result['limit']} questions of each task (of each MMLU subject)"))
    if not result.get("complete"):
        missing = [
            BY_NAME[name].title for name in result.get("order") or [] if name in BY_NAME and name not in result["tasks"]
        ]
        notes.append((label, f"unfinished; ordered and not run: {', '.join(missing) or 'tasks without a number'}"))
    notes += [(label, warning) for warning in result["model"].get("warnings", [])]
    notes += task_notes(label, result)
    for text in (result.get("answers") or {}).get("notes", []):
        notes.append((label, text))
    for text in (result["model"].get("engine") or {}).get("differences", []):
        notes.append((label, f"asked of a server: {text}"))
    for entry in result["tasks"].values():
        about = f"{label} {entry['title']}"
        if entry.get("shortened"):
            notes.append((about, f"contexts longer than the model's window, which were cut: {entry['shortened']}"))
        if entry.get("n", 2) < 2:
            notes.append((about, "one question has no standard error"))
    return notes


_UNFAIR = {
    "orca": "the question in the Orca prompt, scored as trained; the reported scores were measured without the prompt, so a "
    "difference mixes model and protocol",
    "plain": "lm-eval's own prompts of today; the reported scores come from a 2023 harness with other prompts, draws and stop "
    "rules",
}


def _identity(result: dict) -> str:
    protocol = result["protocol"]
    version = f" v{protocol['version']}" if "version" in protocol else ""
    harness = f" (lm-eval {protocol['lm_eval']})" if "lm_eval" in protocol else ""
    sent = f", requests {result['requests_sha256'][:16]}" if result.get("requests_sha256") else ""
    return f"protocol {protocol['name']}{version}{harness}{sent}"


# --- the forms ------------------------------------------------------------------------------------------------------


def _number(value: float | None, sign: bool = False) -> str:
    return "–" if value is None else f"{value:+.2f}" if sign else f"{value:.2f}"


def measured(value: float | None, stderr: float | None, interval: Sequence[float] | None) -> str:
    """A number in percent with its standard error, of fractions of 1.

    Where all scores are the same their spread is nothing, which says nothing: the 95 % interval stands for it.
    """
    if value is None:
        return "–"
    if not stderr and interval:
        return f"{100 * value:.2f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * value:.2f}" if not stderr else f"{100 * value:.2f} ± {100 * stderr:.2f}"


def _measured(cell: Cell) -> str:
    if cell.value is None:
        return "–"
    share = None if cell.interval is None else [edge / 100 for edge in cell.interval]
    return measured(cell.value / 100, None if cell.stderr is None else cell.stderr / 100, share)


def grid(table: Table) -> Grid:
    """The grid of a table. A difference that is empty throughout is left out; an n that all results share stands once."""
    one_n = all(len({cell.n for cell in line.cells}) <= 1 for line in table.lines)
    columns = [
        ("Task", [line.title for line in table.lines]),
        ("Shots", ["" if line.shots is None else str(line.shots) for line in table.lines]),
        ("Metric", [line.metric for line in table.lines]),
        ("Reported", [_number(line.reported) for line in table.lines]),
    ]
    for place, label in enumerate(table.columns):
        cells = [line.cells[place] for line in table.lines]
        columns.append((label, [_measured(cell) for cell in cells]))
        if any(cell.difference is not None for cell in cells):
            columns.append(("Δ", [_number(cell.difference, sign=True) for cell in cells]))
        if not one_n or place == len(table.columns) - 1:
            columns.append(("n", ["" if cell.n is None else str(cell.n) for cell in cells]))
    rows = [[grid_formats.Cell(text) for text in row] for row in zip(*(texts for _, texts in columns), strict=True)]
    return Grid(
        [heading for heading, _ in columns],
        rows,
        table.notes,
        table.title,
        frozenset({0, 2}),
        len(TASKS) - 1,
        ("Metric", "Shots", "n", "Δ"),
    )


def to_rich(table: Table):
    """The table as a rich renderable, notes below it; a narrow terminal gets fewer columns."""
    return grid_formats.to_rich(grid(table))


def to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, notes as a list below it."""
    return grid_formats.to_markdown(grid(table))


def to_csv(table: Table) -> str:
    """One line a task and result, full precision; empty where unknown."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "task",
            "shots",
            "metric",
            "reported",
            "result",
            "measured",
            "stderr",
            "n",
            "difference",
            "protocol",
            "requests_sha256",
            "warnings",
        ]
    )
    for line in table.lines:
        for label, cell in zip(table.columns, line.cells, strict=True) if line.cells else [("", Cell())]:
            source = table.sources.get(label, {"protocol": None, "version": None, "requests_sha256": None, "tasks": {}})
            protocol = " v".join(str(part) for part in (source["protocol"], source["version"]) if part is not None)
            known = {"requests_sha256": source["requests_sha256"], "warnings": []}
            of = source["tasks"].get(line.name, known if line.name in AVERAGES else known | {"requests_sha256": None})
            writer.writerow(
                [
                    line.name,
                    line.shots,
                    line.metric,
                    line.reported,
                    label,
                    cell.value,
                    cell.stderr,
                    cell.n,
                    cell.difference,
                    protocol,
                    of["requests_sha256"],
                    "; ".join(of["warnings"]),
                ]
            )
    return out.getvalue()


def to_json(table: Table) -> str:
    """The table as JSON: `lines` with reported and measured numbers in percent, `results` with protocols and hashes, `notes`."""
    lines = [
        {
            "task": line.name,
            "title": line.title,
            "shots": line.shots,
            "metric": line.metric,
            "reported": line.reported,
            "measured": {label: vars(cell) for label, cell in zip(table.columns, line.cells, strict=True)},
        }
        for line in table.lines
    ]
    whole = {"title": table.title, "lines": lines, "results": table.sources, "notes": table.notes}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
