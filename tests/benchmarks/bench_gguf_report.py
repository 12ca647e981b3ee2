"""Time the report of an export beside transformers fed one record at a time, and write the record: results/bench/gguf_report.md.

    make bench
    python tests/benchmarks/bench_gguf_report.py --instructions DIR --tokenizer FILE --tokens 3000

The model has the shape of the 15M student and random weights, which cost what trained ones cost; the records are those of Alpaca
and Dolly. Without the real rows and tokenizer there is nothing to measure, and the program says so. Each contender runs in a
process of its own, which is timed from its start to its end.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from bench_evaluation import make_model
from bench_gguf import Measurement, run_timed
from bench_records import conditions, load_sentence, write_record

_SHARED = ROOT.parent / "shared" / "data"
_GOAL_SECONDS = 90
_TYPE = "q8_0"
#: What one would write with transformers alone: both models score each record by itself.
_TRANSFORMERS_PROGRAM = """
import json, sys, torch
from transformers import AutoModelForCausalLM
folder, gguf_folder, gguf_name, ids_file, out_file = sys.argv[1:]
base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
model = AutoModelForCausalLM.from_pretrained(gguf_folder, gguf_file=gguf_name, dtype=torch.float32).eval()
total, count = 0.0, 0
for token_ids, start in json.load(open(ids_file)):
    with torch.no_grad():
        p, q = (m(torch.tensor([token_ids[:-1]])).logits[0, start - 1 :].double().log_softmax(-1) for m in (base, model))
    total, count = total + float((p.exp() * (p - q)).sum()), count + len(p)
json.dump({"kl": total / count, "tokens": count}, open(out_file, "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", type=Path, default=_SHARED / "instructions")
    parser.add_argument("--tokenizer", type=Path, default=_SHARED / "tokenizer" / "tokenizer.model")
    parser.add_argument("--tokens", type=int, default=30_000, help="response tokens that are scored")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "gguf_report.md")
    options = parser.parse_args()
    if not options.instructions.is_dir() or not options.tokenizer.is_file():
        print(f"no report of an export is timed: {options.instructions} or {options.tokenizer} is not here")
        return
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        lines = _compare(Path(folder), options)
    heading = [
        "# The report of an export",
        "",
        f"{conditions()}. {load_sentence(load_before)}",
        "",
    ]
    write_record(options.out, [*heading, *lines])


def _compare(folder: Path, options: argparse.Namespace) -> list[str]:
    """The record as Markdown; all files are written to `folder`."""
    make_model(folder / "base", "15m", options.tokenizer)
    sources = [str(path) for name in ("alpaca", "dolly") for path in (options.instructions / name).glob("train*")]
    records, gguf_path = folder / "records.jsonl", folder / "base.gguf"
    run_timed("data convert", ["-m", "orca_bench", "data", "convert", *sources, "--out", str(records)])
    export = run_timed(
        "export", ["-m", "orca_bench", "export", str(folder / "base"), "--gguf", _TYPE, "--out", str(gguf_path)]
    )
    words = [str(gguf_path), str(folder / "base"), "--records", str(records), "--tokens", str(options.tokens)]
    ours = run_timed("divergence", ["-m", "orca_bench", "divergence", *words, "--out", str(folder / "report.json")])
    _write_token_ids(records, folder / "base", options.tokens, folder / "ids.json")
    words = [str(folder / "base"), str(folder), gguf_path.name, str(folder / "ids.json"), str(folder / "theirs.json")]
    theirs = run_timed("transformers", ["-c", _TRANSFORMERS_PROGRAM, *words])
    report = json.loads((folder / "report.json").read_text())
    their_report = json.loads((folder / "theirs.json").read_text())
    our_kl = report["models"][0]["kl"]["value"]
    if report["tokens"] != their_report["tokens"] or abs(our_kl - their_report["kl"]) > 1e-3 * their_report["kl"]:
        sys.exit(f"the divergences differ: {our_kl} and {their_report['kl']}")
    whole = export.seconds + ours.seconds
    return [
        f"A model of the 15M student's shape with 32,000 words, random weights, type {_TYPE}: {report['tokens']:,} response "
        f"tokens of {report['scored_records']:,} records of Alpaca and Dolly, two models. Both find a mean divergence of "
        f"{our_kl:.3e} nats a token.",
        "",
        "| | seconds | of the processors | peak memory |",
        "|---|--:|--:|--:|",
        _row("transformers, one record at a time", theirs),
        _row("`orca-bench divergence`", ours),
        f"| ratio | **{theirs.seconds / ours.seconds:.1f}** | {theirs.cpu_seconds / ours.cpu_seconds:.1f} "
        f"| {theirs.memory_gib / ours.memory_gib:.1f} |",
        "",
        f"`orca-bench export --report` does the export, {export.seconds:.1f} s, and then the same as `divergence`: {whole:.1f} s "
        f"together (goal: under {_GOAL_SECONDS} s).",
        "",
    ]


def _row(name: str, measurement: Measurement) -> str:
    return f"| {name} | {measurement.seconds:.1f} | {measurement.cpu_seconds:.1f} | {measurement.memory_gib:.2f} GiB |"


def _write_token_ids(records: Path, model: Path, token_count: int, ids_file: Path) -> None:
    """The token ids and the first scored position of the records that `divergence` scores."""
    from orca_bench.models.model_folder import ModelFolder
    from orca_bench.train.record_files import read_records
    from orca_bench.train.record_sample import sample_responses

    folder = ModelFolder(str(model))
    examples, _ = sample_responses(read_records([str(records)])[0], folder.tokenizer, folder.window_tokens, token_count)
    pairs = [(examples.example(index).tolist(), int(examples.prompt_lengths[index])) for index in range(len(examples))]
    ids_file.write_text(json.dumps(pairs), encoding="utf-8")


if __name__ == "__main__":
    main()
