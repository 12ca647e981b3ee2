"""Time the engine beside lm-eval's own `hf` class, on the same requests in one run, and write the record.

    make bench                                    # results/bench/evaluation.md
    python tests/benchmarks/bench_evaluation.py --benchmarks DIR --sizes 15m --batches 1,8 --scale 0.2
    python tests/benchmarks/bench_evaluation.py --trained runs/mine/model     # results/bench/generation.md
    python tests/benchmarks/bench_evaluation.py --flips runs/mine/model       # results/bench/bfloat16.md: predictions, no times

Both answer the leaderboard protocol's requests of some documents of each task: real rows where --benchmarks has them, the mini
suite otherwise. For log-likelihoods the models are LLaMAs of random weights with 32,000 words; texts, with --trained, are those
of a model folder, since how long they get is what matters. Each contender runs in a process of its own, so that its peak memory
is its own. The best batch size of `hf` is taken for each task.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bench_contender
from bench_records import Records, conditions, score_section, text_section, turned_section, write_record

#: LLaMA configurations by size.
SHAPES = {
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
    "110m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=ROOT.parent / "shared" / "data" / "benchmarks")
    parser.add_argument(
        "--tokenizer", type=Path, default=ROOT.parent / "shared" / "data" / "tokenizer" / "tokenizer.model"
    )
    parser.add_argument("--sizes", default="15m,110m")
    parser.add_argument("--batches", default="1,4,8,16")
    parser.add_argument("--scale", type=float, default=1.0, help="of the documents")
    parser.add_argument("--trained", type=Path, help="time the texts of this model instead of log-likelihoods")
    parser.add_argument("--out", type=Path, help="default: evaluation.md or generation.md in results/bench/")
    parser.add_argument("--flips", type=Path, help="count the predictions of this model that turn in bfloat16")
    for hidden in ("--one", "--texts", "--dtype"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(
            json.dumps(
                bench_contender.answer_all(
                    options.one, options.model, options.benchmarks, options.scale, options.texts, options.dtype
                )
            )
        )
        return
    rows = "real rows"
    if not options.benchmarks.is_dir():
        from orca_bench.mini import materialize

        files = materialize(Path(tempfile.mkdtemp()))
        options.benchmarks, options.tokenizer = files["mini:benchmarks"], files["mini:tokenizer"]
        rows = "the mini suite"
    batches = [int(batch) for batch in options.batches.split(",")]
    if options.flips:
        lines, name = flips(options, rows), "bfloat16.md"
    elif options.trained:
        lines, name = texts(options, batches, rows), "generation.md"
    else:
        lines, name = log_likelihoods(options, batches, rows), "evaluation.md"
    out = options.out or ROOT / "results" / "bench" / name
    write_record(out, lines)


def log_likelihoods(options: argparse.Namespace, batches: list[int], rows: str) -> list[str]:
    """The record of log-likelihoods as Markdown."""
    lines = [
        "# Log-likelihoods: the engine beside lm-eval's `hf` class",
        "",
        f"{conditions()}; {rows}, requests of the leaderboard protocol. `hf` at the best of batch sizes "
        f"{', '.join(map(str, batches))} for each task. Tokens: *sent* in all requests, *computed by `hf`* with its grouping of "
        "one-token answers and its padding, *distinct* the least that any engine must compute.",
        "",
    ]
    for size in options.sizes.split(","):
        scale = options.scale * (1 if size == "15m" else 0.25)
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / size
            make_model(model, size, options.tokenizer)
            lines += score_section(size, compare(model, batches, options, scale))
    return lines


def texts(options: argparse.Namespace, batches: list[int], rows: str) -> list[str]:
    """The record of texts as Markdown."""
    lines = [
        "# Texts: the engine beside lm-eval's `hf` class",
        "",
        f"{conditions()}; {rows}; the model of a run, at most 256 tokens a text. `hf` at the best of batch sizes "
        f"{', '.join(map(str, batches))} for each task; it encodes the Orca prompt by its own rules; of a cut "
        "context's answer the whole is compared.",
        "",
    ]
    for protocol in ("leaderboard", "orca"):
        records = compare(options.trained, batches, options, options.scale, protocol)
        lines += text_section(protocol, records)
    return lines


def flips(options: argparse.Namespace, rows: str) -> list[str]:
    """How many predictions turn in bfloat16: `hf` between batch sizes, and both against the engine in float32."""
    records = compare(options.flips, [1, 8], options, options.scale, dtype="bfloat16")
    records["float32"] = compare(options.flips, [], options, options.scale)["ours"]
    lines = [
        "# bfloat16: predictions that turn",
        "",
        f"{conditions(dtype='bfloat16')}; {rows}, requests of the leaderboard protocol, the model of a run. A prediction is "
        "the choice with the highest log-probability; Δ is of log-probabilities, in nats. `float32` is the engine in that dtype. "
        "lm-eval 0.4.13 takes the log-softmax, and the sum over a continuation's tokens, in the model's own dtype "
        "(a sum of −200 has steps of 1 there); here both are taken in 32 bits and more.",
        "",
    ]
    return lines + turned_section(records)


def compare(
    model: Path,
    batches: list[int],
    options: argparse.Namespace,
    scale: float,
    texts: str | None = None,
    dtype: str = "float32",
) -> Records:
    """All contenders on one model; the first is ours."""
    records = {}
    for contender in ["ours", *(f"hf{batch}" for batch in batches)]:
        command = [sys.executable, __file__, "--one", contender, "--model", str(model), "--scale", str(scale)]
        command += ["--benchmarks", str(options.benchmarks), *(["--texts", texts] if texts else [])]
        command += ["--dtype", dtype]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        records[contender] = json.loads(done.stdout.splitlines()[-1])
        seconds = sum(task["seconds"] for task in records[contender]["tasks"].values())
        print(f"{model} {texts or 'log-likelihoods'} {contender}: {seconds:.1f} s", flush=True)
    return records


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
