"""The project's own gate: train the mini student, evaluate it, hold it against its baselines; then break things on purpose.

    make gate

The baselines in results/baselines/ are runs of recipes/mini.yaml with five seeds. A training this short magnifies rounding, so
that machines differ as much as seeds do: a loss counts only where it is larger than that. The breaks show that such losses are
found: another prompt header, no BOS, the choices' scores swapped, half the training.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from orca_bench import prompt, result_file
from orca_bench.cli import evaluating
from orca_bench.evaluate import job
from orca_bench.evaluate.encoding import OrcaEncoding
from orca_bench.evaluate.engine import Engine
from orca_bench.report import gate

BASELINES = ROOT / "results" / "baselines"
TASKS = "hellaswag,truthful_qa,winogrande"  # those that the student learns, quickly asked


class Silent:
    """A display of nothing."""

    say = begin = end = plan = advance = lambda self, *_: None


def command(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "orca_bench", *words], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)


def evaluated(model: Path, out: Path) -> result_file.Result:
    order = evaluating.order(
        str(model), TASKS, "orca", "5", Path("mini:"), None, "auto", ROOT / "runs", out, fresh=True
    )
    job.evaluate(order, Silent())
    return result_file.read(out)


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
    whole = Engine.log_likelihoods

    def swapped(self, sequences, progress=lambda done: None):
        found = whole(self, sequences, progress)
        return [found[n ^ 1] if (n ^ 1) < len(found) else found[n] for n in range(len(found))]

    Engine.log_likelihoods = swapped
    try:
        yield
    finally:
        Engine.log_likelihoods = whole


def main() -> None:
    names = sorted(BASELINES.glob("mini-*.json"))
    rules = gate.Rules(tasks=tuple(TASKS.split(",")))
    baselines = [result_file.read(path) for path in names]
    for one in baselines:  # each seed against the other four
        made = gate.check(one, [other for other in baselines if other is not one], gate.Rules())
        print(f"{one.path.name} against the others: {gate.headline(made)}", flush=True)
        if not made.passed:
            sys.exit("the gate cries wolf over a seed")
    command("demo")
    words = [word for path in names for word in ("--baseline", str(path))]
    command("check", "runs/mini/results/orca.json", *words)
    out = ROOT / "runs" / "gate"
    model = ROOT / "runs" / "mini" / "model"
    for break_ in (another_header, no_bos, swapped_choices):
        with break_():
            broken = evaluated(model, out / f"{break_.__name__}.json")
        _must_fail(break_.__name__, broken, baselines, rules)
    command("train", "recipes/mini.yaml", "-o", "name=mini-half", "-o", "train.max_steps=181")
    _must_fail(
        "half the training", evaluated(ROOT / "runs" / "mini-half" / "model", out / "half.json"), baselines, rules
    )


def _must_fail(name: str, broken, baselines, rules) -> None:
    """Whether the scores alone give it away; the hashes of the requests, which would too, are left out of it."""
    for baseline in baselines:
        for task, entry in baseline.data["tasks"].items():
            entry["requests_sha256"] = (broken.data["tasks"].get(task) or {}).get("requests_sha256")
    made = gate.check(broken, baselines, rules)
    print(f"{name}: {gate.headline(made)}", flush=True)
    print(json.dumps({v.name: v.reason for v in made.verdicts}, indent=1), flush=True)
    if made.passed or made.reasons:
        sys.exit(f"the gate lets '{name}' pass")


if __name__ == "__main__":
    main()
