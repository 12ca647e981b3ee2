"""The gate on a real model: the log-probabilities of SmolLM2's answers beside the committed ones, question by question.

    make gate-real           # this program: exit 1 where a log-probability changed, 2 where the gate cannot run
    make gate-real RENEW=1   # the same comparison, and then this run is the new baseline

SmolLM2-135M-Instruct, float32, answers 150 questions (tests/support/regression_rows.py) under each of the protocols `leaderboard`
and `orca`, by `orca-bench eval` as a user runs it; `orca-bench check --max-log-probability-change` compares them with
results/regression/. The model is fixed, so each change beyond rounding is one of the code, or of a library.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import real_model
import regression_rows

from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder
from orca_bench.results.reading import questions_path_for

PROTOCOLS = ("leaderboard", "orca")
#: Nats. Threads, vector instructions and batch sizes change a log-probability by at most a tenth of it (results/README.md).
MAX_CHANGE = "1e-3"
BASELINES = Path("results") / "regression"
_WORK_FOLDER = Path("build") / "gate-real"
_RESULT_NAME = "smollm2"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help="make this run the baseline after the comparison")
    renew = parser.parse_args().renew
    try:
        return _run_gate(renew)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the running command has said what it keeps
        return 130


def _run_gate(renew: bool) -> int:
    """Answer, compare, and renew where that is wanted; returns the exit code, and raises UserError without the model."""
    model = _linked_model()
    regression_rows.write_rows(ROOT / _WORK_FOLDER / "rows")
    exit_code = _orca_bench(*evaluation_words(model))
    if exit_code:
        return exit_code
    exit_codes = [
        _orca_bench(*check_words(protocol)) for protocol in PROTOCOLS if not renew or _baseline(protocol).is_file()
    ]
    if renew:
        _renew_baselines()
        return 0
    return max(exit_codes)


def evaluation_words(model: Path) -> list[str]:
    """The command that answers the questions."""
    words = ["eval", "--model", str(model), "--protocol", "both", "--tasks", ",".join(regression_rows.TASKS)]
    words += ["--benchmarks", str(_WORK_FOLDER / "rows"), "--out", str(_WORK_FOLDER / f"{_RESULT_NAME}.json")]
    return [*words, "--dtype", "float32", "--fresh", "--data-report", "none", "--reported", "none"]


def check_words(protocol: str) -> list[str]:
    """The command that compares the answers under a protocol with the committed ones."""
    result, baseline = _WORK_FOLDER / _baseline(protocol).name, _baseline(protocol).relative_to(ROOT)
    return ["check", str(result), "--baseline", str(baseline), "--max-log-probability-change", MAX_CHANGE]


def _linked_model() -> Path:
    """A link to the model's file in the work folder, so that a result has no path of this machine; UserError without the file."""
    path = real_model.cached_path(real_model.REAL_MODEL)
    if not real_model.is_whole(real_model.REAL_MODEL, path):
        raise UserError("the real model is not there", where=path, hint="make real-model fetches it")
    link = _WORK_FOLDER / path.name
    make_writable_folder(ROOT / _WORK_FOLDER)
    (ROOT / link).unlink(missing_ok=True)
    (ROOT / link).symlink_to(path)
    return link


def _baseline(protocol: str) -> Path:
    return ROOT / BASELINES / f"{_RESULT_NAME}-{protocol}.json"


def _renew_baselines() -> None:
    make_writable_folder(ROOT / BASELINES)
    for protocol in PROTOCOLS:
        baseline = _baseline(protocol)
        result = ROOT / _WORK_FOLDER / baseline.name
        for source, target in ((result, baseline), (questions_path_for(result), questions_path_for(baseline))):
            shutil.copyfile(source, target)
            print(f"written: {target.relative_to(ROOT)}")


def _orca_bench(*words: str) -> int:
    """Run a command of orca-bench in the repository, on the CPU; returns its exit code."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, "-m", "orca_bench", *words], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
