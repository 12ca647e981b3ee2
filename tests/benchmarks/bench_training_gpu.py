"""Time training on one GPU, within a budget of seconds: the card's way of training beside orca-bench, in bfloat16.

    python tests/benchmarks/bench_training_gpu.py --shapes 1b --budget-seconds 258 --out DIR

In: the shapes to train and a budget. Out: measurements.jsonl and training-gpu.md in a folder, written anew after every
measurement, so that nothing is lost where the machine is taken away. The most telling contenders run first; one that is not
expected to fit in what is left of the budget is left out, and the record says so. MFU is 6 N tokens/s over the GPU's peak rate,
where N counts all parameters.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from bench_records import processor_name
from bench_training_contenders import Contender, Task
from bench_training_process import ContenderFailed, run_process
from bench_training_report import padding_share, rate
from bench_training_rows import MAX_LENGTH, prepare_rows
from bench_training_shapes import SHAPES, VOCAB_SIZES

from orca_bench.train.model_flops import peak_flops_per_second

_WARMUP_STEPS, _TIMED_STEPS = 3, 10
_SHAPE_NAMES = ("1b", "3b")
_CARD_BATCH = 16
_DENSE_EXAMPLES_PER_ROW = 7  # of Alpaca and Dolly in 1,024 tokens: 6.2, and some to spare


@dataclass(frozen=True)
class Attempt:
    """One contender on one shape."""

    shape_name: str
    contender: Contender


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    run(options.shapes, options.budget_seconds, options.out)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(_SHAPE_NAMES), help="with commas between them")
    parser.add_argument("--budget-seconds", type=float, default=500, help="what does not fit is left out")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "training-gpu", help="a folder")
    options = parser.parse_args(words)
    options.shapes = options.shapes.split(",")
    for name in options.shapes:
        if name not in _SHAPE_NAMES:
            parser.error(f"argument --shapes: {name!r} is not one of {', '.join(_SHAPE_NAMES)}")
    import torch

    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here; bench_training.py is for CPUs")
    return options


def run(shape_names: list[str], budget_seconds: float, out_folder: Path) -> None:
    """Check the attention and run the attempts on these shapes, in order, until the budget is spent."""
    start = time.monotonic()
    left_out: list[str] = []
    checks = attention_checks(left_out)
    run_attempts(attempts(shape_names), budget_seconds - (time.monotonic() - start), out_folder, checks, left_out)


def run_attempts(
    attempt_list: list[Attempt],
    budget_seconds: float,
    out_folder: Path,
    checks: Sequence[dict[str, Any]] = (),
    left_out_before: Sequence[str] = (),
    device: str = "cuda",
) -> None:
    """Run attempts in order until the budget is spent; `checks` and `left_out_before` go into the record too."""
    start = time.monotonic()
    out_folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    left_out = list(left_out_before)
    with tempfile.TemporaryDirectory() as folder:
        for attempt in attempt_list:
            name = f"{attempt.shape_name}, {attempt.contender.name}, batch {attempt.contender.batch}"
            left_s = budget_seconds - (time.monotonic() - start)
            if left_s < _expected_seconds(attempt.shape_name, attempt.contender):
                left_out.append(f"{name}: {left_s:.0f} s were left")
                continue
            attempt_start = time.monotonic()
            measurement, problem = _measure(attempt, Path(folder), left_s, device)
            seconds = time.monotonic() - attempt_start
            if measurement is None:
                left_out.append(f"{name}: {problem}")
                print(f"{name}: FAILED after {seconds:.0f} s: {problem}", flush=True)
            else:
                print(f"{name}: {rate(measurement):,.0f} tokens/s; {seconds:.0f} s in all", flush=True)
                entries.append(
                    {
                        "shape": attempt.shape_name,
                        "contender": asdict(attempt.contender),
                        "process_seconds": round(seconds, 1),
                        "measurement": measurement,
                    }
                )
            text = "".join(json.dumps(entry) + "\n" for entry in entries)
            (out_folder / "measurements.jsonl").write_text(text, encoding="utf-8")
            (out_folder / "training-gpu.md").write_text("\n".join(record(entries, left_out, checks)), encoding="utf-8")
    (out_folder / "training-gpu.md").write_text("\n".join(record(entries, left_out, checks)), encoding="utf-8")
    print(f"record: {out_folder / 'training-gpu.md'}; {time.monotonic() - start:.0f} s", flush=True)


def attempts(shape_names: list[str]) -> list[Attempt]:
    """Everything worth a measurement, the most telling first: for each shape the comparison with the card, then the variants."""
    card = Contender("trainer", "bf16", _CARD_BATCH, 2, gradient_checkpointing=True)
    wide = Contender("trainer", "bf16", _CARD_BATCH, 8, gradient_checkpointing=True)
    exact = Contender("orca", "bf16", _CARD_BATCH, 16, packing="exact")
    dense = Contender("orca", "bf16", _CARD_BATCH, 16, packing="dense", gradient_checkpointing=True)
    none = Contender("orca", "bf16", _CARD_BATCH, 2, packing="none", gradient_checkpointing=True)
    exact_checkpointed = Contender("orca", "bf16", _CARD_BATCH, 16, packing="exact", gradient_checkpointing=True)
    exact_large = Contender("orca", "bf16", 8 * _CARD_BATCH, 64, packing="exact", gradient_checkpointing=True)
    plain = Contender("trainer", "bf16", _CARD_BATCH, 4, sampling="group_by_length")
    order = [[exact, card, exact_large, plain, dense], [wide, exact_checkpointed, none]]
    return [
        Attempt(shape_name, contender) for contenders in order for shape_name in shape_names for contender in contenders
    ]


def _expected_seconds(shape_name: str, contender: Contender) -> float:
    """How long a whole process takes at least; most of it is start-up, and orca-bench draws its weights on the CPU."""
    return {"tiny": 2.0, "1b": 35.0, "3b": 75.0}[shape_name] * (1.0 if contender.program == "orca" else 0.6)


def _measure(attempt: Attempt, folder: Path, timeout_s: float, device: str) -> tuple[dict[str, Any] | None, str]:
    """(measurement, "") or (None, why there is none)."""
    contender = attempt.contender
    examples_of_step = contender.batch * (_DENSE_EXAMPLES_PER_ROW if contender.packing == "dense" else 1)
    count = (_WARMUP_STEPS + _TIMED_STEPS + 1) * examples_of_step
    rows = prepare_rows(folder / f"rows-{count}", [], None, VOCAB_SIZES[attempt.shape_name], count)
    task = Task(
        SHAPES[attempt.shape_name],
        str(rows.records_file),
        str(rows.tokenizer_source),
        MAX_LENGTH,
        _WARMUP_STEPS,
        _TIMED_STEPS,
        threads=1,
        device=device,
    )
    try:
        specification = {"contender": asdict(contender), "task": asdict(task)}
        return run_process(specification, timeout_s), ""
    except subprocess.TimeoutExpired:
        return None, f"was not done after {timeout_s:.0f} s"
    except ContenderFailed as error:
        return None, " ".join(str(error).split())[-1500:]


def attention_checks(left_out: list[str]) -> list[dict[str, Any]]:
    """The kernel for packed examples beside the reference, for the sizes of heads of LLaMAs and open_llama_3b's; one may fail."""
    try:
        result = run_process({"head_sizes": [64, 100, 128]}, timeout_s=120)
    except (ContenderFailed, subprocess.TimeoutExpired) as error:
        result = {"checks": [], "problems": {"any size": " ".join(str(error).split())[-1500:]}}
    left_out += [f"attention with heads of {size}: {problem}" for size, problem in result["problems"].items()]
    print(f"attention: {result}", flush=True)
    return result["checks"]


