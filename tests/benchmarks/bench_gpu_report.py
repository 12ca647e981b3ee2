"""The record of bench_gpu.py: the lines of measurements.jsonl in, gpu.md beside it out.

Its own module because the record is written again after each job, by a process that computes nothing.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca_bench.cards import markdown

_RIVAL_OF_RATIO = "engine"

Entry = dict[str, Any]
#: By heading, what stands in the column for an entry.
Columns = Mapping[str, Callable[[Entry], str]]


def read_entries(folder: Path) -> list[Entry]:
    """All measurements so far; a last line that is still being written is left out."""
    file = folder / "measurements.jsonl"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def write(folder: Path) -> None:
    """Write gpu.md anew."""
    (folder / "gpu.md").write_text("\n".join(record(read_entries(folder), folder)), encoding="utf-8")


def record(entries: list[Entry], folder: Path) -> list[str]:
    """The record as Markdown; a section that has no measurement is left out."""
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_kind[entry.get("kind", "")].append(entry)
    lines = ["# One GPU", "", *_environment_lines(by_kind["environment"])]
    for title, section, kind in _SECTIONS:
        if by_kind[kind]:
            lines += ["", f"## {title}", "", *section(by_kind[kind])]
    training_record = folder / "training" / "training-gpu.md"
    if training_record.is_file():
        lines += ["", "#" + training_record.read_text(encoding="utf-8").rstrip()]
    problems = [entry for entry in entries if "problem" in entry or "left_out" in entry]
    if problems:
        lines += ["", "## Failed, or left out", ""]
        lines += [
            f"- {entry['job']}, {entry['name']}: {entry.get('problem') or entry['left_out']}" for entry in problems
        ]
    return [*lines, ""]


def _environment_lines(entries: list[Entry]) -> list[str]:
    if not entries:
        return ["No job has begun."]
    environment = entries[-1]
    versions = ", ".join(f"{package} {version}" for package, version in environment["versions"].items())
    memory = "" if environment["memory_gib"] is None else f", {environment['memory_gib']:.0f} GiB"
    requests = "tiny models and requests, which try the script and measure nothing"
    if environment["sizes"] == "full":
        requests = "random token ids in the numbers of tokens that the leaderboard's requests have"
    return [
        f"{time.strftime('%Y-%m-%d')}; {environment['device']}{memory}; {versions}. Random weights, {requests}; "
        "`python tests/benchmarks/bench_gpu.py`."
    ]


def _table(columns: Columns, entries: Sequence[Entry]) -> list[str]:
    """A Markdown table with a row for each entry, whose columns are right-aligned but for the first."""
    rows = [[cell(entry) for cell in columns.values()] for entry in entries]
    return markdown.table(list(columns), rows, range(1, len(columns))).splitlines()


def _optional(value: float | None, form: str) -> str:
    """A number by a format such as `{:.1e}`; nothing for None."""
    return "" if value is None else form.format(value)


def _check_lines(entries: list[Entry]) -> list[str]:
    failed_count = sum(entry["passed"] is False for entry in entries)
    verdicts = {True: "yes", False: "**NO**", None: ""}
    columns: Columns = {
        "check": lambda entry: entry["what"],
        "value": lambda entry: f"{entry['value']:.2g}",
        "at most": lambda entry: _optional(entry["bound"], "{:.2g}"),
        "passed": lambda entry: verdicts[entry["passed"]],
    }
    return [f"{failed_count} of {len(entries)} are outside their bounds.", "", *_table(columns, entries)]


def _log_likelihood_lines(entries: list[Entry]) -> list[str]:
    """By shape and contender the sum over all tasks, then the seconds of each task."""
    contenders: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        contenders[entry["shape"], entry["contender"]].append(entry)
    engine_seconds = {
        (entry["shape"], entry["task"]): entry["seconds"] for entry in entries if entry["contender"] == _RIVAL_OF_RATIO
    }
    totals = [_sum_of_tasks(task_entries, engine_seconds) for task_entries in contenders.values()]
    columns: Columns = {
        "model, contender": _contender_name,
        "requests": lambda total: f"{total['requests']:,}",
        "sent": lambda total: f"{total['sent_tokens']:,}",
        "computed": lambda total: f"{total['computed_tokens']:,}",
        "s": lambda total: f"{total['seconds']:.2f}",
        "sent tokens/s": lambda total: f"**{total['sent_tokens'] / total['seconds']:,.0f}**",
        "computed tokens/s": lambda total: f"{total['computed_tokens'] / total['seconds']:,.0f}",
        "of peak": lambda total: _optional(total["peak_share"], "{:.1%}"),
        "× engine's time": lambda total: _optional(total["time_ratio"], "{:.2f}"),
        "memory": lambda total: _optional(total["peak_gib"], "{:.1f} GiB"),
        "Δ, nats": lambda total: _optional(total["mean_difference_nats"], "{:.1e}"),
    }
    return [
        "All contenders answer the same token ids, in bfloat16. *Sent* counts all tokens of all requests, *computed* what a "
        "contender computes, padding included. The share of the peak rate counts 2 FLOP a parameter and computed token, and no "
        "attention. Δ is the mean absolute difference of a request's log-probability from the engine's, of the task with the "
        "largest.",
        "",
        *_table(columns, totals),
        "",
        *_task_table(contenders),
    ]


def _contender_name(entry: Entry) -> str:
    return f"{entry['shape']}, {entry['contender']}"


def _sum_of_tasks(task_entries: list[Entry], engine_seconds: dict[tuple[str, str], float]) -> Entry:
    """One contender's entry for all tasks together; None where a task has no number."""
    sums = {
        name: sum(entry[name] for entry in task_entries)
        for name in ("requests", "sent_tokens", "computed_tokens", "seconds")
    }
    engine_total = sum(engine_seconds.get((entry["shape"], entry["task"]), 0.0) for entry in task_entries)
    return {
        **{name: task_entries[0][name] for name in ("shape", "contender")},
        **sums,
        "peak_share": _weighted_share(task_entries),
        "time_ratio": sums["seconds"] / engine_total if engine_total else None,
        **{name: _largest(task_entries, name) for name in ("peak_gib", "mean_difference_nats")},
    }


