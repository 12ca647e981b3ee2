"""The Markdown of bench_evaluation.py's records, by model or protocol; the conditions of any benchmark."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: By contender: what `bench_contender.answer_all` returns.
Records = dict[str, dict[str, Any]]


def score_section(size: str, records: Records) -> list[str]:
    """The record of one model as Markdown."""
    ours, others = records["ours"], {name: record for name, record in records.items() if name != "ours"}
    best = {task: min(others, key=lambda name: others[name]["tasks"][task]["seconds"]) for task in ours["tasks"]}
    lines = [
        f"### {size} parameters",
        "",
        "| task | requests | sent | computed by `hf` | distinct | computed here | `hf`, best batch | here | ratio "
        "| largest Δ log-probability | flags that differ |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total = [0.0, 0.0]
    for task, mine in ours["tasks"].items():
        theirs = others[best[task]]["tasks"][task]
        gaps = [abs(a[0] - b[0]) for a, b in zip(mine["answers"], theirs["answers"], strict=True)]
        flags = sum(a[1] != b[1] for a, b in zip(mine["answers"], theirs["answers"], strict=True))
        total[0], total[1] = total[0] + theirs["seconds"], total[1] + mine["seconds"]
        lines.append(
            f"| {task} | {len(gaps):,} | {mine['sent']:,} | {theirs['fed']:,} | {mine['distinct']:,} | {mine['fed']:,} "
            f"| {theirs['seconds']:.1f} s ({best[task].removeprefix('hf')}) | {mine['seconds']:.1f} s "
            f"| **{theirs['seconds'] / mine['seconds']:.1f}** | {max(gaps):.1e} | {flags} |"
        )
    lines += [
        f"| all | | | | | | {total[0]:.1f} s | {total[1]:.1f} s | **{total[0] / total[1]:.1f}** | | |",
        "",
        _whole(records),
        "",
    ]
    return lines


def _whole(records: Records) -> str:
    """Seconds and peak memory of the whole runs."""
    return (
        "Whole runs, seconds and peak memory: "
        + "; ".join(
            f"{'here' if name == 'ours' else name.replace('hf', '`hf` batch ')} "
            f"{sum(t['seconds'] for t in record['tasks'].values()):.1f} s, {record['memory']:.2f} GiB"
            for name, record in records.items()
        )
        + "."
    )


def text_section(protocol: str, records: Records) -> list[str]:
    """The record of one protocol's texts as Markdown."""
    ours, others = records["ours"], {name: record for name, record in records.items() if name != "ours"}
    lines = [
        f"### Protocol {protocol}",
        "",
        "| task | prompts | tokens of the texts: least, median, most | `hf`, best batch | here | ratio | texts that differ |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    total = [0.0, 0.0]
    for task, mine in ours["tasks"].items():
        best = min(others, key=lambda name: others[name]["tasks"][task]["seconds"])
        theirs, lengths = others[best]["tasks"][task], sorted(mine["lengths"])
        differ = sum(a.strip() != b.strip() for a, b in zip(mine["answers"], theirs["answers"], strict=True))
        total = [total[0] + theirs["seconds"], total[1] + mine["seconds"]]
        lines.append(
            f"| {task} | {len(lengths)} | {lengths[0]}, {lengths[len(lengths) // 2]}, {lengths[-1]} "
            f"| {theirs['seconds']:.1f} s ({best.removeprefix('hf')}) | {mine['seconds']:.1f} s "
            f"| **{theirs['seconds'] / mine['seconds']:.1f}** | {differ} |"
        )
    both = f"{total[0]:.1f} s | {total[1]:.1f} s | **{total[0] / total[1]:.1f}**"
    return [*lines, f"| both | | | {both} | |", "", _whole(records), ""]


def turned_section(records: Records) -> list[str]:
    """How many predictions turn between pairs of contenders, as a Markdown table."""
    pairs = (("hf1", "hf8"), ("ours", "hf1"), ("hf1", "float32"), ("ours", "float32"))
    lines = [
        "| task | questions | " + " | ".join(f"{_name(a)} / {_name(b)}: turned, largest Δ" for a, b in pairs) + " |",
        "|---|--:|" + "--:|" * len(pairs),
    ]
    total = [0] * len(pairs)
    for task, ours in records["ours"]["tasks"].items():
        cells = []
        for place, (a, b) in enumerate(pairs):
            turned, gap = _turned(records[a]["tasks"][task], records[b]["tasks"][task])
            total[place] += turned
            cells.append(f"{turned}, {gap:.3f}")
        lines.append(f"| {task} | {len(set(ours['documents']))} | " + " | ".join(cells) + " |")
    return [*lines, "| all | | " + " | ".join(map(str, total)) + " |", ""]


def _name(contender: str) -> str:
    names = {"ours": "here", "float32": "float32"}
    return names.get(contender) or f"`hf` {contender.removeprefix('hf')}"


def _turned(one: dict[str, Any], other: dict[str, Any]) -> tuple[int, float]:
    """(questions whose best choice differs, the largest difference of a log-probability)."""
    best: list[dict[int, tuple[float, int]]] = [{}, {}]
    for place, record in enumerate((one, other)):
        for number, (document, (logprob, _)) in enumerate(zip(record["documents"], record["answers"], strict=True)):
            best[place][document] = max(best[place].get(document, (float("-inf"), 0)), (logprob, -number))
    gap = max(abs(a[0] - b[0]) for a, b in zip(one["answers"], other["answers"], strict=True))
    return sum(best[0][d][1] != best[1][d][1] for d in best[0]), gap


def write_record(path: Path, lines: Sequence[str]) -> None:
    """Write the lines of a record, and print where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    print(f"record: {path}")


def conditions(dtype: str = "float32") -> str:
    """The command, the date, the revision of the checkout, the machine and the versions."""
    import torch
    import transformers

    from orca_bench.train.run_folder import checkout_revision

    revision = checkout_revision()
    words = " ".join(word for word in sys.argv[1:])
    return (
        f"`python tests/benchmarks/{Path(sys.argv[0]).name}{' ' if words else ''}{words}`, {time.strftime('%Y-%m-%d')}"
        f"{f', revision {revision}' if revision else ''}; "
        f"{torch.get_num_threads()} threads of {processor_name()}, {dtype}; torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )


def load_sentence(load_before: float) -> str:
    """How busy the machine was: `os.getloadavg()[0]` before the measurements, and now."""
    return (
        "Processes that wanted to run, mean of a minute (the machine's load): "
        f"{load_before:.1f} before and {os.getloadavg()[0]:.1f} after, with the last measurement in it."
    )


def processor_name() -> str:
    """The name of the CPU as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