def record(entries: list[dict[str, Any]], left_out: list[str], checks: Sequence[dict[str, Any]]) -> list[str]:
    """The record as Markdown."""
    import torch
    import transformers

    device_name = torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()
    peak_rate = peak_flops_per_second(device_name)
    peak_text = "an unknown number of" if peak_rate is None else f"{peak_rate / 1e12:,.0f}"
    lines = [
        "# Training on one GPU",
        "",
        f"{time.strftime('%Y-%m-%d')}; {device_name}; torch {torch.__version__}, transformers {transformers.__version__}. Random "
        f"weights and generated words in the lengths of Alpaca and Dolly (`training_lengths.json`), longest example {MAX_LENGTH} "
        f"tokens, {_TIMED_STEPS} steps after {_WARMUP_STEPS}, one process each. Real tokens: padding is not counted. "
        "The Trainer computes in bfloat16 by autocast over float32 weights; orca-bench has ZeRO-3 with one process. MFU is 6 N × "
        f"real tokens/s over {peak_text} TFLOP/s; N counts all parameters, the input embedding too.",
        "",
        "| model | contender | examples or rows a step | tokens a step | tokens/s | × card's way | MFU | padding | s a step "
        "| memory |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in entries:
        measurement, contender = entry["measurement"], Contender(**entry["contender"])
        tokens_per_s = rate(measurement)
        card_rate = _card_rate(entries, entry["shape"])
        mfu = "" if peak_rate is None else f"{6 * measurement['parameters'] * tokens_per_s / peak_rate:.1%}"
        ratio = "" if card_rate is None else f"{tokens_per_s / card_rate:.2f}"
        share = padding_share(measurement)
        padding = "" if share is None else f"{share:.1%}"
        memory = "" if measurement["peak_gib"] is None else f"{measurement['peak_gib']:.1f} GiB"
        lines.append(
            f"| {entry['shape']}, {measurement['parameters'] / 1e9:.2f} B | {contender.name} | {contender.batch} "
            f"| {measurement['tokens'] / _TIMED_STEPS:,.0f} | **{tokens_per_s:,.0f}** | {ratio} | {mfu} | {padding} "
            f"| {measurement['seconds'] / _TIMED_STEPS:.3f} | {memory} |"
        )
    if checks:
        lines += [
            "",
            "Attention of packed examples in one kernel, bfloat16, beside each example alone in float32: largest differences "
            "over the largest number, and milliseconds of forward and backward (each alone in bfloat16 too).",
            "",
            "| size of a head | outputs | gradients | one kernel | each alone |",
            "|--:|--:|--:|--:|--:|",
            *(
                f"| {check['head_size']} | {check['output_difference']:.1e} | {check['gradient_difference']:.1e} "
                f"| {check['kernel_ms']:.2f} ms | {check['one_by_one_ms']:.2f} ms |"
                for check in checks
            ),
        ]
    if left_out:
        lines += ["", "Left out:", "", *(f"- {line}" for line in left_out)]
    return [*lines, ""]


def _card_rate(entries: list[dict[str, Any]], shape_name: str) -> float | None:
    """Tokens a second of the Trainer at micro batch 2, the card's."""
    for entry in entries:
        contender = entry["contender"]
        if (entry["shape"], contender["program"], contender["micro_batch"]) == (shape_name, "trainer", 2):
            return rate(entry["measurement"])
    return None


if __name__ == "__main__":
    main()
