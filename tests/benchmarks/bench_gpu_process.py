"""One job of bench_gpu.py in a process of its own: the job's name in, lines of measurements.jsonl out, as soon as each is there.

The process imports what it needs, closes the pipe that `bench_gpu.py` waits for, and begins at a line on its standard input. So
the jobs follow one another without delay, and none measures while another imports. A measurement that raises is written down as
a problem, with the traceback in the job's log, and the next one goes on. Its own module because it is what `bench_gpu.py`
starts.

    echo '{"seconds": 60}' | python tests/benchmarks/bench_gpu_process.py engine_checks DIR cuda full
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from orca_bench import child_processes, library_settings

#: By name the module and the function of each job, which gets a `Recorder`.
JOBS = {
    "engine_checks": ("bench_gpu_checks", "check_engine"),
    "packing_checks": ("bench_gpu_training", "check_packing"),
    "training_step_check": ("bench_gpu_training", "check_training_step"),
    "evaluation_1b": ("bench_gpu_evaluation", "measure_small_model"),
    "evaluation_7b": ("bench_gpu_evaluation", "measure_large_model"),
    "profiles": ("bench_gpu_decoding", "profile_engine"),
    "tree_attention": ("bench_gpu_attention", "measure_tree_attention"),
    "decoding": ("bench_gpu_decoding", "measure_decoding_steps"),
    "flex_attention": ("bench_gpu_attention", "measure_flex_attention"),
    "training_profile": ("bench_gpu_training", "profile_training"),
}
_LM_EVAL_JOBS = ("evaluation_1b", "evaluation_7b")
_PROBLEM_CHARACTERS = 400


@dataclass
class Recorder:
    """Where a job's measurements go. `sizes` is full or tiny, `end` the time.monotonic() at which the job's time is over."""

    job_name: str
    out_folder: Path
    device: str
    sizes: str
    end: float

    @property
    def is_tiny(self) -> bool:
        return self.sizes == "tiny"

    @property
    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    def measure(self, name: str, function: Callable[[], Any], expected_s: float = 0.0) -> Any:
        """What the function returns, a row or a list of rows, which are written; None where it failed or has no time."""
        if self.seconds_left < expected_s:
            self._append({"name": name, "left_out": f"{max(0, self.seconds_left):.0f} s were left"})
            return None
        start, rows = time.monotonic(), None
        try:
            rows = function()
        except Exception as error:
            traceback.print_exc()
            message = " ".join(f"{type(error).__name__}: {error}".split())[:_PROBLEM_CHARACTERS]
            self._append({"name": name, "problem": message})
        else:
            for row in rows if isinstance(rows, list) else [rows]:
                self._append({"name": name, **row, "measurement_s": round(time.monotonic() - start, 2)})
        release_memory(self.device)
        return rows

    def _append(self, fields: dict[str, Any]) -> None:
        line = json.dumps({"job": self.job_name, **fields}) + "\n"
        with open(self.out_folder / "measurements.jsonl", "a", encoding="utf-8") as file:
            file.write(line)
        print(line, end="", flush=True)


def check_row(text: str, value: float, bound: float | None) -> dict[str, Any]:
    """The row of a check, which passes where the value is at most `bound`; None: for comparison alone."""
    return {
        "kind": "check",
        "what": text,
        "value": float(value),
        "bound": bound,
        "passed": None if bound is None else bool(value <= bound),
    }


def release_memory(device: str) -> None:
    """Let the device have back what no tensor uses."""
    import torch

    gc.collect()
    if device != "cpu":
        with contextlib.suppress(RuntimeError):  # after a fault of the device nothing works
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def synchronize(device: str) -> None:
    """Wait until all work on the device is done."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def peak_gib(device: str) -> float | None:
    """The most memory of the device that tensors had since `release_memory`; None on a CPU."""
    import torch

    return None if device == "cpu" else torch.cuda.max_memory_allocated() / 2**30


def environment(device: str, sizes: str) -> dict[str, Any]:
    """The device, the sizes and the versions, for the record."""
    import importlib.metadata

    import torch
    from bench_records import processor_name

    versions = {}
    for package in ("torch", "transformers", "deepspeed", "lm_eval", "triton"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "kind": "environment",
        "sizes": sizes,
        "device": torch.cuda.get_device_name() if device != "cpu" else processor_name(),
        "memory_gib": torch.cuda.mem_get_info()[1] / 2**30 if device != "cpu" else None,
        "versions": versions,
    }


def main() -> None:
    start = time.monotonic()
    child_processes.end_with_command()
    job_name, out_name, device, sizes, *pipe_descriptors = sys.argv[1:]
    library_settings.prepare_libraries()
    module_name, function_name = JOBS[job_name]
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    if job_name in _LM_EVAL_JOBS:
        with contextlib.suppress(Exception):  # whatever is missing is named when it is measured
            import lm_eval.models.huggingface  # noqa: F401
    job_function = getattr(importlib.import_module(module_name), function_name)
    print(f"imports: {time.monotonic() - start:.1f} s", flush=True)
    for descriptor in pipe_descriptors:
        os.close(int(descriptor))
    start_line = sys.stdin.readline()
    if not start_line:
        return
    end = time.monotonic() + json.loads(start_line)["seconds"]
    recorder = Recorder(job_name, Path(out_name), device, sizes, end)
    recorder.measure("environment", lambda: environment(device, sizes))
    recorder.measure(f"{job_name} as a whole", lambda: job_function(recorder) or [])
    child_processes.end_at_once(0)  # neither CUDA nor NCCL has anything to tidy up


if __name__ == "__main__":
    main()
