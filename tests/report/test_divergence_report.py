"""The report of a divergence: its sentence, its rows, its notes, and its JSON."""

import dataclasses
import json
import math

import numpy as np
import pytest

from orca_bench.report.divergence_report import (
    DivergenceReport,
    MeasuredModel,
    ScoredRecords,
    to_grid,
    to_json,
)
from orca_bench.report.grid_formats import to_markdown
from orca_bench.report.notes import ALL_KINDS
from orca_bench.stats.token_divergences import Estimate, TokenDivergences, summarize_divergences


def _summary(scale):
    """Of 300 tokens of 30 records; `scale` 0 is the reference itself."""
    generator = np.random.default_rng(0)
    reference = -generator.exponential(2, 300)
    kl, noise = generator.exponential(scale, 300) if scale else np.zeros(300), scale * generator.normal(0, 1, 300)
    same_top = generator.random(300) >= 0.2 * bool(scale)
    return summarize_divergences(
        TokenDivergences(kl, reference + noise, reference, same_top, np.repeat(np.arange(30), 10))
    )


def _report(*bits_and_scales, records=ScoredRecords((("r.jsonl", "ab" * 32),), 512, 0)):
    models = [MeasuredModel(f"m{bits}", f"m{bits}.gguf", int(1e6 * bits), bits, "GGUF") for bits, _ in bits_and_scales]
    reference = MeasuredModel("base", "runs/base/model", 32_000_000, 32.0)
    summaries = [_summary(scale) for _, scale in bits_and_scales]
    return DivergenceReport(reference, tuple(zip(models, summaries, strict=True)), records)


def _texts_by_title(report):
    return {row[0].text: [cell.text for cell in row[1:]] for row in to_grid(report).rows}


def test_the_sentence_says_what_each_model_loses_over_how_much():
    report = _report((4.5, 0.1), (8.5, 0.001))
    sentence = to_grid(report).conclusion
    assert sentence.startswith(
        "Beside base, over 300 response tokens of 30 records: m4.5 (4.50 bits a weight) diverges by 9.71e-02 ± 5.0e-03 nats"
    )
    assert "; m8.5 (8.50 bits a weight) diverges by " in sentence and sentence == to_json(report)["sentence"]


def test_a_row_for_each_number_and_a_column_for_each_model():
    texts = _texts_by_title(_report((4.5, 0.1), (8.5, 0.00001)))
    assert texts["bits a weight"] == ["32.00", "4.50", "8.50"]
    assert texts["size, MB"] == ["32.0", "4.5", "8.5"] and texts["size, %"] == ["100.0", "14.1", "26.6"]
    mean, small_mean = texts["KL divergence, mean"][1:]
    summary = _summary(0.1)
    assert mean == f"{summary.mean_kl.value:.2e} ± {summary.mean_kl.stderr:.1e}" and "e-06 ± " in small_mean
    assert texts["KL divergence, 99.9 %"][1] == f"{summary.kl_percentiles[2]:.2e}"
    assert texts["Δ log-probability, right token"][1][0] in "+-"
    assert texts["perplexity"][0].split(" ± ")[0] == f"{summary.reference_perplexity.value:.2f}"


def test_a_model_that_loses_nothing_has_an_interval_of_its_share_and_no_errors():
    texts = _texts_by_title(_report((16.0, 0)))
    assert texts["KL divergence, mean"][1] == "0" and texts["perplexity ratio"][1] == "1.000000"
    assert texts["same top token, %"][1].startswith("100.00 [")


def test_a_row_and_the_sentence_have_one_notation():
    report = _report((4.5, 0.1), (8.5, 0.01))
    texts, summary = _texts_by_title(report), report.summaries[0]
    mean = f"{summary.mean_kl.value:.4f} ± {summary.mean_kl.stderr:.4f}"
    assert texts["KL divergence, mean"][1] == mean and mean in to_grid(report).conclusion
    assert texts["KL divergence, largest"][1] == f"{summary.largest_kl:.3g}"
    report = _report((4.5, 0.1), (8.5, 0.00001))
    texts, mean = _texts_by_title(report), f"{summary.mean_kl.value:.2e} ± {summary.mean_kl.stderr:.1e}"
    assert texts["KL divergence, mean"][1] == mean and mean in to_grid(report).conclusion
    assert texts["KL divergence, largest"][1] == f"{summary.largest_kl:.2e}"