def _largest(entries: list[Entry], name: str) -> float | None:
    values = [entry[name] for entry in entries]
    return None if None in values else max(values)


def _weighted_share(task_entries: list[Entry]) -> float | None:
    """The share of the peak rate over all tasks together."""
    if any(entry["peak_share"] is None for entry in task_entries):
        return None
    seconds = sum(entry["seconds"] for entry in task_entries)
    return sum(entry["peak_share"] * entry["seconds"] for entry in task_entries) / seconds


def _task_table(contenders: dict[tuple[str, str], list[Entry]]) -> list[str]:
    rows = [
        {"contender": _contender_name(task_entries[0])}
        | {entry["task"]: f"{entry['seconds']:.3f}" for entry in task_entries}
        for task_entries in contenders.values()
    ]
    task_names = dict.fromkeys(name for row in rows for name in row if name != "contender")
    columns: Columns = {name: lambda row, name=name: row.get(name, "") for name in task_names}
    return _table({"seconds": lambda row: row["contender"], **columns}, rows)


def _text_lines(entries: list[Entry]) -> list[str]:
    engine_seconds = {entry["shape"]: entry["seconds"] for entry in entries if entry["contender"] == _RIVAL_OF_RATIO}
    columns: Columns = {
        "model, contender": _contender_name,
        "prompts": lambda entry: f"{entry['prompts']}",
        "prompt tokens": lambda entry: f"{entry['prompt_tokens']:,}",
        "new tokens": lambda entry: f"{entry['new_tokens']:,}",
        "s": lambda entry: f"{entry['seconds']:.2f}",
        "new tokens/s": lambda entry: f"**{entry['new_tokens'] / entry['seconds']:,.0f}**",
        "× engine's time": lambda entry: (
            f"{entry['seconds'] / engine_seconds[entry['shape']]:.2f}" if entry["shape"] in engine_seconds else ""
        ),
        "memory": lambda entry: _optional(entry["peak_gib"], "{:.1f} GiB"),
        "same tokens": lambda entry: _optional(entry.get("mean_agreeing_tokens"), "{:.0f}"),
    }
    return [
        "Greedy texts in bfloat16, all of the same length. *Same tokens*: how many of a text's first tokens are those of the "
        "engine's text, in the mean; in bfloat16 ties are broken differently.",
        "",
        *_table(columns, entries),
    ]


