"""Time a GGUF file on its way in beside transformers' own reader, in one run, and write the record, results/bench/gguf.md.

    make bench
    python tests/benchmarks/bench_gguf.py --file model.Q4_K_M.gguf --repeats 5

The file is the real model's by default (`make real-model`). Each contender runs in a process of its own, which is timed from its
start to its end, in turns with the other one; the least of its times counts, since the machine may have other work.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import real_model
from bench_records import conditions, load_sentence, write_record

#: What one would write to have the model and the tokenizer by transformers alone.
_TRANSFORMERS_PROGRAM = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, name = sys.argv[1:]
AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
AutoTokenizer.from_pretrained(folder, gguf_file=name)
"""


@dataclass(frozen=True, order=True)
class Measurement:
    """One process: seconds from its start to its end, seconds of all processors, peak memory."""

    seconds: float
    cpu_seconds: float
    memory_gib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=real_model.cached_path(real_model.REAL_MODEL))
    parser.add_argument("--repeats", type=int, default=3, help="of each contender")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "gguf.md")
    options = parser.parse_args()
    if not options.file.is_file():
        sys.exit(f"error: {options.file}: no such file; `make real-model` fetches the real model")
    load_before = os.getloadavg()[0]
    sections = import_section(options.file, options.repeats)
    lines = [
        "# GGUF files: in and out",
        "",
        f"{conditions()}. {options.file.name}, {options.file.stat().st_size:,} bytes. The least of {options.repeats} times of a "
        f"whole process, in turns. {load_sentence(load_before)}",
        "",
        *sections,
    ]
    write_record(options.out, lines)


def import_section(gguf_file: Path, repeats: int) -> list[str]:
    """The record of imports as Markdown."""
    ours, theirs = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            words = ["-m", "orca_bench", "import", str(gguf_file), "--to", f"{folder}/model"]
            ours.append(run_timed("orca-bench import", words))
        words = ["-c", _TRANSFORMERS_PROGRAM, str(gguf_file.parent), gguf_file.name]
        theirs.append(run_timed("transformers", words))
    best, their_best = min(ours), min(theirs)
    return [
        "## Import",
        "",
        "`orca-bench import FILE` reads, checks and writes the model folder; transformers' `from_pretrained(…, gguf_file=FILE)` "
        "reads model and tokenizer, and what it has read cannot be saved (transformers 5.23).",
        "",
        "| | seconds | all times | of the processors | peak memory |",
        "|---|--:|--:|--:|--:|",
        row("transformers, reading", theirs),
        row("`orca-bench import`, reading and writing", ours),
        f"| ratio | **{their_best.seconds / best.seconds:.1f}** | | {their_best.cpu_seconds / best.cpu_seconds:.1f} "
        f"| {their_best.memory_gib / best.memory_gib:.1f} |",
        "",
    ]


def row(name: str, measurements: list[Measurement]) -> str:
    """A contender's line in a table: its fastest process, and the seconds of each in the order of the runs."""
    best = min(measurements)
    times = ", ".join(f"{measurement.seconds:.1f}" for measurement in measurements)
    return f"| {name} | {best.seconds:.1f} | {times} | {best.cpu_seconds:.1f} | {best.memory_gib:.2f} GiB |"


def run_timed(name: str, words: list[str]) -> Measurement:
    """Run a Python process with these arguments to its end; ends this program where it fails."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        text=True,
    )
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{name}: {stderr}")
    memory_gib = usage.ru_maxrss / 2**20  # Linux counts KiB
    print(f"{name}: {seconds:.1f} s, {memory_gib:.2f} GiB", flush=True)
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, memory_gib)


if __name__ == "__main__":
    main()
