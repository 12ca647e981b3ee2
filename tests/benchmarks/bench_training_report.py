"""The Markdown of bench_training.py's record: measurements in, tables and the goals for the speed and memory of training out."""

import statistics
from collections.abc import Sequence
from typing import Any

from bench_training_contenders import Contender

#: A line of the file of measurements: `table`, `contender` (or `loss`), `measurement` and the conditions it was made under.
Entry = dict[str, Any]

#: What was expected before the first run, from a prototype of one process without ZeRO: packed, 1,752 tokens/s in float32 and
#: 2,225 under autocast (149 and 231 at SmolLM2's shape), and the best padded plain loop, sorted by length, 1,124 and 1,112.
_PREDICTED = {
    "trainer fp32": 1.5,
    "trainer bf16": 2.1,
    "packed fp32": 0.95,
    "packed bf16": 0.95,
    "bf16 15m": 1.3,
    "bf16 135m": 1.6,
}


def rate(measurement: dict[str, Any]) -> float:
    """Real tokens a second: padding does not count."""
    return measurement["tokens"] / measurement["seconds"]


def rates(entries: Sequence[Entry], table: str) -> dict[Contender, list[float]]:
    """Real tokens a second of every process, by contender."""
    rates_by_contender: dict[Contender, list[float]] = {}
    for entry in entries:
        if entry["table"] == table and "contender" in entry:
            rates_by_contender.setdefault(Contender(**entry["contender"]), []).append(rate(entry["measurement"]))
    return rates_by_contender


def best_trainer(entries: Sequence[Entry], precision: str) -> Contender:
    """The Trainer's best row of the screening in one number type."""
    screening = rates(entries, "15m screening")
    trainers = [contender for contender in screening if contender.precision == precision]
    return max(trainers, key=lambda contender: max(screening[contender]))


def best_rate(
    entries: Sequence[Entry], table: str, program: str, precision: str, packing: str = "none"
) -> float | None:
    """The highest median rate among the contenders of a program in one number type; None where it did not run."""
    medians = [
        statistics.median(values)
        for contender, values in rates(entries, table).items()
        if (contender.program, contender.precision, contender.packing) == (program, precision, packing)
    ]
    return max(medians, default=None)


