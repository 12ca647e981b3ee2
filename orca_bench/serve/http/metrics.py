"""The statistics of the models' schedulers in, the text that Prometheus reads out (its text format, version 0.0.4)."""

from __future__ import annotations

from collections.abc import Mapping

from orca_bench.serve.token_requests import SchedulerStatistics

#: Of each metric: its name without `orca_bench_`, its type, its field of the statistics, its help.
_METRICS = (
    ("requests_open", "gauge", "open_requests", "Requests that are computed now."),
    ("requests_waiting", "gauge", "waiting_requests", "Requests that wait for a place."),
    ("cache_tokens", "gauge", "cache_tokens", "Tokens for whose keys and values memory is reserved."),
    ("new_tokens_total", "counter", "new_tokens", "Tokens that were generated."),
    ("prompt_tokens_total", "counter", "prompt_tokens", "Tokens of prompts."),
    (
        "cached_prompt_tokens_total",
        "counter",
        "cached_prompt_tokens",
        "Tokens of prompts that were not computed again.",
    ),
    ("steps_total", "counter", "steps", "Passes through the model."),
    ("compute_seconds_total", "counter", "compute_seconds", "Seconds that the passes took."),
)


def metrics_text(statistics_by_name: Mapping[str, SchedulerStatistics]) -> str:
    """The metrics of all models; the label `model` has a model's name."""
    lines = []
    for name, kind, field, help_text in _METRICS:
        lines += [f"# HELP orca_bench_{name} {help_text}", f"# TYPE orca_bench_{name} {kind}"]
        for model_name, statistics in statistics_by_name.items():
            label = model_name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'orca_bench_{name}{{model="{label}"}} {getattr(statistics, field)}')
    return "\n".join([*lines, ""])
