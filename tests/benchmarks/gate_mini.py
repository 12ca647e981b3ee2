"""The project's own gate: train the mini student, evaluate it, hold it against its baselines; then break things on purpose.

    make breaks

The baselines in results/baselines/ are runs of recipes/mini.yaml with five seeds. A training this short magnifies rounding, so
that machines differ as much as seeds do: a loss counts only where it is larger than that. The breaks must all be found: another
prompt header and a missing BOS, which cost this student no score that could be shown, by the hashes of requests and token ids;
the choices' scores swapped and half the training by their loss.
"""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from orca_bench import api, prompt
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.request_encoding import OrcaEncoding
from orca_bench.report import gate
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.gate_sentence import gate_sentence
from orca_bench.results import reading

BASELINES = ROOT / "results" / "baselines"
TASKS = "hellaswag,truthful_qa,winogrande"  # those that the student learns, quickly asked


def command(*words: str) -> None:
    process = subprocess.run([sys.executable, "-m", "orca_bench", *words], cwd=ROOT)
    if process.returncode:
        sys.exit(process.returncode)


def evaluate(model: Path, out: Path) -> reading.ResultFile:
    return api.evaluate(model, ROOT / "runs", tasks=TASKS, benchmarks="mini:", out=out, fresh=True)["orca"]


@contextlib.contextmanager
def another_header():
    """The prompt says Answer where training said Response."""
    before = prompt._RESPONSE_HEADER
    prompt._RESPONSE_HEADER = before.replace("Response", "Answer")
    try:
        yield
    finally:
        prompt._RESPONSE_HEADER = before


@contextlib.contextmanager
def no_bos():
    """The prompt begins without the token that every training example began with."""
    whole = OrcaEncoding._context_ids
    OrcaEncoding._context_ids = lambda self, context: whole(self, context)[1:]
    try:
        yield
    finally:
        OrcaEncoding._context_ids = whole


@contextlib.contextmanager
def swapped_choices():
    """Every request gets the answer of its neighbour."""
    whole = HarnessModel.loglikelihood

    def swapped(self, requests, disable_tqdm=True):
        answers = whole(self, requests, disable_tqdm)
        return [answers[n ^ 1] if (n ^ 1) < len(answers) else answers[n] for n in range(len(answers))]

    HarnessModel.loglikelihood = swapped
    try:
        yield
    finally:
        HarnessModel.loglikelihood = whole


BREAKS = {
    another_header: "other requests of HellaSwag",
    no_bos: "other token ids of HellaSwag",
    swapped_choices: "HellaSwag -",
}


def main() -> None:
    paths = sorted(BASELINES.glob("mini-*.json"))
    rules = GateRules(tasks=tuple(TASKS.split(",")))
    baselines = [reading.read_with_questions(path) for path in paths]
    for baseline in baselines:  # each seed against the other four
        report = gate.check(baseline, [other for other in baselines if other is not baseline], GateRules())
        print(f"{baseline.path.name} against the others: {gate_sentence(report)}", flush=True)
        if not report.passed:
            sys.exit("the gate fails a run that differs from the others by its seed alone")
    command("demo")
    options = [word for path in paths for word in ("--baseline", str(path))]
    command("check", "runs/mini/results/orca.json", *options)
    out = ROOT / "runs" / "gate"
    model = ROOT / "runs" / "mini" / "model"
    for break_, reason in BREAKS.items():
        with break_():
            result = evaluate(model, out / f"{break_.__name__}.json")
        must_fail(break_.__name__, result, baselines, rules, reason)
    command("train", "recipes/mini.yaml", "-o", "name=mini-half", "-o", "train.max_steps=181")
    result = evaluate(ROOT / "runs" / "mini-half" / "model", out / "half.json")
    must_fail("half the training", result, baselines, rules, "failed: ")


def must_fail(
    name: str,
    result: reading.ResultFile,
    baselines: Sequence[reading.ResultFile],
    rules: GateRules,
    reason: str,
) -> None:
    """Exit where the gate lets `result` pass, or fails it for another reason than `reason`."""
    report = gate.check(result, baselines, rules)
    print(f"{name}: {gate_sentence(report)[:200]}", flush=True)
    for verdict in report.verdicts:
        print(f"  {verdict.title}: {verdict.reason}", flush=True)
    if report.passed or reason not in gate_sentence(report):
        sys.exit(f"the gate does not detect '{name}'")


if __name__ == "__main__":
    main()
