"""Models beside a reference in, how far they diverge from it out: a grid to read, and JSON for programs.

A line for each number, as llama.cpp's tool prints them, and a column for each model. Its own module because nothing here is a
score: the numbers are of tokens, in nats, and no verdict is given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orca_bench.counts import counted
from orca_bench.report.grid import Grid, TextCell
from orca_bench.report.notes import Note
from orca_bench.stats.estimates import MeanScore
from orca_bench.stats.token_divergences import PERCENTILES, DivergenceSummary, Estimate

_FORMAT_VERSION = 1  # of the JSON
_FEWEST_UNQUANTIZED_BITS = 16.0  # bits of a weight
_NATS_BELOW_WHICH_SCIENTIFIC = 1e-3
_MEGABYTE = 1e6
ROUNDING_NOTE = (
    "quantised weights are dequantised and computed in float32: the loss is the rounding's alone; llama.cpp's own rounding "
    "of activations is not in it"
)


@dataclass(frozen=True)
class MeasuredModel:
    """A model by its name and what names it to orca-bench: a path or hub id; its size on disk in bytes, and bits of a weight."""

    name: str
    path: str
    byte_count: int
    bits_per_weight: float | None


@dataclass(frozen=True)
class ScoredRecords:
    """The records over which models were measured.

    `names` and `sha256_hashes` are of their files. Of the scored records `cut_count` are longer than `max_length` tokens and were
    cut there, and the reference was trained on `training_count` of them; `dropped_count` others lost their whole response to
    the cut and were not scored.
    """

    names: tuple[str, ...]
    sha256_hashes: tuple[str | None, ...]
    max_length: int
    cut_count: int
    training_count: int = 0
    dropped_count: int = 0


@dataclass(frozen=True)
class DivergenceReport:
    """A reference, the models that were measured beside it, the records, and why results on tasks are not compared."""

    reference: MeasuredModel
    models: tuple[MeasuredModel, ...]
    summaries: tuple[DivergenceSummary, ...]
    records: ScoredRecords
    task_notes: tuple[str, ...] = ()


def to_grid(report: DivergenceReport) -> Grid:
    """The grid: a column for the reference and each model, a row for each number; how it was computed stands in notes."""
    return Grid(
        ["", report.reference.name, *(model.name for model in report.models)],
        [[TextCell(title), *map(TextCell, texts)] for title, texts in _rows(report)],
        _notes(report),
        f"KL({report.reference.name} || model) over all next tokens, nats a token",
        conclusion(report),
        legends={"±": "± standard error, with the records as clusters", r"\[": "[ ] 95 % interval"},
    )


def conclusion(report: DivergenceReport) -> str:
    """The divergence of each model in one sentence."""
    first = report.summaries[0]
    parts = [
        f"{model.name}{_bits_text(model)} diverges by {_estimate_text(summary.mean_kl)} nats a token and has the same top token "
        f"at {_share_text(summary.same_top_share)} %"
        for model, summary in zip(report.models, report.summaries, strict=True)
    ]
    return (
        f"Beside {report.reference.name}, over {counted(first.token_count, 'response token')} of "
        f"{counted(first.record_count, 'record')}: {'; '.join(parts)}."
    )


def to_json(report: DivergenceReport) -> dict[str, Any]:
    """All numbers, unrounded: nats, bytes, and fractions of 1; a perplexity that is infinite is None."""
    first = report.summaries[0]
    return {
        "format": _FORMAT_VERSION,
        "sentence": conclusion(report),
        "reference": dataclasses.asdict(report.reference),
        "records": dataclasses.asdict(report.records),
        "tokens": first.token_count,
        "scored_records": first.record_count,
        "models": [
            dataclasses.asdict(model) | _summary_json(summary)
            for model, summary in zip(report.models, report.summaries, strict=True)
        ],
        "notes": [note.text for note in _notes(report)],
    }


def _rows(report: DivergenceReport) -> list[tuple[str, list[str]]]:
    """The title and the texts of each row, the reference's first."""
    sized_models = (report.reference, *report.models)
    first = report.summaries[0]
    reference_bytes = report.reference.byte_count

    def row(title: str, text_of: Callable[[DivergenceSummary], str], reference: str = "–") -> tuple[str, list[str]]:
        return title, [reference, *map(text_of, report.summaries)]

    percentile_titles = ["median", *(f"{100 * share:g} %" for share in PERCENTILES[1:])]
    return [
        ("bits a weight", ["–" if m.bits_per_weight is None else f"{m.bits_per_weight:.2f}" for m in sized_models]),
        ("size, MB", [f"{m.byte_count / _MEGABYTE:,.1f}" for m in sized_models]),
        ("size, %", [f"{100 * m.byte_count / reference_bytes:.1f}" for m in sized_models]),
        row("KL divergence, mean", lambda summary: _estimate_text(summary.mean_kl)),
        *(
            (f"KL divergence, {title}", ["–", *(_nats_text(s.kl_percentiles[index]) for s in report.summaries)])
            for index, title in enumerate(percentile_titles)
        ),
        row("KL divergence, largest", lambda summary: _nats_text(summary.largest_kl)),
        row("same top token, %", lambda summary: _share_text(summary.same_top_share)),
        row("Δ log-probability, right token", lambda s: _estimate_text(s.log_probability_change, signed=True)),
        row(
            "perplexity", lambda summary: _estimate_text(summary.perplexity), _estimate_text(first.reference_perplexity)
        ),
        row("perplexity ratio", lambda summary: _estimate_text(summary.perplexity_ratio)),
    ]