def table_section(title: str, table: str, entries: Sequence[Entry]) -> list[str]:
    """One table: a row for each contender, each number type's rivals before orca-bench."""
    lines = [
        f"## {title}",
        "",
        "| contender | numbers | processes × threads | tokens/s, median | each process | × Trainer | × packed loop "
        "| padding | 6 N tokens/s, GFLOP/s | loss of the first step | peak memory |",
        "|---|---|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    rates_by_contender = rates(entries, table)
    for precision in ("fp32", "bf16"):
        rivals = [best_rate(entries, table, program, precision) for program in ("trainer", "packed")]
        for contender, values in rates_by_contender.items():
            if contender.precision != precision:
                continue
            measurement = next(
                entry["measurement"] for entry in entries if entry.get("contender") and _is_of(entry, table, contender)
            )
            median = statistics.median(values)
            ratios = " | ".join("" if rival is None else f"{median / rival:.2f}" for rival in rivals)
            lines.append(
                f"| {contender.name} | {precision} | {contender.processes} × {measurement['threads']} | **{median:,.0f}** "
                f"| {', '.join(f'{value:,.0f}' for value in values)} | {ratios} | {_padding(measurement)} "
                f"| {6 * measurement['parameters'] * median / 1e9:.0f} | {_number(measurement['first_loss'], '.6f')} "
                f"| {_number(measurement['peak_gib'], '.2f', ' GiB')} |"
            )
    return [*lines, ""]


def _is_of(entry: Entry, table: str, contender: Contender) -> bool:
    return entry["table"] == table and Contender(**entry["contender"]) == contender


def _padding(measurement: dict[str, Any]) -> str:
    share = padding_share(measurement)
    return "" if share is None else f"{share:.1%}"


def padding_share(measurement: dict[str, Any]) -> float | None:
    """The share of the computed tokens that are padding; None where it is not known."""
    computed = measurement["computed_tokens"]
    return None if not computed else 1 - measurement["tokens"] / computed


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def loss_section(entries: Sequence[Entry]) -> list[str]:
    """Peak memory of the head and the loss, whole and in parts."""
    lines = [
        "## Memory of the output head and its loss",
        "",
        "Peak of the process in forward and backward, above hidden states and weights; of it, gradients that every form leaves.",
        "",
        "| form | positions × vocabulary | logits in float32 | peak | of it gradients | peak / logits | loss |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in entries:
        if "loss" in entry:
            what, peak = entry["loss"], entry["measurement"]
            logits_gib = _logits_gib(what)
            lines.append(
                f"| {'logits of all positions' if what['form'] == 'whole' else 'orca-bench'} "
                f"| {what['positions']:,} × {what['vocab_size']:,} | {logits_gib:.2f} GiB | {peak['peak_gib']:.3f} GiB "
                f"| {peak['gradients_gib']:.3f} GiB | {peak['peak_gib'] / logits_gib:.3f} | {peak['loss']:.7f} |"
            )
    return [*lines, ""]


def _logits_gib(what: dict[str, Any]) -> float:
    return what["positions"] * what["vocab_size"] * 4 / 2**30


def training_goals(entries: Sequence[Entry]) -> list[str]:
    """The goals with what was predicted and measured; those whose table did not run are left out."""
    lines = [
        "| goal | at least | predicted | measured | |",
        "|---|--:|--:|--:|---|",
    ]
    for precision, least in (("fp32", 1.5), ("bf16", 2.2)):
        ours, theirs = (best_rate(entries, "15m", *which) for which in _pair("trainer", precision))
        lines += _ratio_line(
            f"exact packing / best Trainer, 15M, {precision}", least, f"trainer {precision}", ours, theirs
        )
    for precision in ("fp32", "bf16"):
        ours, theirs = (best_rate(entries, "8k", *which) for which in _pair("packed", precision))
        text = f"exact packing / plain packed loop at 8,192 tokens a step, {precision}"
        lines += _ratio_line(text, 0.95, f"packed {precision}", ours, theirs)
    for table, least in (("15m", 1.4), ("135m", 1.6)):
        low, high = (best_rate(entries, table, "orca", precision, "exact") for precision in ("fp32", "bf16"))
        lines += _ratio_line(f"bf16 / fp32, {table.upper()}", least, f"bf16 {table}", high, low)
    lines += _padding_lines(entries) + _loss_lines(entries)
    return [*lines, ""]


def _pair(program: str, precision: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return ("orca", precision, "exact"), (program, precision)


def _ratio_line(text: str, least: float, key: str, ours: float | None, theirs: float | None) -> list[str]:
    if ours is None or theirs is None:
        return []
    ratio = ours / theirs
    verdict = "reached" if ratio >= least else "**missed**"
    return [f"| {text} | {least} | {_PREDICTED[key]} | {ratio:.2f} ({ours:,.0f} / {theirs:,.0f}) | {verdict} |"]


def _padding_lines(entries: Sequence[Entry]) -> list[str]:
    shares = [
        padding_share(entry["measurement"])
        for entry in entries
        if "contender" in entry and entry["contender"]["program"] == "orca" and entry["contender"]["packing"] != "none"
    ]
    known_shares = [share for share in shares if share is not None]
    if not known_shares:
        return []
    verdict = "reached" if max(known_shares) <= 0.005 else "**missed**"
    return [f"| padding, share of computed tokens, packed | at most 0.5 % | 0 | {max(known_shares):.2%} | {verdict} |"]


def _loss_lines(entries: Sequence[Entry]) -> list[str]:
    parts = [entry for entry in entries if "loss" in entry and entry["loss"]["form"] == "parts"]
    lines = []
    for entry in parts:
        what, measurement = entry["loss"], entry["measurement"]
        share = measurement["peak_gib"] / _logits_gib(what)
        whole = next(
            (e["measurement"] for e in entries if "loss" in e and e["loss"] == what | {"form": "whole"}), measurement
        )
        difference = abs(measurement["loss"] / whole["loss"] - 1)
        verdict = "reached" if share <= 1 / 8 and difference <= 1e-6 else "**missed**"
        lines.append(
            f"| peak of the loss / logits in float32, {what['vocab_size']:,} words; difference of the loss | at most 0.125; 1e-6 "
            f"| 0.1 | {share:.3f}; {difference:.0e} | {verdict} |"
        )
    return lines
