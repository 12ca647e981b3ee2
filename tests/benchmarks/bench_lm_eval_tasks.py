"""How fast lm-eval's own tasks are with this engine, and with lm-eval's `hf` at the better one of two batch sizes.

    python tests/benchmarks/bench_lm_eval_tasks.py MODEL [--tasks arc_easy,…] [--benchmarks DIR] [--limit 50] [--batches 1,8]

Without `--benchmarks`, rows are invented: what is measured is the time of lm-eval's evaluator with a model that is loaded, and
the largest difference of a log-probability; no score of them means anything. `hf` and ours alternate, and the best of `--repeats`
runs counts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from orca_bench import library_settings

TASKS = (
    "arc_easy,piqa,boolq,openbookqa,lambada_openai,wikitext,mmlu_anatomy,bbh_cot_fewshot_boolean_expressions,"
    "mmlu_pro_biology,sciq,winogrande,triviaqa"
)


def numbers_of(result):
    """All log-probabilities and texts of a result, in order."""
    values = []

    def collect(responses):
        for response in responses:
            if isinstance(response, list | tuple):
                collect(response)
            elif not isinstance(response, bool):
                values.append(response)

    for samples in result["samples"].values():
        for sample in samples:
            collect(sample["resps"])
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--benchmarks", type=Path)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--max-gen-toks", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    library_settings.prepare_libraries()

    from harness_rows import write_rows
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    from orca_bench.evaluate.harness.lm_eval_run import hide_harness_log
    from orca_bench.evaluate.harness.named_tasks import explained_rows, load_named_tasks, task_manager
    from orca_bench.evaluate.harness.registered_model import OrcaBenchLM

    hide_harness_log()
    manager = task_manager()
    ours = OrcaBenchLM(pretrained=options.model, dtype="float32")
    batch_sizes = [int(size) for size in options.batches.split(",")]
    others = {
        size: HFLM(pretrained=options.model, device=str(ours.device), dtype="float32", batch_size=size)
        for size in batch_sizes
    }

    def run(model, name, rows):
        named_tasks = load_named_tasks([name], rows, manager)
        for task in named_tasks.tasks_by_name.values():
            if task.OUTPUT_TYPE == "generate_until":
                task.set_config("generation_kwargs", {"max_gen_toks": options.max_gen_toks}, update=True)
        start_s = time.perf_counter()
        with explained_rows(rows):
            result = evaluate(
                lm=model, task_dict=named_tasks.as_task_dict(), limit=options.limit, bootstrap_iters=0, log_samples=True
            )
        return time.perf_counter() - start_s, numbers_of(result)

    with tempfile.TemporaryDirectory() as folder:
        rows = options.benchmarks or write_rows(Path(folder), options.limit)
        print(
            f"{'task':40} {'ours s':>8} {'hf s':>8} {'batch':>5} {'ratio':>6} {'largest difference':>19} {'other texts':>11}"
        )
        for name in options.tasks.split(","):
            own_s, best_s, best_size, own_values, values = float("inf"), float("inf"), 0, [], []
            for _ in range(options.repeats):
                seconds, own_values = run(ours, name, rows)
                own_s = min(own_s, seconds)
                for size in batch_sizes:
                    seconds, values_of_size = run(others[size], name, rows)
                    values = values if values and size != min(batch_sizes) else values_of_size
                    if seconds < best_s:
                        best_s, best_size = seconds, size
            pairs = list(zip(own_values, values, strict=True))
            difference = max((abs(a - b) for a, b in pairs if isinstance(a, float)), default=0.0)
            other_texts = sum(a != b for a, b in pairs if isinstance(a, str))
            print(
                f"{name:40} {own_s:8.2f} {best_s:8.2f} {best_size:5} {best_s / own_s:6.2f} {difference:19.1e} {other_texts:11}",
                flush=True,
            )


if __name__ == "__main__":
    main()
