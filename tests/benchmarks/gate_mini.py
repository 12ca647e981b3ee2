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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from orca_bench import api, prompt
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.request_encoding import OrcaEncoding
from orca_bench.report import gate, gate_formats
from orca_bench.report.gate_rules import GateRules
from orca_bench.results import reading

BASELINES = ROOT / "results" / "baselines"
TASKS = "hellaswag,truthful_qa,winogrande"  # those that the student learns, quickly asked


def command(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "orca_bench", *words], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)


def evaluated(model: Path, out: Path) -> reading.ResultFile:
    return api.evaluate(model, ROOT / "runs", tasks=TASKS, benchmarks="mini:", out=out, fresh=True)["orca"]


@contextlib.contextmanager
def another_header():
    """The prompt says Answer where training said Response."""
    before = prompt._RESPONSE
    prompt._RESPONSE = before.replace("Response", "Answer")
    try:
        yield
    finally:
        prompt._RESPONSE = before


@contextlib.contextmanager
def no_bos():
    """The prompt begins without the token that every training example began with."""
    whole = OrcaEncoding._context
    OrcaEncoding._context = lambda self, context: whole(self, context)[1:]
    try:
        yield
    finally:
        OrcaEncoding._context = whole


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
    swapped_choices: "failed: HellaSwag",
}


def main() -> None:
    names = sorted(BASELINES.glob("mini-*.json"))
    rules = GateRules(tasks=tuple(TASKS.split(",")))
    baselines = [reading.read(path) for path in names]
    for one in baselines:  # each seed against the other four
        verdict = gate.check(one, [other for other in baselines if other is not one], GateRules())
        print(f"{one.path.name} against the others: {gate_formats.headline(verdict)}", flush=True)
        if not verdict.passed:
            sys.exit("the gate fails for a seed")
    command("demo")
    words = [word for path in names for word in ("--baseline", str(path))]
    command("check", "runs/mini/results/orca.json", *words)
    out = ROOT / "runs" / "gate"
    model = ROOT / "runs" / "mini" / "model"
    for break_, headline in BREAKS.items():
        with break_():
            broken = evaluated(model, out / f"{break_.__name__}.json")
        must_fail(break_.__name__, broken, baselines, rules, headline)
    command("train", "recipes/mini.yaml", "-o", "name=mini-half", "-o", "train.max_steps=181")
    half = evaluated(ROOT / "runs" / "mini-half" / "model", out / "half.json")
    must_fail("half the training", half, baselines, rules, "failed: ")


def must_fail(name: str, broken, baselines, rules, headline: str) -> None:
    verdict = gate.check(broken, baselines, rules)
    print(f"{name}: {gate_formats.headline(verdict)[:200]}", flush=True)
    for task in verdict.verdicts:
        print(f"  {task.title}: {task.reason}", flush=True)
    if verdict.passed or headline not in gate_formats.headline(verdict):
        sys.exit(f"the gate does not find '{name}'")


if __name__ == "__main__":
    main()
