"""Time the engine beside lm-eval's own `hf` class, on the same requests in one run, and write the record.

    make bench SIZE=135m                          # one model: results/bench/evaluation-135m.md
    python tests/benchmarks/bench_evaluation.py --size 15m --fraction 0.01
    python tests/benchmarks/bench_evaluation.py --size 135m --texts leaderboard   # results/bench/generation-135m.md

All answer the leaderboard protocol's requests of the same share of each task's documents, of MMLU of all subjects: real rows
where --benchmarks has them, the mini suite otherwise. Models of 15M and 110M parameters are LLaMAs of random weights with 32,000
words; 135m is SmolLM2-135M-Instruct (`make real-model`). The best batch size of `hf` is found for each task on a tenth of the
requests. Then `hf` in float32 and the engine in float32 and bfloat16 take turns, part by part, each in a process of its own. On
two cores one size takes at most 75 minutes.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "support"))

import bench_contender
from bench_records import conditions, score_section, text_section, write_record

#: LLaMA configurations by size.
SHAPES = {
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
    "110m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}
#: The share of each task's documents by size, so that a run takes about three quarters of an hour.
FRACTIONS = {"15m": 1 / 20, "110m": 1 / 50, "135m": 1 / 50}
_PARTS = 6  # turns that each contender has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=ROOT.parent / "shared" / "data" / "benchmarks")
    parser.add_argument(
        "--tokenizer", type=Path, default=ROOT.parent / "shared" / "data" / "tokenizer" / "tokenizer.model"
    )
    parser.add_argument("--size", default="15m", choices=[*SHAPES, "135m"])
    parser.add_argument("--model", type=Path, help="time this model folder; --size only names it")
    parser.add_argument("--batches", default="1,4,8,16", help="batch sizes of `hf` to choose from")
    parser.add_argument("--fraction", type=float, help="the share of each task's documents")
    parser.add_argument("--texts", choices=["leaderboard", "orca"], help="time the texts of a protocol")
    parser.add_argument("--out", type=Path, help="default: evaluation-SIZE.md or generation-SIZE.md in results/bench/")
    options = parser.parse_args()
    rows = "real rows"
    if not options.benchmarks.is_dir():
        from orca_bench.mini import materialize

        files = materialize(Path(tempfile.mkdtemp()))
        options.benchmarks, options.tokenizer = files["mini:benchmarks"], files["mini:tokenizer"]
        rows = "the mini suite"
    name = f"{'generation' if options.texts else 'evaluation'}-{options.size}.md"
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make_model_of_size(Path(folder) / options.size, options.size, options.tokenizer)
        lines = run(options, model, rows)
    write_record(options.out or ROOT / "results" / "bench" / name, lines)


def run(options: argparse.Namespace, model: Path, rows: str) -> list[str]:
    """The record of one model as Markdown."""
    if options.texts:
        documents = bench_contender.prompts_of(options.benchmarks, options.fraction or 1.0, options.texts)
    else:
        documents = bench_contender.documents_of(options.benchmarks, options.fraction or FRACTIONS[options.size])
    start = time.perf_counter()
    contenders = {
        name: _Contender(name, model, options.texts or "leaderboard", dtype)
        for name, dtype in (("hf", "float32"), ("ours", "float32"), ("ours bfloat16", "bfloat16"))
    }
    batches = best_batches(contenders["hf"], documents, [int(batch) for batch in options.batches.split(",")])
    for part in range(_PARTS):
        for task, of_task in documents.items():
            names = list(contenders) if part % 2 == 0 else list(reversed(contenders))
            for name in names:
                contenders[name].answer(task, batches[task], _part(of_task, part))
        print(f"part {part + 1} of {_PARTS}: {(time.perf_counter() - start) / 60:.1f} minutes", flush=True)
    for contender in contenders.values():
        contender.end()
    records = {name: contender.records for name, contender in contenders.items()}
    section = text_section if options.texts else score_section
    return [
        f"# {'Texts' if options.texts else 'Log-likelihoods'}: the engine beside lm-eval's `hf` class, {options.size}",
        "",
        f"{conditions(dtype='float32 and bfloat16')}; {rows}, requests of the {options.texts or 'leaderboard'} protocol. "
        f"`hf` in float32 at the best of batch sizes {options.batches} for each task, found on a tenth of the requests; then all "
        f"took turns in {_PARTS} parts. The whole run took {(time.perf_counter() - start) / 60:.0f} minutes.",
        "",
        *section(records, batches),
    ]


def best_batches(hf: "_Contender", documents: dict[str, Any], batches: list[int]) -> dict[str, int]:
    """By task the batch size with which `hf` answers a tenth of the requests fastest."""
    best = {}
    for task, of_task in documents.items():
        tenth = of_task[:: 10 if len(of_task) >= 10 * max(batches) else max(1, len(of_task) // max(batches))]
        seconds_by_batch = {batch: hf.ask(task, batch, tenth)["seconds"] for batch in batches}
        best[task] = min(batches, key=seconds_by_batch.__getitem__)
        text = ", ".join(f"batch {batch} {seconds:.1f} s" for batch, seconds in seconds_by_batch.items())
        print(f"{task}: {text}", flush=True)
    return best


def _part(documents: bench_contender.Documents, part: int) -> bench_contender.Documents:
    """A part in one piece, so that questions of one subject of MMLU stay together, as in a whole evaluation."""
    return documents[len(documents) * part // _PARTS : len(documents) * (part + 1) // _PARTS]


class _Contender:
    """A process that answers when it is its turn; `records` has the sums over its turns by task."""

    def __init__(self, name: str, model: Path, protocol: str, dtype: str):
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(
            target=bench_contender.serve, args=(other_end, name.split()[0], model, protocol, dtype), daemon=True
        )
        self._process.start()
        other_end.close()
        self._connection.recv()  # it is ready
        self.records: dict[str, dict[str, Any]] = {}

    def ask(self, task: str, batch: int, documents: bench_contender.Documents) -> dict[str, Any]:
        self._connection.send((task, batch, documents))
        record: dict[str, Any] = self._connection.recv()
        return record

    def answer(self, task: str, batch: int, documents: bench_contender.Documents) -> None:
        if not documents:
            return
        record = self.ask(task, batch, documents)
        # What the measured rate would have computed in this time.
        record["possible_flop"] = record.pop("rate") * record["seconds"]
        total = self.records.setdefault(task, {})
        memory = max(total.get("memory", 0.0), record.pop("memory"))
        for key, value in record.items():
            total[key] = total[key] + value if key in total else value
        total["memory"] = memory

    def end(self) -> None:
        self._connection.send(None)
        self._process.join()


def make_model_of_size(folder: Path, size: str, tokenizer_file: Path) -> Path:
    """A model folder of a size: of random weights, or SmolLM2 imported from the cache."""
    if size != "135m":
        make_model(folder, size, tokenizer_file)
        return folder
    from real_model import REAL_MODEL, cached_path

    from orca_bench.models.gguf import gguf_import

    if not cached_path(REAL_MODEL).is_file():
        sys.exit("the model of 135M parameters is not in the cache: make real-model, or --model FOLDER")
    gguf_import.import_gguf(gguf_import.read_gguf(cached_path(REAL_MODEL)), folder)
    return folder


def make_model(folder: Path, size: str, tokenizer_file: Path) -> None:
    """A LLaMA of random weights with 32,000 words, its embeddings tied, as a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from orca_bench import tokenizers
    from orca_bench.train import student_model

    tokenizer = tokenizers.load_tokenizer(tokenizer_file)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        **SHAPES[size],
    )
    model = LlamaForCausalLM(config)
    student_model.save_model(model, tokenizer, folder, {})


if __name__ == "__main__":
    main()
