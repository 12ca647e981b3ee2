"""Time training beside transformers' Trainer and plain PyTorch loops, in one run; the record is results/bench/training.md.

    make bench                                                                         # generated words
    python tests/benchmarks/bench_training.py --records alpaca.jsonl.gz dolly.jsonl.gz --tokenizer tokenizer.model
    python tests/benchmarks/bench_training.py --tables tiny --repeats 1 --steps 1 --out FILE   # whether all of it runs

Real tokens a second, padding not counted, of random LLaMAs on generated words in the lengths of Alpaca and Dolly
(training_lengths.json), or with --records and --tokenizer on the records of those files.
Each contender runs in a process of its own; start-up and the first steps are not timed. The Trainer runs at every micro batch
and way of sampling once, and its best row of each number type is the rival. The rivals and orca-bench then run in turns, and
the median of each counts.

Every measurement is appended to the file of --measurements with the source files' hash, the libraries, the machine, the records
and the warm-up. A run takes from there what was measured under the same conditions: so one that was interrupted goes on, and one
that is to measure everything again needs another file. The record is written at the end. bench_training_gpu.py is the same on a
GPU.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from bench_records import conditions, load_sentence, processor_name, write_record
from bench_training_contenders import Contender, Task
from bench_training_process import ContenderFailed, run_process
from bench_training_report import Entry, best_trainer, loss_section, rate, table_section, training_goals
from bench_training_rows import MAX_LENGTH, prepare_rows
from bench_training_shapes import SHAPES, VOCAB_SIZES
from option_types import positive_integer

from orca_bench import library_settings
from orca_bench.files import file_sha256
from orca_bench.train.run_folder import checkout_revision, environment_entries

_EXPECTED_TOKENS_OF_EXAMPLE = 165  # of Alpaca and Dolly: 8,192 tokens are 50 examples
_BATCH = 16  # examples a step, of all tables but one
_MICRO_BATCHES = (1, 2, 4, 8, 16)
_LOSS_POSITIONS = 8192
_STEPS_OF_TABLE = {"15m": 1.0, "15m screening": 0.5, "8k": 0.5, "135m": 0.375, "tiny": 1.0}  # of --steps
#: What a measurement runs: a change of another file, a document or a record leaves earlier measurements valid.
_MEASURED_SOURCES = (
    "orca_bench/*.py",
    "orca_bench/train/**/*.py",
    "orca_bench/models/**/*.py",
    "orca_bench/tokenizers/**/*.py",
    *(f"tests/benchmarks/bench_training_{name}.py" for name in ("contenders", "command", "process", "loss")),
)


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        sections = [section for name in options.tables for section in _TABLES[name](bench)]
        lines = [
            "# Training: orca-bench beside transformers' Trainer and plain PyTorch",
            "",
            f"{conditions(dtype='number types as each row says')}. Real tokens a second: padding is computed and not counted. "
            f"Medians of {options.repeats} processes each, in turns; start-up and {options.warmup} steps are not timed. AdamW "
            "with the same settings everywhere; bf16 is autocast over float32 weights in the Trainer and the plain loops, and "
            f"bfloat16 weights with float32 copies for the optimizer in orca-bench. {load_sentence(load_before)}",
            "",
            *training_goals(bench.entries),
            *sections,
        ]
        write_record(options.out, lines)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, nargs="+", default=[], help="files of instructions; with --tokenizer")
    parser.add_argument("--tokenizer", type=Path, help="of the records")
    parser.add_argument(
        "--tables", type=list_of(list(_TABLES)), default="15m,8k,135m,loss", help=f"of {', '.join(_TABLES)}"
    )
    parser.add_argument("--repeats", type=positive_integer, default=3, help="of each contender")
    parser.add_argument(
        "--steps", type=positive_integer, default=8, help="timed optimizer steps of 16 examples of the small model"
    )
    parser.add_argument("--warmup", type=positive_integer, default=2, help="steps before them")
    parser.add_argument(
        "--micro-batches",
        type=list_of(_MICRO_BATCHES),
        default=_MICRO_BATCHES,
        help="of the Trainer: those among which its best row is looked for",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "training.md")
    parser.add_argument("--measurements", type=Path, help="file to go on from; created where it is absent")
    options = parser.parse_args(words)
    if bool(options.records) != bool(options.tokenizer):
        parser.error("--records and --tokenizer belong together")
    for path in [*options.records, *([options.tokenizer] if options.tokenizer else [])]:
        if not path.exists():
            parser.error(f"{path}: no such file")
    return options


def list_of(values: Sequence[Any]) -> Callable[[str], list[Any]]:
    """The type of an option that has some of these values, with commas between them."""
    value_by_text = {str(value): value for value in values}

    def parse(text: str) -> list[Any]:
        for part in text.split(","):
            if part not in value_by_text:
                raise argparse.ArgumentTypeError(f"{part!r} is not one of {', '.join(value_by_text)}")
        return list(dict.fromkeys(value_by_text[part] for part in text.split(",")))

    return parse


class Bench:
    """Runs contenders in processes of their own and remembers what they measured, in memory and in a file."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.entries: list[Entry] = []
        self.origins: dict[str, str] = {}  # of the records, by table
        self._file: Path | None = options.measurements
        self._earlier = read_measurements(self._file) if self._file else []
        self._conditions = measurement_conditions(options.warmup)
        if self._file:
            print(f"measurements: {self._file}, which has {len(self._earlier)} already", flush=True)

    def task(self, shape_name: str, example_count: int, table: str) -> Task:
        """The task of a table: `example_count` examples a step."""
        steps = max(2, round(self.options.steps * _STEPS_OF_TABLE[table]))
        count = (self.options.warmup + steps + 1) * example_count
        rows = prepare_rows(
            self.folder / table, self.options.records, self.options.tokenizer, VOCAB_SIZES[shape_name], count
        )
        self.origins[table] = rows.origin
        return Task(
            shape=SHAPES[shape_name],
            records_file=str(rows.records_file),
            tokenizer_source=str(rows.tokenizer_source),
            max_length=MAX_LENGTH,
            warmup_steps=self.options.warmup,
            timed_steps=steps,
            threads=library_settings.core_count(),
        )

    def measure(self, table: str, contender: Contender, task: Task) -> Entry:
        """One process's measurement as an entry of `table`."""
        what = {"table": table, "contender": asdict(contender), "steps": task.timed_steps, "shape": task.shape}
        what["records_sha256"] = file_sha256(Path(task.records_file))
        name = f"{table} {contender.name}, {contender.precision}"
        entry = self._run(name, what, {"task": asdict(task)})
        print(f"{name}: {rate(entry['measurement']):,.0f} tokens/s", flush=True)
        return entry

    def measure_loss(self, **arguments: Any) -> Entry:
        """One process's measurement of the memory of a form of the loss."""
        return self._run(f"loss, {arguments['form']}", {"table": "loss", "loss": arguments}, {})

    def _run(self, name: str, what: dict[str, Any], further: dict[str, Any]) -> Entry:
        """Measure, or take a measurement of the same that an earlier run made under the same conditions."""
        entry = what | {"conditions": self._conditions}
        match = next((earlier for earlier in self._earlier if entry.items() <= earlier.items()), None)
        if match is not None:
            self._earlier.remove(match)
            self.entries.append(match)
            return match
        try:
            entry["measurement"] = run_process(what | further)
        except ContenderFailed as error:
            sys.exit(f"{name}: {error}")
        entry["revision"] = checkout_revision()
        self.entries.append(entry)
        if self._file:
            append_measurement(self._file, entry)
        return entry


