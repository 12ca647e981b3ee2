"""Time the engine beside lm-eval's own `hf` class, on the same requests in one run, and write the record.

    make bench                                    # results/bench/evaluation.md
    python tests/bench_evaluation.py --benchmarks DIR --sizes 15m --batches 1,8 --scale 0.2

Both answer the leaderboard protocol's log-likelihood requests of some documents of each task: real rows where --benchmarks has
them, the mini suite otherwise. The models are LLaMAs of random weights with 32,000 words. Each contender runs in a process of
its own, so that its peak memory is its own; the smallest and the median of the ratios are what a reader should believe.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHAPES = {
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
    "110m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}
#: Documents of each task (MMLU: of each of the first `SUBJECTS`), for the 15M model; the 110M gets a quarter.
DOCUMENTS = {"arc_challenge": 30, "hellaswag": 30, "mmlu": 24, "truthful_qa": 30, "winogrande": 100}
SUBJECTS = 4


def requests_of(benchmarks: Path, scale: float) -> dict[str, list[tuple[str, str]]]:
    """(context, continuation) of each request, by task."""
    from orca_bench.evaluate import protocols, rows
    from orca_bench.evaluate.tasks import select

    found = {}
    for task in select(",".join(DOCUMENTS)):
        limit = max(2, round(DOCUMENTS[task.name] * scale))
        documents = protocols.Leaderboard().documents(task, rows.load(task, benchmarks), limit)
        if task.name == "mmlu":
            subjects = sorted({document.task for document in documents})[:SUBJECTS]
            documents = [document for document in documents if document.task in subjects]
        found[task.name] = [(r.context, r.continuation) for d in documents for r in d.requests]
    return found


def make_model(folder: Path, size: str, tokenizer_file: Path) -> None:
    """A LLaMA of random weights with 32,000 words, its embeddings tied, as a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from orca_bench import tokenizer as tokenizers
    from orca_bench.train import student

    tokenizer = tokenizers.load(tokenizer_file)
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
    student.save(model, model.state_dict(), tokenizer, folder)


def one(contender: str, model: Path, benchmarks: Path, scale: float) -> dict:
    """Let one contender answer everything; seconds, tokens fed and answers by task, and the peak memory in GiB."""
    asked = requests_of(benchmarks, scale)
    fed = [0]
    if contender == "ours":
        from orca_bench.evaluate import encoding, tree
        from orca_bench.evaluate import engine as engines
        from orca_bench.evaluate.model import OrcaLM

        engine, tokenizer = engines.load(str(model))
        lm = OrcaLM(engine, encoding.LeaderboardEncoding(tokenizer, 2048))
        body = engine.model
    else:
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(
            pretrained=str(model),
            device="cpu",
            dtype="float32",
            batch_size=int(contender.removeprefix("hf")),
            add_bos_token=False,
        )
        body = lm.model
    body.model.register_forward_pre_hook(
        lambda _, args, kw: fed.__setitem__(0, fed[0] + _tokens(args, kw)), with_kwargs=True
    )
    from lm_eval.api.instance import Instance

    told: dict = {"tasks": {}}
    for task, pairs in asked.items():
        instances = [Instance("loglikelihood", {}, pair, 0, metadata=(task, i, 1)) for i, pair in enumerate(pairs)]
        fed[0] = 0
        began = time.perf_counter()
        answers = lm.loglikelihood(instances, disable_tqdm=True)
        told["tasks"][task] = {
            "seconds": time.perf_counter() - began,
            "fed": fed[0],
            "answers": [[float(logprob), bool(greedy)] for logprob, greedy in answers],
        }
        if contender == "ours":
            sequences = [lm.encoding.pair(*pair) for pair in pairs]
            told["tasks"][task]["distinct"] = tree.distinct(sequences)
            told["tasks"][task]["sent"] = sum(len(sequence.ids) - 1 for sequence in sequences)
    told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return told


def _tokens(args, kwargs) -> int:
    ids = kwargs.get("input_ids", args[0] if args else None)
    return 0 if ids is None else ids.numel()


