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
import dataclasses
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SHAPES = {
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
    "110m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
}
#: Documents of each task (MMLU: of each of the first `SUBJECTS`), for the 15M model; the 110M gets a quarter.
DOCUMENTS = {"arc_challenge": 30, "hellaswag": 30, "mmlu": 24, "truthful_qa": 30, "winogrande": 100}
SUBJECTS = 4
#: Documents of each task that generates.
GENERATED = {"gsm8k": 32, "drop": 32}


def requests_of(benchmarks: Path, scale: float) -> dict[str, list[tuple[str, str, int]]]:
    """(context, continuation, number of its document) of each request, by task."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select

    found = {}
    for task in select(",".join(DOCUMENTS)):
        limit = max(2, round(DOCUMENTS[task.name] * scale))
        documents = protocols.Leaderboard().documents(task, benchmark_rows.load(task, benchmarks), limit)
        if task.name == "mmlu":
            subjects = sorted({document.task for document in documents})[:SUBJECTS]
            documents = [document for document in documents if document.task in subjects]
        found[task.name] = [(r.context, r.continuation, n) for n, d in enumerate(documents) for r in d.requests]
    return found


def prompts_of(benchmarks: Path, scale: float, protocol: str) -> dict[str, list]:
    """The requests of the tasks that generate, one a document, by task."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select
    from orca_bench.system_messages import system_message

    made = protocols.named(protocol, system_message("5"))
    return {
        task.name: [
            document.requests[0]
            for document in made.documents(
                task, benchmark_rows.load(task, benchmarks), max(2, round(GENERATED[task.name] * scale))
            )
        ]
        for task in select(",".join(GENERATED))
    }


def make_model(folder: Path, size: str, tokenizer_file: Path) -> None:
    """A LLaMA of random weights with 32,000 words, its embeddings tied, as a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from orca_bench import tokenizers
    from orca_bench.train import student_model

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
    student_model.save(model, model.state_dict(), tokenizer, folder, {})


def asker(contender: str, model: Path, protocol: str, dtype: str):
    """(lm-eval's interface over a contender, its transformers model, its encoding where it is ours)."""
    if contender == "ours":
        from orca_bench.evaluate import request_encoding
        from orca_bench.evaluate.engine import tree_engine
        from orca_bench.evaluate.harness.language_model import HarnessModel

        engine, tokenizer = tree_engine.load(str(model), dtype)
        rule = request_encoding.of(protocol, tokenizer, 2048)
        return HarnessModel(engine, rule), engine.model, rule
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=str(model),
        device="cpu",
        dtype=dtype,
        batch_size=int(contender.removeprefix("hf")),
        add_bos_token=protocol == "orca",
    )
    return lm, lm.model, None


def one(contender: str, model: Path, benchmarks: Path, scale: float, texts: str | None, dtype: str) -> dict:
    """Let one contender answer everything; seconds, tokens fed and answers by task, and the peak memory in GiB.

    `texts` is the protocol whose texts are asked for, or None for the leaderboard protocol's log-likelihoods.
    """
    lm, body, rule = asker(contender, model, texts or "leaderboard", dtype)
    fed = [0]
    body.model.register_forward_pre_hook(
        lambda _, args, kw: fed.__setitem__(0, fed[0] + _tokens(args, kw)), with_kwargs=True
    )
    told: dict = {"tasks": {}}
    asked = prompts_of(benchmarks, scale, texts) if texts else requests_of(benchmarks, scale)
    for task, requests in asked.items():
        fed[0] = 0
        told["tasks"][task] = (_generated if texts else _scored)(lm, rule, task, requests)
        told["tasks"][task]["fed"] = fed[0]
    told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return told


def _scored(lm, rule, task: str, pairs: list) -> dict:
    from lm_eval.api.instance import Instance

    from orca_bench.evaluate.engine import prefix_tree

    instances = [Instance("loglikelihood", {}, pair[:2], 0, metadata=(task, i, 1)) for i, pair in enumerate(pairs)]
    began = time.perf_counter()
    answers = lm.loglikelihood(instances, disable_tqdm=True)
    told = {
        "seconds": time.perf_counter() - began,
        "answers": [[float(lp), bool(greedy)] for lp, greedy in answers],
        "documents": [document for *_, document in pairs],
    }
    if rule is not None:
        sequences = [rule.pair(*pair[:2]) for pair in pairs]
        told |= {"distinct": prefix_tree.distinct(sequences), "sent": sum(len(s.ids) - 1 for s in sequences)}
    return told