def read_measurements(file: Path) -> list[Entry]:
    """The entries of a file of measurements, none without the file; half a line of a killed run is left out."""
    entries: list[Entry] = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries


def append_measurement(file: Path, entry: Entry) -> None:
    """Write an entry as a line of its own, also after half a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    with open(file, "a", encoding="utf-8") as handle:
        handle.write("\n" * (text[-1:] not in ("", "\n")) + json.dumps(entry) + "\n")


def measurement_conditions(warmup_steps: int) -> dict[str, Any]:
    """What a measurement depends on beside its contender and task: source files, libraries, machine and warm-up."""
    environment = environment_entries()
    return {
        "sources_sha256": sources_sha256(),
        "python": environment["python"],
        "libraries": environment["libraries"],
        "machine": f"{library_settings.core_count()} cores of {processor_name()}",
        "warmup_steps": warmup_steps,
    }


def sources_sha256(root: Path = ROOT) -> str:
    """One hash over the names and contents of the source files that a measurement runs, committed or not."""
    paths = sorted(path for pattern in _MEASURED_SOURCES for path in root.glob(pattern))
    files = [[path.relative_to(root).as_posix(), file_sha256(path)] for path in paths]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def tiny_table(bench: Bench) -> list[str]:
    """A tiny LLaMA, one contender of each program: whether everything runs, in a minute. Its speeds mean nothing."""
    contenders = [
        Contender("trainer", "fp32"),
        Contender("padded", "fp32"),
        Contender("packed", "fp32"),
        Contender("orca", "fp32", packing="exact"),
    ]
    _run_in_turns(bench, "tiny", contenders, bench.task("tiny", _BATCH, "tiny"))
    return _section("A tiny model, 16 examples a step: speeds mean nothing", "tiny", bench)


def small_table(bench: Bench) -> list[str]:
    """15M, 16 examples a step: the Trainer at every micro batch, then the rivals and orca-bench in turns."""
    screening_task, task = (bench.task("15m", _BATCH, table) for table in ("15m screening", "15m"))
    for contender in trainer_grid(bench.options.micro_batches):
        bench.measure("15m screening", contender, screening_task)
    rivals = [best_trainer(bench.entries, precision) for precision in ("fp32", "bf16")]
    padded = [Contender("padded", precision, micro_batch=2) for precision in ("fp32", "bf16")]
    ours = [
        Contender("orca", precision, packing=packing, processes=processes, micro_batch=micro_batch)
        for precision in ("fp32", "bf16")
        for packing, processes, micro_batch in (("none", 1, 4), ("none", 2, 4), ("exact", 1, 16), ("exact", 2, 8))
    ]
    _run_in_turns(bench, "15m", [*rivals, *padded, *packed_loops(_BATCH), *ours], task)
    return [
        *_section("15M parameters, 16 examples a step", "15m", bench),
        *_section("The Trainer by micro batch and sampling, 15M parameters, one process each", "15m screening", bench),
    ]


def large_step_table(bench: Bench) -> list[str]:
    """15M, 8,192 tokens a step: what ZeRO-3 costs for each step and module, beside the plain packed loop."""
    batch = 2 * round(8192 / _EXPECTED_TOKENS_OF_EXAMPLE / 2)
    ours = [
        Contender("orca", precision, batch, packing="exact", processes=processes, micro_batch=batch // processes)
        for precision in ("fp32", "bf16")
        for processes in (1, 2)
    ]
    _run_in_turns(bench, "8k", [*packed_loops(batch), *ours], bench.task("15m", batch, "8k"))
    return _section(f"15M parameters, {batch} examples (about 8,192 tokens) a step", "8k", bench)


def real_shape_table(bench: Bench) -> list[str]:
    """SmolLM2's shape, 16 examples a step, each process's share in one pass: ZeRO-3 gathers all weights for every pass."""
    ours = [
        Contender("orca", precision, packing="exact", processes=processes, micro_batch=_BATCH // processes)
        for precision in ("fp32", "bf16")
        for processes in (1, 2)
    ]
    trainers = [
        Contender("trainer", precision, micro_batch=2, sampling="group_by_length") for precision in ("fp32", "bf16")
    ]
    contenders = [*trainers, *packed_loops(_BATCH, row_tokens=1024), *ours]
    _run_in_turns(bench, "135m", contenders, bench.task("135m", _BATCH, "135m"), min(2, bench.options.repeats))
    return _section("135M parameters (SmolLM2's shape), 16 examples a step", "135m", bench)


def loss_table(bench: Bench) -> list[str]:
    """Peak memory of the output head and the loss."""
    for shape_name in ("15m", "135m"):
        for form in ("whole", "parts"):
            bench.measure_loss(
                form=form,
                positions=_LOSS_POSITIONS,
                hidden_size=SHAPES[shape_name]["hidden_size"],
                vocab_size=VOCAB_SIZES[shape_name],
                precision="fp32",
                device="cpu",
            )
    return loss_section(bench.entries)


_TABLES = {
    "15m": small_table,
    "8k": large_step_table,
    "135m": real_shape_table,
    "loss": loss_table,
    "tiny": tiny_table,
}


def trainer_grid(micro_batches: Sequence[int] = _MICRO_BATCHES) -> list[Contender]:
    """The Trainer in both number types at each micro batch; ways of sampling only where they differ.

    A micro batch of one has no padding to save, and `batch_rebalance` orders the micro batches of a step, of which 16 has one.
    """
    samplings = {1: ("random",), 16: ("random", "group_by_length")}
    return [
        Contender("trainer", precision, micro_batch=micro_batch, sampling=sampling)
        for precision in ("fp32", "bf16")
        for micro_batch in micro_batches
        for sampling in samplings.get(micro_batch, ("random", "group_by_length", "batch_rebalance"))
    ]


def packed_loops(batch: int, row_tokens: int = 8192) -> list[Contender]:
    """The plain packed loop in both number types."""
    return [Contender("packed", precision, batch, row_tokens=row_tokens) for precision in ("fp32", "bf16")]


def _section(title: str, table: str, bench: Bench) -> list[str]:
    steps = next(entry["steps"] for entry in bench.entries if entry["table"] == table)
    heading, empty_line, *lines = table_section(title, table, bench.entries)
    return [heading, empty_line, f"{steps} timed steps. Records: {bench.origins[table]}.", "", *lines]


def _run_in_turns(
    bench: Bench, table: str, contenders: list[Contender], task: Task, repeats: int | None = None
) -> None:
    for _ in range(repeats or bench.options.repeats):
        for contender in contenders:
            bench.measure(table, contender, task)


if __name__ == "__main__":
    main()
