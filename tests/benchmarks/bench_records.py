"""The Markdown of bench_evaluation.py's records; the conditions of any benchmark."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: By contender and task, what `bench_contender.serve` gives back, summed over all parts.
Records = dict[str, dict[str, dict[str, Any]]]


def score_section(records: Records, batches: dict[str, int]) -> list[str]:
    """The log-likelihoods of one model as Markdown."""
    hf, float32, bfloat16 = (_with_total(records[name]) for name in ("hf", "ours", "ours bfloat16"))
    lines = [
        "Tokens: *sent* in all requests, *computed by `hf`* with its grouping of one-token answers and its padding, *distinct* "
        "the least that any engine must compute, *computed here*.",
        "",
        "| task | requests | sent | computed by `hf` | distinct | computed here | `hf`, batch size | here, float32 | ratio "
        "| here, bfloat16 | ratio | largest Δ log-probability, float32 | flags that differ |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for task, mine in float32.items():
        theirs, rounded = hf[task], bfloat16[task]
        pairs = list(zip(mine["answers"], theirs["answers"], strict=True))
        lines.append(
            f"| {task} | {len(pairs):,} | {mine['sent']:,} | {theirs['computed']:,} | {mine['distinct']:,} "
            f"| {mine['computed']:,} | {theirs['seconds']:.1f} s{_batch(task, batches)} | {mine['seconds']:.1f} s "
            f"| **{theirs['seconds'] / mine['seconds']:.1f}** | {rounded['seconds']:.1f} s "
            f"| **{theirs['seconds'] / rounded['seconds']:.1f}** | {max(abs(a[0] - b[0]) for a, b in pairs):.1e} "
            f"| {sum(a[1] != b[1] for a, b in pairs)} |"
        )
    lines += ["", *_rate_lines({"float32": float32, "bfloat16": bfloat16}), "", _memory(records), ""]
    return lines


def _rate_lines(by_dtype: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """The share of the measured matrix rate, by type and task."""
    lines = [
        "Share of the matrix rate that was measured before and after each part (1,024 tokens times a matrix of a layer, the "
        "faster of MKL and oneDNN): 2 FLOP a multiply-add in the layers' matrices, in attention over real context lengths, and "
        "in the output head where it is computed.",
        "",
        "| type | task | measured rate, GFLOP/s | layers | layers and attention | layers, attention and head |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for dtype, records in by_dtype.items():
        for task, record in records.items():
            flop, shares = 0.0, []
            for part in ("layer_flop", "attention_flop", "head_flop"):
                flop += record[part]
                shares.append(f"{flop / record['possible_flop']:.0%}")
            rate = record["possible_flop"] / record["seconds"] / 1e9
            lines.append(f"| {dtype} | {task} | {rate:.0f} | " + " | ".join(shares) + " |")
    return lines


def _with_total(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    total: dict[str, Any] = {}
    for record in records.values():
        for key, value in record.items():
            total[key] = total[key] + value if key in total else value
    return records | {"all": total}


def _batch(task: str, batches: dict[str, int]) -> str:
    return f" ({batches[task]})" if task in batches else ""


def _memory(records: Records) -> str:
    """Peak memory of each contender."""
    return (
        "Peak memory: "
        + "; ".join(
            f"{name.replace('ours', 'here').replace('hf', '`hf`')} {max(r['memory'] for r in record.values()):.2f} GiB"
            for name, record in records.items()
        )
        + "."
    )


def text_section(records: Records, batches: dict[str, int]) -> list[str]:
    """The texts of one model as Markdown."""
    hf, float32, bfloat16 = (_with_total(records[name]) for name in ("hf", "ours", "ours bfloat16"))
    lines = [
        "At most 256 tokens a text; of a cut context's answer the whole is compared, and `hf` encodes the Orca prompt by its "
        "own rules.",
        "",
        "| task | prompts | tokens of the texts: least, median, most | `hf`, batch size | here, float32 | ratio "
        "| texts that differ | here, bfloat16 | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for task, mine in float32.items():
        theirs, rounded, lengths = hf[task], bfloat16[task], sorted(mine["lengths"])
        differ = sum(a.strip() != b.strip() for a, b in zip(mine["answers"], theirs["answers"], strict=True))
        lines.append(
            f"| {task} | {len(lengths)} | {lengths[0]}, {lengths[len(lengths) // 2]}, {lengths[-1]} "
            f"| {theirs['seconds']:.1f} s{_batch(task, batches)} | {mine['seconds']:.1f} s "
            f"| **{theirs['seconds'] / mine['seconds']:.1f}** | {differ} | {rounded['seconds']:.1f} s "
            f"| **{theirs['seconds'] / rounded['seconds']:.1f}** |"
        )
    return [*lines, "", _memory(records), ""]


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
