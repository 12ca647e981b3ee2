"""Models beside a reference in, how far they diverge from it out: a grid to read, and JSON for programs.

A line for each number, as llama.cpp's tool prints them, and a column for each model. Its own module because nothing here is a
score: the numbers are of tokens, in nats, and no verdict is given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orca_bench.counts import counted
from orca_bench.models.model_warnings import OWN_ROUNDING_BY_FORMAT, has_quantized_bits
from orca_bench.report.grid import Grid, TextCell
from orca_bench.report.notes import Note
from orca_bench.stats.estimates import MeanScore
from orca_bench.stats.token_divergences import PERCENTILES, DivergenceSummary, Estimate

_FORMAT_VERSION = 1  # of the JSON
_NATS_BELOW_WHICH_SCIENTIFIC = 1e-3
_MEGABYTE = 1e6
_RATIO_DECIMALS = 6  # of a perplexity ratio without an error
_UNMEASURED_ROUNDINGS = OWN_ROUNDING_BY_FORMAT | {"GGUF": f"{OWN_ROUNDING_BY_FORMAT['GGUF']} of activations"}


@dataclass(frozen=True)
class MeasuredModel:
    """A model by its name and what names it to orca-bench: a path or hub id; its size on disk in bytes, and bits of a weight.

    `file_format` is that of a GGUF file or a GPTQ folder, None for a plain folder.
    """

    name: str
    path: str
    byte_count: int
    bits_per_weight: float | None
    file_format: Literal["GGUF", "GPTQ"] | None = None


@dataclass(frozen=True)
class ScoredRecords:
    """The records over which models were measured.

    `files` has the name and the SHA-256 of each of their files. Of the scored records `cut_count` are longer than `max_length`
    tokens and were cut there, and the reference was trained on `training_count` of them; `dropped_count` others lost their
    whole response to the cut and were not scored.
    """

    files: tuple[tuple[str, str | None], ...]
    max_length: int
    cut_count: int
    training_count: int = 0
    dropped_count: int = 0


@dataclass(frozen=True)
class DivergenceReport:
    """A reference, the models beside it, each with what was measured, the records, and why results on tasks are not compared."""

    reference: MeasuredModel
    measurements: tuple[tuple[MeasuredModel, DivergenceSummary], ...]
    records: ScoredRecords
    task_notes: tuple[str, ...] = ()

    @property
    def models(self) -> list[MeasuredModel]:
        """The models beside the reference."""
        return [model for model, _ in self.measurements]

    @property
    def summaries(self) -> list[DivergenceSummary]:
        """What was measured of each of the models."""
        return [summary for _, summary in self.measurements]


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
    kl_texts = _nats_texts(summary.mean_kl for summary in report.summaries)
    parts = [
        f"{model.name}{_bits_text(model)} diverges by {kl_text} nats a token and has the same top token "
        f"at {_share_text(summary.same_top_share)} %"
        for (model, summary), kl_text in zip(report.measurements, kl_texts, strict=True)
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
        "records": _records_json(report.records),
        "tokens": first.token_count,
        "scored_records": first.record_count,
        "models": [dataclasses.asdict(model) | _summary_json(summary) for model, summary in report.measurements],
        "notes": [note.text for note in _notes(report)],
    }


def _rows(report: DivergenceReport) -> list[tuple[str, list[str]]]:
    """The title and the texts of each row, the reference's first."""
    sized_models = (report.reference, *report.models)
    summaries = report.summaries
    reference_bytes = report.reference.byte_count

    def row(title: str, texts: Iterable[str]) -> tuple[str, list[str]]:
        return title, ["–", *texts]

    perplexities = [summaries[0].reference_perplexity, *(summary.perplexity for summary in summaries)]
    percentile_titles = ["median", *(f"{100 * share:g} %" for share in PERCENTILES[1:])]
    return [
        ("bits a weight", ["–" if m.bits_per_weight is None else f"{m.bits_per_weight:.2f}" for m in sized_models]),
        ("size, MB", [f"{m.byte_count / _MEGABYTE:,.1f}" for m in sized_models]),
        ("size, %", [f"{100 * m.byte_count / reference_bytes:.1f}" for m in sized_models]),
        row("KL divergence, mean", _nats_texts(s.mean_kl for s in summaries)),
        *(
            row(f"KL divergence, {title}", _nats_texts(Estimate(s.kl_percentiles[index], None) for s in summaries))
            for index, title in enumerate(percentile_titles)
        ),
        row("KL divergence, largest", _nats_texts(Estimate(s.largest_kl, None) for s in summaries)),
        row("same top token, %", (_share_text(s.same_top_share) for s in summaries)),
        row("Δ log-probability, right token", _nats_texts((s.log_probability_change for s in summaries), signed=True)),
        ("perplexity", [_decimal_text(perplexity, 4 - _exponent(perplexity.value)) for perplexity in perplexities]),
        row("perplexity ratio", (_decimal_text(s.perplexity_ratio, _RATIO_DECIMALS) for s in summaries)),
    ]


