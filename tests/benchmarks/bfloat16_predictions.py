"""Count the predictions that turn in bfloat16, here and in lm-eval's own `hf` class, on the same 1,500 real questions.

    python tests/benchmarks/bfloat16_predictions.py --model FOLDER --work DIR            # all four runs, then the record
    python tests/benchmarks/bfloat16_predictions.py --model FOLDER --work DIR --runs hf-float32,hf-bfloat16

The questions are all 1,267 of Winogrande, and as many of MMLU's subjects in turn as are wanted beside them, as the leaderboard
protocol sends them. The runs are `hf` and the engine here, each in float32 and in bfloat16. Each appends its answers to
DIR/RUN.jsonl, and goes on where it was stopped. When all four are there, the record and DIR/predictions.json are written. It
takes an hour on two cores for a model of 135M parameters, most of it in `hf`.
"""

import argparse
import hashlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench_contender import load
from bench_records import conditions, write_record

RUNS = ("hf-float32", "hf-bfloat16", "ours-float32", "ours-bfloat16")
#: Documents that are answered before their answers are written: of `hf` few, of the engine many, since they share tokens.
_DOCUMENTS_AT_ONCE = {"hf": 10, "ours": 100}

#: A question: its task (for MMLU `mmlu_SUBJECT`), and the (context, continuation) of each choice.
Question = tuple[str, list[tuple[str, str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--benchmarks", type=Path, default=ROOT.parent / "shared" / "data" / "benchmarks")
    parser.add_argument("--work", type=Path, required=True, help="folder of the answers so far")
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "bfloat16.md")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    questions = questions_of(options.benchmarks, options.questions)
    for run in filter(None, options.runs.split(",")):
        answer(run, options.model, questions, options.work / f"{run}.jsonl")
    answers = {run: read_answers(options.work / f"{run}.jsonl", questions) for run in RUNS}
    if all(len(of_run) == len(questions) for of_run in answers.values()):
        counts = count_turned(
            questions, {run: [of_run[i] for i in range(len(questions))] for run, of_run in answers.items()}
        )
        (options.work / "predictions.json").write_text(json.dumps(counts, indent=1), encoding="utf-8")
        write_record(options.out, record_lines(counts, len(questions)))


def questions_of(benchmarks: Path, count: int) -> list[Question]:
    """All questions of Winogrande, then one of each subject of MMLU in turn, `count` at most."""
    from orca_bench.evaluate import benchmark_rows, protocols
    from orca_bench.evaluate.tasks import select

    (winogrande,), (mmlu,) = select("winogrande"), select("mmlu")
    protocol = protocols.Leaderboard()
    documents = list(protocol.documents(winogrande, benchmark_rows.load_task_rows(winogrande, benchmarks), count))
    rest = count - len(documents)
    if rest > 0:
        of_subjects = list(protocol.documents(mmlu, benchmark_rows.load_task_rows(mmlu, benchmarks), 1 + rest // 57))
        documents += sorted(of_subjects, key=lambda document: document.document_index)[:rest]
    return [(d.part_name, [(r.context, r.continuation or "") for r in d.requests]) for d in documents]


def answer(run: str, model: Path, questions: Sequence[Question], path: Path) -> None:
    """Append to `path` what is missing of a run: for each question the log-probabilities of its choices, nats."""
    missing = [index for index in range(len(questions)) if index not in read_answers(path, questions)]
    if not missing:
        return
    contender, dtype = run.split("-")
    lm, *_ = load("hf1" if contender == "hf" else "ours", model, "leaderboard", dtype)
    with path.open("a", encoding="utf-8") as file:
        if not path.stat().st_size:
            file.write(json.dumps({"questions": _hash(questions)}) + "\n")
        for chunk in _chunks(missing, _DOCUMENTS_AT_ONCE[contender]):
            start_s, start_processor_s = time.perf_counter(), time.process_time()
            values = _log_probabilities(lm.loglikelihood, [questions[index] for index in chunk])
            seconds, processor_seconds = time.perf_counter() - start_s, time.process_time() - start_processor_s
            line = {
                "answers": dict(zip(chunk, values, strict=True)),
                "seconds": seconds,
                "processor_seconds": processor_seconds,
            }
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"{run}: {chunk[-1] + 1} of {len(questions)}, {seconds:.1f} s", flush=True)


def _log_probabilities(loglikelihood: Callable[..., Any], questions: Sequence[Question]) -> list[list[float]]:
    from lm_eval.api.instance import Instance

    pairs = [pair for _, choices in questions for pair in choices]
    instances = [Instance("loglikelihood", {}, pair, number, metadata=("", 0, 1)) for number, pair in enumerate(pairs)]
    values = iter(float(value) for value, _ in loglikelihood(instances, disable_tqdm=True))
    return [list(itertools.islice(values, len(choices))) for _, choices in questions]


def read_answers(path: Path, questions: Sequence[Question]) -> dict[int, list[float]]:
    """The answers of a run so far, by the question's number; a last line that was cut off is as if it were not there."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    if lines and not lines[-1].endswith("\n"):
        os.truncate(path, path.stat().st_size - len(lines.pop().encode()))
    if lines and json.loads(lines[0])["questions"] != _hash(questions):
        sys.exit(f"{path}: these are the answers to other questions; remove the file, or give another --work")
    return {int(index): values for line in lines[1:] for index, values in json.loads(line)["answers"].items()}


def count_turned(questions: Sequence[Question], answers: dict[str, list[list[float]]]) -> dict[str, Any]:
    """By task and for all: what turns in bfloat16 here and in `hf`, against the same engine in float32, in pairs.

    `difference` is the share of questions that turn here less the share that turn in `hf`, with its 95 % interval; of the mean
    |Δ| of a choice's log-probability, nats, `ratio` is here over `hf`.
    """
    counts: dict[str, Any] = {}
    by_task = {name.split("_")[0] for name, _ in questions}
    for task in [*sorted(by_task), "all"]:
        chosen = [index for index, (name, _) in enumerate(questions) if task in ("all", name.split("_")[0])]
        turned, moved = {}, {}
        for contender in ("hf", "ours"):
            pairs = [(answers[f"{contender}-float32"][i], answers[f"{contender}-bfloat16"][i]) for i in chosen]
            turned[contender] = [_best(exact) != _best(rounded) for exact, rounded in pairs]
            moved[contender] = [abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True)]
        differences = [int(ours) - int(hf) for ours, hf in zip(turned["ours"], turned["hf"], strict=True)]
        half_width = 1.96 * statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
        mean = statistics.fmean(differences)
        counts[task] = {
            "questions": len(chosen),
            "turned": {contender: sum(flags) for contender, flags in turned.items()},
            "turned_here_alone": differences.count(1),
            "turned_in_hf_alone": differences.count(-1),
            "difference": [mean, mean - half_width, mean + half_width],
            "mean_change": {contender: statistics.fmean(changes) for contender, changes in moved.items()},
            "largest_change": {contender: max(changes) for contender, changes in moved.items()},
            "ratio": statistics.fmean(moved["ours"]) / statistics.fmean(moved["hf"]),
            "between_engines": max(
                abs(a - b)
                for i in chosen
                for a, b in zip(answers["hf-float32"][i], answers["ours-float32"][i], strict=True)
            ),
        }
    return counts


def record_lines(counts: dict[str, Any], question_count: int) -> list[str]:
    """The record as Markdown."""
    lines = [
        "# bfloat16: predictions that turn",
        "",
        f"{conditions(dtype='bfloat16 beside float32')}; {question_count:,} real questions, requests of the leaderboard "
        "protocol. A prediction is the choice with the highest log-probability; it turns where the same engine in float32 makes "
        "another. Δ is of a choice's log-probability between the two types, in nats. The interval is of the difference of the "
        "two shares, by question in pairs (95 %). lm-eval 0.4.13 takes the log-softmax, and the sum over a continuation's "
        "tokens, in the model's own type (a sum of −200 has steps of 1 there); here both are taken in 32 bits and more.",
        "",
        "| task | questions | turned here | turned in `hf` | here alone | in `hf` alone | difference, points | mean \\|Δ\\| here "
        "| mean \\|Δ\\| in `hf` | ratio | largest here | largest in `hf` |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for task, entry in counts.items():
        mean, low, high = (100 * value for value in entry["difference"])
        lines.append(
            f"| {task} | {entry['questions']:,} | {entry['turned']['ours']} | {entry['turned']['hf']} "
            f"| {entry['turned_here_alone']} | {entry['turned_in_hf_alone']} | {mean:+.2f} [{low:+.2f}, {high:+.2f}] "
            f"| {entry['mean_change']['ours']:.4f} | {entry['mean_change']['hf']:.4f} | {entry['ratio']:.2f} "
            f"| {entry['largest_change']['ours']:.3f} | {entry['largest_change']['hf']:.3f} |"
        )
    return [
        *lines,
        "",
        f"The engines' own difference in float32 is {counts['all']['between_engines']:.1e} at most.",
        "",
    ]


def _best(values: Sequence[float]) -> int:
    """The number of the likeliest choice; of several the first."""
    return max(range(len(values)), key=lambda number: (values[number], -number))


def _chunks(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _hash(questions: Sequence[Question]) -> str:
    return hashlib.sha256(json.dumps(questions).encode()).hexdigest()


if __name__ == "__main__":
    main()