def compare(size: str, batches: list[int], benchmarks: Path, tokenizer_file: Path, scale: float) -> dict:
    """All contenders on one model; the first is ours."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model", size, tokenizer_file)
        for contender in ["ours", *(f"hf{batch}" for batch in batches)]:
            order = [sys.executable, __file__, "--one", contender, "--model", f"{folder}/model"]
            done = subprocess.run(
                [*order, "--benchmarks", str(benchmarks), "--scale", str(scale)], capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr)
            found[contender] = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{size} {contender}: {sum(t['seconds'] for t in found[contender]['tasks'].values()):.1f} s", flush=True
            )
    return found


def section(size: str, found: dict) -> list[str]:
    """The record of one model as Markdown."""
    ours, others = found["ours"], {name: told for name, told in found.items() if name != "ours"}
    best = {task: min(others, key=lambda name: others[name]["tasks"][task]["seconds"]) for task in ours["tasks"]}
    lines = [
        f"### {size} parameters",
        "",
        "| task | requests | sent | computed by `hf` | distinct | computed here | `hf`, best batch | here | ratio "
        "| largest Δ log-probability | flags that differ |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total = [0.0, 0.0]
    for task, mine in ours["tasks"].items():
        theirs = others[best[task]]["tasks"][task]
        gaps = [abs(a[0] - b[0]) for a, b in zip(mine["answers"], theirs["answers"], strict=True)]
        flags = sum(a[1] != b[1] for a, b in zip(mine["answers"], theirs["answers"], strict=True))
        total[0], total[1] = total[0] + theirs["seconds"], total[1] + mine["seconds"]
        lines.append(
            f"| {task} | {len(gaps):,} | {mine['sent']:,} | {theirs['fed']:,} | {mine['distinct']:,} | {mine['fed']:,} "
            f"| {theirs['seconds']:.1f} s ({best[task].removeprefix('hf')}) | {mine['seconds']:.1f} s "
            f"| **{theirs['seconds'] / mine['seconds']:.1f}** | {max(gaps):.1e} | {flags} |"
        )
    lines += [
        f"| all | | | | | | {total[0]:.1f} s | {total[1]:.1f} s | **{total[0] / total[1]:.1f}** | | |",
        "",
        "Whole runs, seconds and peak memory: "
        + "; ".join(
            f"{'here' if name == 'ours' else name.replace('hf', '`hf` batch ')} "
            f"{sum(t['seconds'] for t in told['tasks'].values()):.1f} s, {told['memory']:.2f} GiB"
            for name, told in found.items()
        )
        + ".",
        "",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, default=ROOT.parent / "shared" / "data" / "benchmarks")
    parser.add_argument(
        "--tokenizer", type=Path, default=ROOT.parent / "shared" / "data" / "tokenizer" / "tokenizer.model"
    )
    parser.add_argument("--sizes", default="15m,110m")
    parser.add_argument("--batches", default="1,4,8,16")
    parser.add_argument("--scale", type=float, default=1.0, help="of the documents")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "evaluation.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.model, options.benchmarks, options.scale)))
        return
    rows = "real rows"
    if not options.benchmarks.is_dir():
        from orca_bench.mini import materialize

        made = materialize(Path(tempfile.mkdtemp()))
        options.benchmarks, options.tokenizer, rows = made["mini:benchmarks"], made["mini:tokenizer"], "the mini suite"
    import torch
    import transformers

    batches = [int(batch) for batch in options.batches.split(",")]
    lines = [
        "# Log-likelihoods: the engine beside lm-eval's `hf` class",
        "",
        f"`{' '.join(['python', 'tests/bench_evaluation.py', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}; {rows}, "
        f"requests of the leaderboard protocol; {torch.get_num_threads()} threads of {_processor()}, float32; torch "
        f"{torch.__version__}, transformers {transformers.__version__}. `hf` at the best of batch sizes "
        f"{', '.join(map(str, batches))} for each task. Tokens: *sent* in all requests, *computed by `hf`* with its grouping of "
        "one-token answers and its padding, *distinct* the least that any engine must compute.",
        "",
    ]
    for size in options.sizes.split(","):
        scale = options.scale * (1 if size == "15m" else 0.25)
        lines += section(size, compare(size, batches, options.benchmarks, options.tokenizer, scale))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines), encoding="utf-8")
    print(f"record: {options.out}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
