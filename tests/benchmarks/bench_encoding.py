"""The peak memory of turning records into tokens: records held in a list, streamed to the cache, and read from the cache.

    python tests/benchmarks/bench_encoding.py --records 500000

Prints one line a way: seconds and peak memory of a process of its own, with what Python, NumPy and the tokenizer take. The
records are generated: texts of random length of the words of the generated corpus. By default nothing is stored.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_SEED = 0
_MEDIAN_WORDS, _SPREAD = 60, 0.9  # of a response: log-normal, as those of Alpaca and Dolly about are
_MAX_LENGTH = 1024

#: What each process runs: arguments are the way, the records and the tokenizer.
_PROGRAM = f"""
import json, resource, sys, time
from pathlib import Path
from orca_bench.tokenizers import load_tokenizer
from orca_bench.train import example_encoding, record_files, token_cache, token_files

way, records_file, tokenizer_file = sys.argv[1:]
tokenizer = load_tokenizer(tokenizer_file)
tokenizer.encode_batch(["one text"])
start_s, token_count, encoded_count = time.perf_counter(), 0, 0
if way == "in a list":
    records, _ = record_files.read_records([records_file])
    examples, report = example_encoding.encode_records(records, tokenizer, {_MAX_LENGTH})
    token_count, encoded_count = len(examples.ids), report.record_count
elif way != "nothing":
    records = record_files.RecordReader([records_file])
    key = example_encoding.encoding_key(example_encoding.records_digest(records).sha256, tokenizer, {_MAX_LENGTH})
    def count(number):
        global encoded_count
        encoded_count = number
    def write_files(folder):
        chunks = example_encoding.encode_in_chunks(records, tokenizer, {_MAX_LENGTH})
        token_files.write_token_files(folder, chunks, lambda report: key, count)
    stored = token_cache.stored_examples(key, write_files, print)
    token_count = len(stored.examples.ids)
print(json.dumps({{
    "seconds": time.perf_counter() - start_s, "tokens": token_count, "encoded": encoded_count,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""


def main() -> None:
    """Generate the records and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=500_000, help="how many records are generated")
    record_count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        records_file, tokenizer_file = Path(folder) / "records.jsonl", _write_tokenizer(Path(folder))
        _write_records(records_file, record_count)
        print(f"{record_count:,} records, {records_file.stat().st_size / 2**20:,.0f} MiB of JSON Lines")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "ORCA_BENCH_CACHE": folder}
        for way in ("nothing", "in a list", "streamed", "from the cache"):
            process = subprocess.run(
                [sys.executable, "-c", _PROGRAM, way, str(records_file), str(tokenizer_file)],
                env=environment,
                capture_output=True,
                text=True,
            )
            if process.returncode:
                sys.exit(process.stderr)
            outcome = json.loads(process.stdout)
            print(
                f"{way:15} {outcome['seconds']:7.1f} s, peak {outcome['peak_mib']:7,.0f} MiB; "
                f"{outcome['tokens']:,} tokens, {outcome['encoded']:,} records encoded",
                flush=True,
            )


def _write_tokenizer(folder: Path) -> Path:
    """The tokenizer of the embedded default, written by another process: a child's peak counts that of its parent."""
    program = (
        "import sys; from pathlib import Path; from orca_bench.mini import materialize; "
        "print(materialize(Path(sys.argv[1]))['mini:tokenizer'])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", program, str(folder)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(process.stdout.strip())


def _write_records(path: Path, record_count: int) -> None:
    """Records of random words; no two are equal."""
    random_numbers = random.Random(_SEED)
    words = (
        "the",
        "a",
        "bird",
        "cat",
        "table",
        "river",
        "has",
        "two",
        "three",
        "legs",
        "cups",
        "green",
        "because",
        "open",
    )
    with open(path, "w", encoding="utf-8") as handle:
        for number in range(record_count):
            word_count = int(_MEDIAN_WORDS * math.exp(random_numbers.gauss(0, _SPREAD))) + 1
            record = {
                "system": "You are a helpful assistant.",
                "instruction": f"Question {number}: " + " ".join(random_numbers.choices(words, k=12)),
                "input": "",
                "response": " ".join(random_numbers.choices(words, k=word_count)),
            }
            handle.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