def test_a_perplexity_without_an_error_has_its_own_digits():
    report = _report((4.5, 0.1))
    (model, summary), values = report.measurements[0], (1079.8654, 1.34567, 1.0000234)
    reference, perplexity, ratio = (Estimate(value, None) for value in values)
    summary = dataclasses.replace(
        summary, reference_perplexity=reference, perplexity=perplexity, perplexity_ratio=ratio
    )
    texts = _texts_by_title(dataclasses.replace(report, measurements=((model, summary),)))
    assert texts["perplexity"] == ["1079.87", "1.3457"] and texts["perplexity ratio"][1] == "1.000023"


@pytest.mark.parametrize(
    ("bits", "file_formats", "end"),
    [
        (4.5, ["GGUF"], "alone; llama.cpp's own rounding of activations is not in it"),
        (4.5, ["GPTQ"], "alone; a GPTQ kernel's own rounding is not in it"),
        (
            4.5,
            ["GPTQ", None, "GGUF"],
            "alone; llama.cpp's own rounding of activations and a GPTQ kernel's own rounding are not in it",
        ),
        (4.5, [None], None),
        (16.0, ["GGUF"], None),
    ],
)
def test_the_note_on_rounding_is_that_of_the_formats(bits, file_formats, end):
    report = _report(*((bits, 0.1) for _ in file_formats))
    measurements = tuple(
        (dataclasses.replace(model, file_format=file_format), summary)
        for (model, summary), file_format in zip(report.measurements, file_formats, strict=True)
    )
    notes = to_json(dataclasses.replace(report, measurements=measurements))["notes"]
    assert [note.partition("the rounding's ")[2] for note in notes if "dequantised" in note] == ([end] if end else [])


def test_records_of_the_training_and_cut_records_are_named():
    records = ScoredRecords((("r.jsonl", None),), 512, 3, 7, 2)
    text = to_markdown(to_grid(_report((4.5, 0.1), records=records)), ALL_KINDS)
    assert "- base was trained on 7 of the 30 records: on others it may lose more\n" in text
    assert "- 2 records left out, whose whole response lies beyond 512 tokens\n" in text
    assert "- 3 records cut at 512 tokens, as in training\n" in text and "SHA-256" not in text


def test_the_json_has_all_numbers_unrounded():
    report = _report((4.5, 0.1))
    content = json.loads(json.dumps(to_json(report)))
    (model,), summary = content["models"], report.summaries[0]
    assert model["kl"]["value"] == summary.mean_kl.value and model["kl"]["p99.9"] == summary.kl_percentiles[2]
    assert model["perplexity_ratio"] == {
        "value": summary.perplexity_ratio.value,
        "stderr": pytest.approx(summary.perplexity_ratio.stderr),
    }
    assert content["tokens"] == 300 and content["records"]["sha256_hashes"] == ["ab" * 32]
    assert model["path"] == "m4.5.gguf" and model["byte_count"] == 4_500_000


def test_an_infinite_perplexity_is_written_in_the_table_and_none_in_json():
    report = _report((4.5, 0.1))
    ((model, summary),) = report.measurements
    summary = dataclasses.replace(summary, perplexity=Estimate(math.inf, None))
    report = dataclasses.replace(report, measurements=((model, summary),))
    assert _texts_by_title(report)["perplexity"][1] == "inf"
    (model,) = json.loads(json.dumps(to_json(report), allow_nan=False))["models"]
    assert model["perplexity"] == {"value": None, "stderr": None}
    assert "m4.5: the perplexity is infinite: its weights are broken" in to_json(report)["notes"]


def test_why_results_on_tasks_are_not_compared_is_a_note():
    report = dataclasses.replace(_report((4.5, 0.1)), task_notes=("orca.json is of another model",))
    assert "- orca.json is of another model\n" in to_markdown(to_grid(report), ALL_KINDS)