def _generated(lm, rule, task: str, requests: list) -> dict:
    from orca_bench.evaluate.harness.lm_eval_instances import RequestInstance, generation_options

    limited = [dataclasses.replace(request, max_new_tokens=256) for request in requests]
    instances = [
        RequestInstance(
            "generate_until", {}, (r.context, generation_options(r)), 0, metadata=(task, number, 1), request=r
        )
        for number, r in enumerate(limited)
    ]
    began = time.perf_counter()
    answers = lm.generate_until(instances, disable_tqdm=True)
    told = {"seconds": time.perf_counter() - began, "answers": answers}
    if rule is not None:
        # `hf` throws nothing away of a cut context's answer, so the whole of ours is held against it.
        wholes = [response.answer.full_text or response for response in answers]
        told["answers"] = wholes
        told["said"] = [len(rule.tokenizer.encode(whole)) for whole in wholes]
    return told


def _tokens(args, kwargs) -> int:
    ids = kwargs.get("input_ids", args[0] if args else None)
    return 0 if ids is None else ids.numel()


def compare(
    model: Path, batches: list[int], options, scale: float, texts: str | None = None, dtype: str = "float32"
) -> dict:
    """All contenders on one model; the first is ours."""
    found = {}
    for contender in ["ours", *(f"hf{batch}" for batch in batches)]:
        order = [sys.executable, __file__, "--one", contender, "--model", str(model), "--scale", str(scale)]
        order += ["--benchmarks", str(options.benchmarks), *(["--texts", texts] if texts else [])]
        order += ["--dtype", dtype]
        done = subprocess.run(order, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found[contender] = json.loads(done.stdout.splitlines()[-1])
        seconds = sum(task["seconds"] for task in found[contender]["tasks"].values())
        print(f"{model} {texts or 'log-likelihoods'} {contender}: {seconds:.1f} s", flush=True)
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
        _whole(found),
        "",
    ]
    return lines


def _whole(found: dict) -> str:
    return (
        "Whole runs, seconds and peak memory: "
        + "; ".join(
            f"{'here' if name == 'ours' else name.replace('hf', '`hf` batch ')} "
            f"{sum(t['seconds'] for t in told['tasks'].values()):.1f} s, {told['memory']:.2f} GiB"
            for name, told in found.items()
        )
        + "."
    )


def text_section(protocol: str, found: dict) -> list[str]:
    """The record of one protocol's texts as Markdown."""
    ours, others = found["ours"], {name: told for name, told in found.items() if name != "ours"}
    lines = [
        f"### Protocol {protocol}",
        "",
        "| task | prompts | tokens of the texts: least, median, most | `hf`, best batch | here | ratio | texts that differ |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    total = [0.0, 0.0]
    for task, mine in ours["tasks"].items():
        best = min(others, key=lambda name: others[name]["tasks"][task]["seconds"])
        theirs, said = others[best]["tasks"][task], sorted(mine["said"])
        differ = sum(a.strip() != b.strip() for a, b in zip(mine["answers"], theirs["answers"], strict=True))
        total = [total[0] + theirs["seconds"], total[1] + mine["seconds"]]
        lines.append(
            f"| {task} | {len(said)} | {said[0]}, {said[len(said) // 2]}, {said[-1]} "
            f"| {theirs['seconds']:.1f} s ({best.removeprefix('hf')}) | {mine['seconds']:.1f} s "
            f"| **{theirs['seconds'] / mine['seconds']:.1f}** | {differ} |"
        )
    both = f"{total[0]:.1f} s | {total[1]:.1f} s | **{total[0] / total[1]:.1f}**"
    return [*lines, f"| both | | | {both} | |", "", _whole(found), ""]


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
            json.dumps(one(options.one, options.model, options.benchmarks, options.scale, options.texts, options.dtype))
        )
        return
    rows = "real rows"
    if not options.benchmarks.is_dir():
        from orca_bench.mini import materialize

        made = materialize(Path(tempfile.mkdtemp()))
        options.benchmarks, options.tokenizer, rows = made["mini:benchmarks"], made["mini:tokenizer"], "the mini suite"
    batches = [int(batch) for batch in options.batches.split(",")]
    if options.flips:
        lines, name = flips(options, rows), "bfloat16.md"
    elif options.trained:
        lines, name = texts(options, batches, rows), "generation.md"
    else:
        lines, name = log_likelihoods(options, batches, rows), "evaluation.md"
    out = options.out or ROOT / "results" / "bench" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines), encoding="utf-8")
    print(f"record: {out}")