def _notes(report: DivergenceReport) -> list[Note]:
    records = report.records
    notes = [
        Note(f"{model.name}: the perplexity is infinite: its weights are broken", "warning")
        for model, summary in report.measurements
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
    notes += _rounding_notes([report.reference, *report.models])
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
    notes += [Note(f"{name}: SHA-256 {sha256}", "provenance") for name, sha256 in records.files if sha256]
    return notes


def _rounding_notes(models: Sequence[MeasuredModel]) -> list[Note]:
    """Which rounding is not measured, of the formats of quantised models."""
    formats = {model.file_format for model in models if has_quantized_bits(model.bits_per_weight)}
    roundings = [rounding for file_format, rounding in _UNMEASURED_ROUNDINGS.items() if file_format in formats]
    if not roundings:
        return []
    text = "quantised weights are dequantised and computed in float32: the loss is the rounding's alone"
    return [Note(f"{text}; {' and '.join(roundings)} {'is' if len(roundings) == 1 else 'are'} not in it")]


def _records_json(records: ScoredRecords) -> dict[str, Any]:
    """The records as JSON: names and hashes of the files in two lists."""
    counts = dataclasses.asdict(records)
    files = counts.pop("files")
    return {"names": [name for name, _ in files], "sha256_hashes": [sha256 for _, sha256 in files], **counts}


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


def _bits_text(model: MeasuredModel) -> str:
    return "" if model.bits_per_weight is None else f" ({model.bits_per_weight:.2f} bits a weight)"


def _share_text(share: MeanScore) -> str:
    """A share in percent with its standard error, or with its interval where all tokens agree."""
    if share.stderr:
        return f"{100 * share.value:.2f} ± {100 * share.stderr:.2f}"
    return f"{100 * share.value:.2f} [{100 * share.interval_low:.2f}, {100 * share.interval_high:.2f}]"


def _nats_texts(estimates: Iterable[Estimate], signed: bool = False) -> list[str]:
    """Values in nats with their standard errors, all in one notation: scientific where one of them is small."""
    estimates = list(estimates)
    is_scientific = any(
        0 < abs(estimate.value) < _NATS_BELOW_WHICH_SCIENTIFIC and (estimate.stderr or 0) < _NATS_BELOW_WHICH_SCIENTIFIC
        for estimate in estimates
    )
    return [_nats_text(estimate, is_scientific, "+" if signed else "") for estimate in estimates]


def _nats_text(estimate: Estimate, is_scientific: bool, sign: str) -> str:
    """A value in nats with its standard error, if it has one: three digits, or as many as the error leaves."""
    if is_scientific and estimate.stderr:
        return f"{estimate.value:{sign}.2e} ± {estimate.stderr:.1e}"
    if estimate.stderr:
        return _decimal_text(estimate, 0, sign)
    return f"{estimate.value:{sign}{'.2e' if is_scientific else '.3g'}}" if estimate.value else "0"


def _decimal_text(estimate: Estimate, decimals_without_error: int, sign: str = "") -> str:
    """A value with its standard error, in the decimals that the error leaves, two digits of its own; two decimals or more."""
    decimals = max(2, 1 - _exponent(estimate.stderr) if estimate.stderr else decimals_without_error)
    error_text = f" ± {estimate.stderr:.{decimals}f}" if estimate.stderr else ""
    return f"{estimate.value:{sign}.{decimals}f}{error_text}"


def _exponent(number: float) -> int:
    """The power of ten of the first digit: -3 for 0.0042; 0 where there is none."""
    return int(f"{number:e}".partition("e")[2] or 0)
