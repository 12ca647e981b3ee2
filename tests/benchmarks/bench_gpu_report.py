"""The record of bench_gpu.py: the lines of measurements.jsonl in, gpu.md beside it out.

Its own module because the record is written again after each job, by a process that computes nothing.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

_RIVAL_OF_RATIO = "engine"

Entry = dict[str, Any]


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
    for title, section, kinds in (
        ("Checks", _check_lines, ["check"]),
        ("Log-likelihoods", _log_likelihood_lines, ["log-likelihoods"]),
        ("Texts", _text_lines, ["texts"]),
        ("Attention in a prefix tree", _tree_attention_lines, ["tree attention"]),
        ("One decoding step", _decoding_lines, ["decoding step"]),
        ("Profiles", _profile_lines, ["profile"]),
        ("Packed attention", _packing_lines, ["packing speed"]),
    ):
        section_entries = [entry for kind in kinds for entry in by_kind[kind]]
        if section_entries:
            lines += ["", f"## {title}", "", *section(section_entries)]
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
    return [
        f"{time.strftime('%Y-%m-%d')}; {environment['device']}{memory}; {versions}. Random weights, random token ids in the "
        "numbers of tokens that the leaderboard's requests have; `python tests/benchmarks/bench_gpu.py`."
    ]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table whose columns are right-aligned but for the first."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "|".join(["---", *["--:"] * (len(header) - 1)]) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _check_lines(entries: list[Entry]) -> list[str]:
    failed_count = sum(entry["passed"] is False for entry in entries)
    verdicts = {True: "yes", False: "**NO**", None: ""}
    rows = [
        [
            entry["what"],
            f"{entry['value']:.2g}",
            "" if entry["bound"] is None else f"{entry['bound']:.2g}",
            verdicts[entry["passed"]],
        ]
        for entry in entries
    ]
    return [
        f"{failed_count} of {len(entries)} are outside their bounds.",
        "",
        *_table(["check", "value", "at most", "passed"], rows),
    ]


def _log_likelihood_lines(entries: list[Entry]) -> list[str]:
    """By shape and contender the sum over all tasks, then the seconds of each task."""
    contenders: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        contenders[entry["shape"], entry["contender"]].append(entry)
    engine_seconds = {
        (entry["shape"], entry["task"]): entry["seconds"] for entry in entries if entry["contender"] == _RIVAL_OF_RATIO
    }
    rows = []
    for (shape, contender), task_entries in contenders.items():
        seconds = sum(entry["seconds"] for entry in task_entries)
        sent, computed = (sum(entry[name] for entry in task_entries) for name in ("sent_tokens", "computed_tokens"))
        share = _weighted_share(task_entries)
        engine_total = sum(engine_seconds.get((shape, entry["task"]), 0.0) for entry in task_entries)
        differences = [entry["mean_difference_nats"] for entry in task_entries]
        rows.append(
            [
                f"{shape}, {contender}",
                f"{sum(entry['requests'] for entry in task_entries):,}",
                f"{sent:,}",
                f"{computed:,}",
                f"{seconds:.2f}",
                f"**{sent / seconds:,.0f}**",
                f"{computed / seconds:,.0f}",
                "" if share is None else f"{share:.1%}",
                f"{seconds / engine_total:.2f}" if engine_total else "",
                "" if task_entries[0]["peak_gib"] is None else f"{max(e['peak_gib'] for e in task_entries):.1f} GiB",
                "" if None in differences else f"{max(differences):.1e}",
            ]
        )
    lines = [
        "All contenders answer the same token ids, in bfloat16. *Sent* counts all tokens of all requests, *computed* what a "
        "contender computes, padding included. The share of the peak rate counts 2 FLOP a parameter and computed token, and no "
        "attention. Δ is the mean absolute difference of a request's log-probability from the engine's, of the task with the "
        "largest.",
        "",
        *_table(
            [
                "model, contender",
                "requests",
                "sent",
                "computed",
                "s",
                "sent tokens/s",
                "computed tokens/s",
                "of peak",
                "× engine's time",
                "memory",
                "Δ, nats",
            ],
            rows,
        ),
        "",
        *_task_table(contenders),
    ]
    return lines


def _weighted_share(task_entries: list[Entry]) -> float | None:
    """The share of the peak rate over all tasks together."""
    if any(entry["peak_share"] is None for entry in task_entries):
        return None
    seconds = sum(entry["seconds"] for entry in task_entries)
    return sum(entry["peak_share"] * entry["seconds"] for entry in task_entries) / seconds


def _task_table(contenders: dict[tuple[str, str], list[Entry]]) -> list[str]:
    tasks = list(dict.fromkeys(entry["task"] for task_entries in contenders.values() for entry in task_entries))
    rows = []
    for (shape, contender), task_entries in contenders.items():
        seconds = {entry["task"]: f"{entry['seconds']:.3f}" for entry in task_entries}
        rows.append([f"{shape}, {contender}", *(seconds.get(task, "") for task in tasks)])
    return _table(["seconds", *tasks], rows)


def _text_lines(entries: list[Entry]) -> list[str]:
    engine_seconds = {entry["shape"]: entry["seconds"] for entry in entries if entry["contender"] == _RIVAL_OF_RATIO}
    rows = [
        [
            f"{entry['shape']}, {entry['contender']}",
            f"{entry['prompts']}",
            f"{entry['prompt_tokens']:,}",
            f"{entry['new_tokens']:,}",
            f"{entry['seconds']:.2f}",
            f"**{entry['new_tokens'] / entry['seconds']:,.0f}**",
            f"{entry['seconds'] / engine_seconds[entry['shape']]:.2f}" if entry["shape"] in engine_seconds else "",
            "" if entry["peak_gib"] is None else f"{entry['peak_gib']:.1f} GiB",
            f"{entry['mean_agreeing_tokens']:.0f}" if "mean_agreeing_tokens" in entry else "",
        ]
        for entry in entries
    ]
    return [
        "Greedy texts in bfloat16, all of the same length. *Same tokens*: how many of a text's first tokens are those of the "
        "engine's text, in the mean; in bfloat16 ties are broken differently.",
        "",
        *_table(
            [
                "model, contender",
                "prompts",
                "prompt tokens",
                "new tokens",
                "s",
                "new tokens/s",
                "× engine's time",
                "memory",
                "same tokens",
            ],
            rows,
        ),
    ]


def _tree_attention_lines(entries: list[Entry]) -> list[str]:
    rows = [
        [
            f"{entry['case']}: {entry['way']}",
            f"{entry['tokens']:,} × {entry['columns']:,}",
            f"{entry['spans']}",
            f"{entry['visible_share']:.0%}",
            f"**{entry['layer_ms']:.3f}**",
            f"{entry['batch_ms']:.2f}",
            f"{entry['first_call_s']:.2f}",
            f"{entry['difference']:.1e}",
        ]
        for entry in entries
    ]
    return [
        "One batch of a tree and one layer. *Visible*: pairs of a query and a key that it attends to, of all pairs. Differences "
        "from the mask in float32, over its largest number.",
        "",
        *_table(
            [
                "batch, way",
                "queries × keys",
                "spans",
                "visible",
                "ms a layer",
                "ms once a batch",
                "first call, s",
                "difference",
            ],
            rows,
        ),
    ]


def _decoding_lines(entries: list[Entry]) -> list[str]:
    rows = [
        [f"{entry['sequences']} sequences, {entry['way']}", f"**{entry['step_ms']:.2f}**", str(entry["first_token_id"])]
        for entry in entries
    ]
    return [
        "TinyLlama's shape, keys and values of 768 tokens under a mask.",
        "",
        *_table(["step", "ms", "first token"], rows),
    ]


def _profile_lines(entries: list[Entry]) -> list[str]:
    rows = [
        [
            entry["file"],
            f"{entry['wall_ms']:.1f}",
            f"{entry['profiled_wall_ms']:.1f}",
            f"{entry['device_ms']:.1f}",
            f"{entry['cpu_ms']:.1f}",
            f"{entry['launches']:,}",
            f"{entry['synchronizations']:,}",
        ]
        for entry in entries
    ]
    return [
        "Where the time of the kernels is near the wall time, the GPU binds; where it is much less, the CPU does, which launches "
        "them.",
        "",
        *_table(
            ["profile", "wall, ms", "wall with profiler, ms", "kernels, ms", "CPU, ms", "launches", "synchronizations"],
            rows,
        ),
    ]


def _packing_lines(entries: list[Entry]) -> list[str]:
    rows = [
        [f"heads of {entry['head_size']}", f"{entry['kernel_ms']:.2f}", f"{entry['one_by_one_ms']:.2f}"]
        for entry in entries
    ]
    return ["Forward and backward.", "", *_table(["eight examples", "one kernel, ms", "each alone, ms"], rows)]
