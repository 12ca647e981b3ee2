"""Which files lm-eval wrote: a results file, or the folder of a model that has several; its JSON, and its files of samples.

`lm_eval --output_path DIR` writes DIR/MODEL/results_TIME.json, and with `--log_samples` beside it samples_TASK_TIME.jsonl for
each task (lm_eval/loggers/evaluation_tracker.py); `--output_path NAME.json` writes NAME_TIME.json instead. Its own module
because it knows names of files and nothing of what is in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import first_bytes, read_json

#: The time in the names of one run's files.
_TIME_PATTERN = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
_BYTE_COUNT = 4096  # in which a results file shows that it is one
#: The keys without which no results file of lm-eval is read; those of 0.3 are others.
_NEEDED_KEYS = ("results", "configs", "n-shot")


def is_results_file(path: Path) -> bool:
    """Whether a JSON file begins as lm-eval's results do: with a key `results` that has tasks."""
    return re.match(rb'\s*\{\s*"results":\s*\{\s*("[^"]+":\s*\{|\})', first_bytes(path, _BYTE_COUNT)) is not None


def results_files_in(folder: Path) -> list[Path]:
    """The results files of lm-eval in a folder, not below it; the newest first."""
    paths = [path for path in folder.glob("*.json") if is_results_file(path)]
    return sorted(paths, key=lambda path: (_time_text(path) or "", path.name), reverse=True)


def results_file_of(path: Path) -> Path:
    """The results file that a path means: itself, or the newest one in a folder; raises UserError where there is none."""
    if not path.is_dir():
        return path
    results_files = results_files_in(path)
    if not results_files:
        raise UserError("no results of lm-eval in this folder", where=path, hint="lm_eval --output_path writes them")
    return results_files[0]


def read_results(results_file: Path) -> dict[str, Any]:
    """The JSON of a results file; raises UserError where it is none, or of a version whose keys are others."""
    content = read_json(results_file)
    missing_keys = [key for key in _NEEDED_KEYS if not isinstance(content, Mapping) or key not in content]
    if missing_keys:
        version = content.get("lm_eval_version") if isinstance(content, Mapping) else None
        raise UserError(
            f"results of lm-eval {version or 'of an unknown version'} without '{missing_keys[0]}'",
            where=results_file,
            hint="results of lm-eval 0.4 are read",
        )
    return dict(content)


def samples_file_of(results_file: Path, task_name: str) -> Path | None:
    """The file of a task's samples beside a results file; None where there is none."""
    time_text = _time_text(results_file)
    if time_text is None:
        return None
    path = results_file.parent / f"samples_{task_name}_{time_text}.jsonl"
    return path if path.is_file() else None


def samples_files_of(results_file: Path) -> list[Path]:
    """The files of samples beside a results file that are of the same run."""
    time_text = _time_text(results_file)
    return [] if time_text is None else sorted(results_file.parent.glob(f"samples_*_{time_text}.jsonl"))


def samples_without_results(folder: Path) -> list[Path]:
    """The files of samples in a folder whose run has no results there: it goes on, or it failed."""
    times = {_time_text(path) for path in results_files_in(folder)}
    return sorted(path for path in folder.glob("samples_*.jsonl") if _time_text(path) not in times)


def read_sample_lines(samples_file: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number from 1, sample) of each line; raises UserError, with the line, for one that is no JSON object."""
    samples = []
    with open(samples_file, encoding="utf-8", errors="surrogateescape") as lines:
        for line_number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{samples_file}:{line_number}"
            try:
                sample = json.loads(line)
            except ValueError as error:
                is_cut = not line.endswith("\n")
                raise UserError(
                    "the line is cut off" if is_cut else f"no JSON ({error})",
                    where=where,
                    hint="the run was stopped while it wrote, or the file was not copied whole",
                ) from None
            if not isinstance(sample, dict):
                raise UserError("no sample of lm-eval: no JSON object", where=where)
            samples.append((line_number, sample))
    return samples


def _time_text(path: Path) -> str | None:
    match = _TIME_PATTERN.search(path.stem)
    return None if match is None else match[1]