def log_likelihoods(options, batches: list[int], rows: str) -> list[str]:
    lines = [
        "# Log-likelihoods: the engine beside lm-eval's `hf` class",
        "",
        f"{_conditions()}; {rows}, requests of the leaderboard protocol. `hf` at the best of batch sizes "
        f"{', '.join(map(str, batches))} for each task. Tokens: *sent* in all requests, *computed by `hf`* with its grouping of "
        "one-token answers and its padding, *distinct* the least that any engine must compute.",
        "",
    ]
    for size in options.sizes.split(","):
        scale = options.scale * (1 if size == "15m" else 0.25)
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / size
            make_model(model, size, options.tokenizer)
            lines += section(size, compare(model, batches, options, scale))
    return lines


def texts(options, batches: list[int], rows: str) -> list[str]:
    lines = [
        "# Texts: the engine beside lm-eval's `hf` class",
        "",
        f"{_conditions()}; {rows}; the model of a run, at most 256 tokens a text. `hf` at the best of batch sizes "
        f"{', '.join(map(str, batches))} for each task; it encodes the Orca prompt by its own rules; of a cut "
        "context's answer the whole is compared.",
        "",
    ]
    for protocol in ("leaderboard", "orca"):
        found = compare(options.trained, batches, options, options.scale, protocol)
        lines += text_section(protocol, found)
    return lines


def flips(options, rows: str) -> list[str]:
    """How many predictions turn in bfloat16: `hf` between batch sizes, and both against the engine in float32."""
    found = compare(options.flips, [1, 8], options, options.scale, dtype="bfloat16")
    found["float32"] = compare(options.flips, [], options, options.scale)["ours"]
    pairs = (("hf1", "hf8"), ("ours", "hf1"), ("hf1", "float32"), ("ours", "float32"))
    lines = [
        "# bfloat16: predictions that turn",
        "",
        f"{_conditions(dtype='bfloat16')}; {rows}, requests of the leaderboard protocol, the model of a run. A prediction is "
        "the choice with the highest log-probability; Δ is of log-probabilities, in nats. `float32` is the engine in that dtype. "
        "lm-eval 0.4.13 takes the log-softmax, and the sum over a continuation's tokens, in the model's own dtype "
        "(a sum of −200 has steps of 1 there); here both are taken in 32 bits and more.",
        "",
        "| task | questions | " + " | ".join(f"{_name(a)} / {_name(b)}: turned, largest Δ" for a, b in pairs) + " |",
        "|---|--:|" + "--:|" * len(pairs),
    ]
    total = [0] * len(pairs)
    for task, mine in found["ours"]["tasks"].items():
        cells = []
        for place, (a, b) in enumerate(pairs):
            turned, gap = _turned(found[a]["tasks"][task], found[b]["tasks"][task])
            total[place] += turned
            cells.append(f"{turned}, {gap:.3f}")
        lines.append(f"| {task} | {len(set(mine['documents']))} | " + " | ".join(cells) + " |")
    return [*lines, "| all | | " + " | ".join(map(str, total)) + " |", ""]


def _name(contender: str) -> str:
    names = {"ours": "here", "float32": "float32"}
    return names.get(contender) or f"`hf` {contender.removeprefix('hf')}"


def _turned(one: dict, other: dict) -> tuple[int, float]:
    """(questions whose best choice differs, the largest difference of a log-probability)."""
    best: list[dict[int, tuple[float, int]]] = [{}, {}]
    for place, told in enumerate((one, other)):
        for number, (document, (logprob, _)) in enumerate(zip(told["documents"], told["answers"], strict=True)):
            best[place][document] = max(best[place].get(document, (float("-inf"), 0)), (logprob, -number))
    gap = max(abs(a[0] - b[0]) for a, b in zip(one["answers"], other["answers"], strict=True))
    return sum(best[0][d][1] != best[1][d][1] for d in best[0]), gap


def _conditions(dtype: str = "float32") -> str:
    import torch
    import transformers

    words = " ".join(word for word in sys.argv[1:])
    return (
        f"`python tests/benchmarks/bench_evaluation.py{' ' if words else ''}{words}`, {time.strftime('%Y-%m-%d')}; "
        f"{torch.get_num_threads()} threads of {_processor()}, {dtype}; torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