def _tree_attention_lines(entries: list[Entry]) -> list[str]:
    columns: Columns = {
        "batch, way": lambda entry: f"{entry['case']}: {entry['way']}",
        "queries × keys": lambda entry: f"{entry['tokens']:,} × {entry['columns']:,}",
        "spans": lambda entry: f"{entry['spans']}",
        "visible": lambda entry: f"{entry['visible_share']:.0%}",
        "ms a layer": lambda entry: f"**{entry['layer_ms']:.3f}**",
        "ms once a batch": lambda entry: f"{entry['batch_ms']:.2f}",
        "first call, s": lambda entry: f"{entry['first_call_s']:.2f}",
        "difference": lambda entry: f"{entry['difference']:.1e}",
    }
    return [
        "One batch of a tree and one layer. *Visible*: pairs of a query and a key that it attends to, of all pairs. Differences "
        "from the mask in float32, over its largest number.",
        "",
        *_table(columns, entries),
    ]


def _decoding_lines(entries: list[Entry]) -> list[str]:
    columns: Columns = {
        "model, step": lambda entry: f"{entry['shape']}, {entry['sequences']} sequences, {entry['way']}",
        "ms": lambda entry: f"**{entry['step_ms']:.2f}**",
        "first token": lambda entry: str(entry["first_token_id"]),
    }
    return [f"Keys and values of {entries[0]['columns']} tokens under a mask.", "", *_table(columns, entries)]


def _profile_lines(entries: list[Entry]) -> list[str]:
    columns: Columns = {
        "profile": lambda entry: entry["file"],
        "wall, ms": lambda entry: f"{entry['wall_ms']:.1f}",
        "wall with profiler, ms": lambda entry: f"{entry['profiled_wall_ms']:.1f}",
        "kernels, ms": lambda entry: f"{entry['device_ms']:.1f}",
        "CPU, ms": lambda entry: f"{entry['cpu_ms']:.1f}",
        "launches": lambda entry: f"{entry['launches']:,}",
        "synchronizations": lambda entry: f"{entry['synchronizations']:,}",
    }
    return [
        "Where the time of the kernels is near the wall time, the GPU binds; where it is much less, the CPU does, which launches "
        "them.",
        "",
        *_table(columns, entries),
    ]


def _packing_lines(entries: list[Entry]) -> list[str]:
    columns: Columns = {
        "eight examples": lambda entry: f"heads of {entry['head_size']}",
        "one kernel, ms": lambda entry: f"{entry['kernel_ms']:.2f}",
        "each alone, ms": lambda entry: f"{entry['one_by_one_ms']:.2f}",
    }
    return ["Forward and backward.", "", *_table(columns, entries)]


#: Of each section its title, what writes it, and the kind of its entries; in the order of the record.
_SECTIONS: tuple[tuple[str, Callable[[list[Entry]], list[str]], str], ...] = (
    ("Checks", _check_lines, "check"),
    ("Log-likelihoods", _log_likelihood_lines, "log-likelihoods"),
    ("Texts", _text_lines, "texts"),
    ("Attention in a prefix tree", _tree_attention_lines, "tree attention"),
    ("One decoding step", _decoding_lines, "decoding step"),
    ("Profiles", _profile_lines, "profile"),
    ("Packed attention", _packing_lines, "packing speed"),
)
SECTION_TITLES = tuple(title for title, _, _ in _SECTIONS)