def _notes(report: DivergenceReport) -> list[Note]:
    records = report.records
    notes = [
        Note(f"{model.name}: the perplexity is infinite: its weights are broken", "warning")
        for model, summary in zip(report.models, report.summaries, strict=True)
        if math.isinf(summary.perplexity.value)
    ]
    if records.training_count:
        notes.append(
            Note(
                f"{report.reference.name} was trained on {records.training_count:,} of the "
                f"{counted(report.summaries[0].record_count, 'record')}: on others it may lose more",
                "warning",
            )
        )
    if any(_is_quantized(model) for model in (report.reference, *report.models)):
        notes.append(Note(ROUNDING_NOTE))
    if records.cut_count:
        notes.append(
            Note(f"{counted(records.cut_count, 'record')} cut at {records.max_length:,} tokens, as in training")
        )
    if records.dropped_count:
        notes.append(
            Note(
                f"{counted(records.dropped_count, 'record')} left out, whose whole response lies beyond {records.max_length:,} "
                "tokens"
            )
        )
    notes += map(Note, report.task_notes)
    notes += [
        Note(
            "the numbers are those of llama.cpp's llama-perplexity --kl-divergence; its errors take tokens as independent"
        ),
        Note(
            "response tokens and EOS in the Orca prompt, as training encodes them; float64 of float32 logits", "method"
        ),
    ]
    notes += [
        Note(f"{name}: SHA-256 {sha256}", "provenance")
        for name, sha256 in zip(records.names, records.sha256_hashes, strict=True)
        if sha256
    ]
    return notes


def _summary_json(summary: DivergenceSummary) -> dict[str, Any]:
    share = summary.same_top_share
    percentiles = {f"p{100 * p:g}": value for p, value in zip(PERCENTILES, summary.kl_percentiles, strict=True)}
    return {
        "kl": dataclasses.asdict(summary.mean_kl) | percentiles | {"largest": summary.largest_kl},
        "same_top": {
            "value": share.value,
            "stderr": share.stderr,
            "low": share.interval_low,
            "high": share.interval_high,
        },
        "log_probability_change": dataclasses.asdict(summary.log_probability_change),
        "perplexity": _finite_json(summary.perplexity),
        "reference_perplexity": _finite_json(summary.reference_perplexity),
        "perplexity_ratio": _finite_json(summary.perplexity_ratio),
    }


def _finite_json(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON, which has no infinity: None in its place."""
    return dataclasses.asdict(estimate) | ({} if math.isfinite(estimate.value) else {"value": None})


def _is_quantized(model: MeasuredModel) -> bool:
    return model.bits_per_weight is not None and model.bits_per_weight < _FEWEST_UNQUANTIZED_BITS


def _bits_text(model: MeasuredModel) -> str:
    return "" if model.bits_per_weight is None else f" ({model.bits_per_weight:.2f} bits a weight)"


def _share_text(share: MeanScore) -> str:
    """A share in percent with its standard error, or with its interval where all tokens agree."""
    if share.stderr:
        return f"{100 * share.value:.2f} ± {100 * share.stderr:.2f}"
    return f"{100 * share.value:.2f} [{100 * share.interval_low:.2f}, {100 * share.interval_high:.2f}]"


def _estimate_text(estimate: Estimate, signed: bool = False) -> str:
    """A value with its standard error, in the digits that the error leaves: two of its own."""
    if not estimate.stderr:
        return _nats_text(estimate.value, signed)
    sign = "+" if signed else ""
    scientific = abs(estimate.value) < _NATS_BELOW_WHICH_SCIENTIFIC and estimate.stderr < _NATS_BELOW_WHICH_SCIENTIFIC
    if scientific:
        return f"{estimate.value:{sign}.2e} ± {estimate.stderr:.1e}"
    digits = max(2, 1 - _exponent(estimate.stderr))
    return f"{estimate.value:{sign}.{digits}f} ± {estimate.stderr:.{digits}f}"


def _exponent(number: float) -> int:
    """The power of ten of the first digit: -3 for 0.0042."""
    return int(f"{number:e}".partition("e")[2])


def _nats_text(nats: float, signed: bool = False) -> str:
    return f"{nats:{'+' if signed else ''}.3g}" if nats else "0"
