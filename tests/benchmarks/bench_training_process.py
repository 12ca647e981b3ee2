"""Run a contender of bench_training.py, or a check beside them, in a process of its own: specification in, measurement out.

Its own module because it is both ends: `run_process` starts `python bench_training_process.py SPECIFICATION.json`, which prints
the measurement as JSON in its last line. Neither it nor what it starts outlives the benchmark. `kill_with_children` ends a
command of which enough was measured.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from orca_bench import child_processes, library_settings


class ContenderFailed(Exception):
    """A contender's process ended with an error, whose last lines the message has."""


def run_process(specification: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
    """What `measure_here` returns, from a process of its own.

    Raises ContenderFailed, and subprocess.TimeoutExpired after `timeout_s`.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        child_processes.Lifeline("bench_training") as lifeline,  # also ends what a process leaves that is killed
    ):
        specification_file = Path(folder) / "specification.json"
        specification_file.write_text(json.dumps(specification), encoding="utf-8")
        process = subprocess.run(
            [sys.executable, __file__, str(specification_file)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=os.environ | lifeline.environment,
        )
    if process.returncode:
        raise ContenderFailed(process.stderr[-4000:])
    return json.loads(process.stdout.splitlines()[-1])


def measure_here(specification: dict[str, Any]) -> dict[str, Any]:
    """The measurement of one contender, or of one check, in this process."""
    library_settings.prepare_libraries()
    if "loss" in specification:
        from bench_training_loss import measure_loss

        return asdict(measure_loss(**specification["loss"]))
    if "head_sizes" in specification:
        from bench_training_attention import check_all

        return check_all(specification["head_sizes"])
    from bench_training_contenders import Contender, Task, measure

    return asdict(measure(Contender(**specification["contender"]), Task(**specification["task"])))


def kill_with_children(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and all that it started by SIGKILL, and wait until they are gone; returns how many there were."""
    import psutil

    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=30)
    return len(family)


def main() -> None:
    child_processes.end_with_command()
    print(json.dumps(measure_here(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
