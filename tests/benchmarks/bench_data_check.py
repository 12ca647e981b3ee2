"""Time `data check` and its search for benchmark questions, and write the record: results/bench/data_check.md.

    make bench
    python tests/benchmarks/bench_data_check.py --rows-of-form 20 --real-records 1000 --million 0

First the search beside lm-eval's `Janitor` and a set of 13-grams, each in a process of its own, on the same records with planted
test questions (planted_questions.py). Then the whole check: all records of Alpaca and Dolly twice over, and a million records,
which are these repeated with other words. Without the real rows there is nothing to measure, and the program says so.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bench_records import conditions, load_sentence, write_record
from overlap_contenders import CONTENDERS
from planted_forms import FORMS
from planted_questions import LOOK_ALIKE, NOT_PLANTED, PlantedRecord, plant, read_real_records

from orca_bench import row_files
from orca_bench.evaluate.benchmark_questions import load_benchmark_questions

_SHARED = ROOT.parent / "shared" / "data"
_SECONDS_BETWEEN_SAMPLES = 0.2
_CHANGED_WORDS = 0.15  # of a record that is repeated
_GOALS = "Goals on two cores: all records twice over in 15 s and 1 GiB, of which the overlap 8 s; a million in 110 s."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=_SHARED / "benchmarks")
    parser.add_argument("--instructions", type=Path, default=_SHARED / "instructions")
    parser.add_argument("--tokenizer", type=Path, default=_SHARED / "tokenizer" / "tokenizer.model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows-of-form", type=int, default=250)
    parser.add_argument("--real-records", type=int, default=10_000)
    parser.add_argument(
        "--repeats", type=int, default=2, help="how often the whole check has all records; 0 leaves it out"
    )
    parser.add_argument("--million", type=int, default=1_000_000, help="records of the largest check; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "data_check.md")
    options = parser.parse_args()
    files = [path for name in ("alpaca", "dolly") for path in sorted((options.instructions / name).glob("train*"))]
    if not options.benchmarks.is_dir() or not files:
        print(f"no check of records is timed: {options.benchmarks} or {options.instructions} is not here")
        return
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        lines = search_section(Path(folder), options, files)
        lines += check_section(Path(folder), options, files)
    heading = ["# Checking records", "", f"{conditions()}. {load_sentence(load_before)}", ""]
    write_record(options.out, [*heading, *lines])


def search_section(folder: Path, options: argparse.Namespace, files: Sequence[Path]) -> list[str]:
    """The contenders on one set of records, as Markdown."""
    rows = load_benchmark_questions(options.benchmarks).questions
    real_records = read_real_records(files, options.real_records, options.seed)
    records = plant(rows, real_records, options.seed, options.rows_of_form, others=200)
    input_path = folder / "planted.pickle"
    input_path.write_bytes(pickle.dumps((rows, [record.texts for record in records])))
    outputs = {name: _run_contender(name, input_path, folder / "output.json") for name in CONTENDERS}
    lines = [
        "## The search for benchmark questions",
        "",
        f"{len(records):,} records, of which {options.rows_of_form} have a planted test question of each form; "
        f"{sum(row.is_evaluated for row in rows):,} evaluated questions. One process each; a planted question counts as "
        "recognised where its record is reported at all, as the other two name no question.",
        "",
        "| | " + " | ".join(CONTENDERS) + " |",
        "|---|" + "--:|" * len(CONTENDERS),
    ]
    for label, key in (("rows prepared, seconds", "build_seconds"), ("search, seconds", "search_seconds")):
        lines.append(f"| {label} | " + " | ".join(f"{output[key]:.1f}" for output in outputs.values()) + " |")
    ours = outputs["here"]["search_seconds"]
    ratios = " | ".join(f"{output['search_seconds'] / ours:.1f}" for output in outputs.values())
    memory = " | ".join(f"{output['memory_gib']:.2f}" for output in outputs.values())
    lines += [f"| search, times as long as here | {ratios} |", f"| memory, GiB | {memory} |"]
    for group in (*FORMS, LOOK_ALIKE, NOT_PLANTED):
        shares = " | ".join(reported_share(records, output["places"], group) for output in outputs.values())
        lines.append(f"| reported: {group} | {shares} |")
    return [*lines, ""]


def _run_contender(name: str, input_path: Path, output_path: Path) -> dict[str, Any]:
    measurement = run_measured(
        [str(Path(__file__).with_name("overlap_contenders.py")), name, str(input_path), str(output_path)]
    )
    print(f"{name}: {measurement.seconds:.1f} s, {measurement.memory_gib:.2f} GiB", flush=True)
    return dict(json.loads(output_path.read_text()))


def reported_share(records: Sequence[PlantedRecord], places: Sequence[int], group: str) -> str:
    """How many records of a group are reported: in percent for planted ones, as a number for the others."""
    reported = set(places)
    places_of_group = [place for place, record in enumerate(records) if record.group == group]
    count = sum(place in reported for place in places_of_group)
    if group in FORMS:
        return f"{count / max(len(places_of_group), 1):.1%}"
    return f"{count} of {len(places_of_group):,}"


def check_section(folder: Path, options: argparse.Namespace, files: Sequence[Path]) -> list[str]:
    """The whole check, as Markdown."""
    lines = [
        "## The whole check",
        "",
        f"{_GOALS} Memory is that of all processes together (proportional set size), sampled.",
        "",
        "| records | compared with the benchmarks | lengths | seconds | records a second | peak memory, GiB |",
        "|--:|---|---|--:|--:|--:|",
    ]
    if options.repeats:
        paths = [
            folder / f"{repeat}-{path.parent.name}-{path.name}" for repeat in range(options.repeats) for path in files
        ]
        for path, source in zip(paths, files * options.repeats, strict=True):
            path.write_bytes(source.read_bytes())
        words = [str(path) for path in paths]
        benchmarks = ["--benchmarks", str(options.benchmarks)]
        tokenizer = ["--tokenizer", str(options.tokenizer)] if options.tokenizer.is_file() else []
        for further in ([], benchmarks, *([[*benchmarks, *tokenizer]] if tokenizer else [])):
            lines.append(_check_row(words + further, folder / "report.json"))
    if options.million:
        path = folder / "million.jsonl"
        write_repeated(path, files, options.million, options.seed)
        lines.append(_check_row([str(path), "--benchmarks", str(options.benchmarks)], folder / "report.json"))
    return [*lines, ""]


def _check_row(words: list[str], report_path: Path) -> str:
    measurement = run_measured(
        ["-m", "orca_bench", "data", "check", *words, "--hits", "0", "--report", str(report_path)]
    )
    count = json.loads(report_path.read_text())["records"]
    is_compared, has_lengths = ("yes" if option in words else "no" for option in ("--benchmarks", "--tokenizer"))
    print(f"{count} records: {measurement.seconds:.1f} s, {measurement.memory_gib:.2f} GiB", flush=True)
    return (
        f"| {count:,} | {is_compared} | {has_lengths} | {measurement.seconds:.1f} | {count / measurement.seconds:,.0f} "
        f"| {measurement.memory_gib:.2f} |"
    )


def write_repeated(path: Path, files: Sequence[Path], count: int, seed: int) -> None:
    """Write so many records of some files, again and again; from the second time on with some words exchanged for others."""
    random = Random(seed)
    rows = [row for file in files for _, row in row_files.read_rows(file)]
    vocabulary = sorted(
        {word for row in rows[:5000] for text in row.values() if isinstance(text, str) for word in text.split()}
    )
    with path.open("w", encoding="utf-8") as stream:
        for place in range(count):
            row = rows[place % len(rows)]
            if place >= len(rows):
                row = {key: _with_other_words(text, vocabulary, random) for key, text in row.items()}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _with_other_words(text: Any, vocabulary: Sequence[str], random: Random) -> Any:
    if not isinstance(text, str):
        return text
    words = text.split(" ")
    for _ in range(int(len(words) * _CHANGED_WORDS)):
        words[random.randrange(len(words))] = random.choice(vocabulary)
    return " ".join(words)


@dataclass(frozen=True)
class ProcessMeasurement:
    """A process with its children: seconds from its start to its end, and the most memory of all of them at once in GiB."""

    seconds: float
    memory_gib: float


def run_measured(words: Sequence[str]) -> ProcessMeasurement:
    """Run a Python process with these arguments to its end; ends this program where it fails."""
    start, peak_kib = time.monotonic(), 0
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=stderr, env=environment)
        while process.poll() is None:
            peak_kib = max(peak_kib, sum(_proportional_kib(pid) for pid in _process_tree(process.pid)))
            time.sleep(_SECONDS_BETWEEN_SAMPLES)
        seconds = time.monotonic() - start
        stderr.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(words)}: {stderr.read().decode()}")
    return ProcessMeasurement(seconds, peak_kib / 2**20)


def _process_tree(pid: int) -> list[int]:
    pids = [pid]
    for parent in pids:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:  # it has ended
            continue
        pids += map(int, children)
    return pids


def _proportional_kib(pid: int) -> int:
    """The memory of a process, of which what it shares counts in part; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
