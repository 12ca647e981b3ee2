"""Models beside a reference and files of records in, a report of how far the models diverge from it out, and its files.

Records are encoded as in training, models are computed as in evaluation, and results are paired as in `compare`: this is where
the rooms meet. Its own module because `divergence` and `export --report` do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from orca_bench.cli.comparison_work import lead_sentence
from orca_bench.cli.console import counting, progress_message
from orca_bench.cli.divergence_tasks import compare_tasks
from orca_bench.cli.options import DIVERGENCE_TOKEN_COUNT
from orca_bench.cli.result_output import with_lead
from orca_bench.cli.result_words import print_notes
from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.files import write_json, write_text

if TYPE_CHECKING:
    from orca_bench.models.model_folder import ModelFolder
    from orca_bench.report.comparison import Comparison
    from orca_bench.report.divergence_report import DivergenceReport, MeasuredModel
    from orca_bench.report.grid import Grid
    from orca_bench.train.example_encoding import EncodedExamples
    from orca_bench.train.record_files import Record, RecordSource

#: The endings of files that a report can be written to.
REPORT_SUFFIXES = (".md", ".json")


@dataclass(frozen=True)
class RecordFiles:
    """The records of the files and hub sets that a user names, and what is known of each."""

    records: list[Record]
    sources: list[RecordSource]


@dataclass(frozen=True)
class ModelReport:
    """How far models diverge from a reference, and the differences on the tasks where results of all are here."""

    divergence: DivergenceReport
    comparisons: list[Comparison]

    def grids(self) -> list[Grid]:
        """The tables of the report, to be written one below the other; before several of tasks, what they say together."""
        from orca_bench.report import comparison_formats, divergence_report

        task_grids = [comparison_formats.to_grid(comparison) for comparison in self.comparisons]
        return [divergence_report.to_grid(self.divergence), *with_lead(task_grids, lead_sentence(self.comparisons))]

    def to_json(self) -> dict[str, object]:
        """All numbers; `tasks` has those of `orca-bench compare --format json`."""
        from orca_bench.report import comparison_formats, divergence_report

        return divergence_report.to_json(self.divergence) | {"tasks": comparison_formats.to_json(self.comparisons)}


def read_record_files(words: Sequence[str]) -> RecordFiles:
    """Read files and hub sets of records; what was left out of them is named on standard error."""
    from orca_bench.train.record_files import read_records

    records, sources = read_records(words)
    for source in sources:
        for remark in source.remarks:
            progress_message(remark)
    return RecordFiles(records, sources)


def sample_record_file(records: str, option: str, folder: ModelFolder, token_count: int) -> EncodedExamples:
    """Some `token_count` tokens of the records that an option names, in a model's own ids, each within its window.

    Raises UserError, which names the option, where no record keeps a response.
    """
    from orca_bench.train.record_sample import sample_examples

    return sample_examples(
        read_record_files([records]).records,
        folder.tokenizer,
        folder.window_tokens,
        token_count,
        where=f"{option} {records}",
    )


def check_report_paths(paths: Sequence[Path]) -> None:
    """Raise UserError for a file whose ending is none of REPORT_SUFFIXES, or that cannot be where it is to be."""
    for path in paths:
        if path.suffix not in REPORT_SUFFIXES:
            raise UserError(
                f"a report is written as {' or '.join(REPORT_SUFFIXES)}", where=path, hint="give the file that ending"
            )
        if path.is_dir():
            raise UserError("a folder, and a report is a file", where=path)
        if not path.absolute().parent.is_dir():
            raise UserError("no such folder", where=path.parent, hint=f"make it, or name another place for {path.name}")


def report_divergence(
    reference: ModelFolder,
    models: Sequence[ModelFolder],
    record_files: RecordFiles,
    runs_folder: Path,
    token_count: int = DIVERGENCE_TOKEN_COUNT,
    max_length: int | None = None,
) -> ModelReport:
    """Measure models beside a reference over records, with a progress bar, and pair their results below `runs_folder`.

    At least `token_count` response tokens of a random sample of the records are scored, all where there are fewer. A record is
    cut at `max_length` tokens (None: the smallest window of the models). Results are paired before the measurement, so that
    nothing fails after it. Raises UserError for models with other token ids, and where no response is left of the records.
    """
    from orca_bench.evaluate import model_divergence
    from orca_bench.evaluate.request_encoding import ScoredSequence
    from orca_bench.report.divergence_report import DivergenceReport, ScoredRecords
    from orca_bench.stats.token_divergences import summarize_divergences
    from orca_bench.train.record_sample import count_training_examples, sample_responses

    for folder in (reference, *models):
        folder.check_model()
    for model in models:
        model_divergence.check_same_tokens(reference, model)
    length = _cut_length([reference, *models], max_length)
    where, hint = ("--records", "use shorter ones") if max_length is None else ("--max-length", "raise it")
    examples, encoding_report = sample_responses(
        record_files.records, reference.tokenizer, length, token_count, where, hint
    )
    dropped_count = len(encoding_report.dropped_record_indices)
    scored_count = int(examples.trained_token_counts.sum())
    if scored_count < token_count:
        progress_message(
            f"the records have {scored_count:,} response tokens, fewer than {token_count:,}: all are scored"
        )
    if dropped_count:
        progress_message(
            f"{counted(dropped_count, 'record')} left out: cut at {length:,} tokens, they have no response"
        )
    comparisons, task_notes = compare_tasks(reference, models, runs_folder)
    print_notes(task_notes)
    sequences = [
        ScoredSequence(examples.example(index).tolist(), int(examples.prompt_lengths[index]))
        for index in range(len(examples))
    ]
    progress_message(
        f"{counted(scored_count, 'response token')} of {counted(len(examples), 'record')}, {counted(len(models) + 1, 'model')}"
    )
    with counting("tokens") as report_tokens:
        divergences = model_divergence.measure_divergences(reference, models, sequences, report_tokens)
    scored_records = ScoredRecords(
        tuple((source.name, source.sha256) for source in record_files.sources),
        length,
        encoding_report.truncated_count - dropped_count,
        0 if reference.run_folder is None else count_training_examples(examples, reference.run_folder),
        dropped_count,
    )
    divergence_report = DivergenceReport(
        _measured_model(reference),
        tuple(zip(map(_measured_model, models), map(summarize_divergences, divergences), strict=True)),
        scored_records,
        tuple(task_notes),
    )
    return ModelReport(divergence_report, comparisons)


def write_report(report: ModelReport, paths: Sequence[Path]) -> None:
    """Write a report to files, each as its ending says, whole or not at all."""
    from orca_bench.report import grid_formats
    from orca_bench.report.notes import ALL_KINDS

    for path in paths:
        if path.suffix == ".json":
            write_json(path, report.to_json())
        else:
            write_text(path, "\n".join(grid_formats.to_markdown(grid, ALL_KINDS) for grid in report.grids()))


def prepare_export_report(exported_path: Path, record_words: Sequence[str]) -> RecordFiles:
    """Read the records of an export's report before the export; raises UserError where a file of the report exists already."""
    for path in _export_report_paths(exported_path):
        if path.exists():
            raise UserError("exists already", where=path, hint="remove it, or name another file with --out")
    return read_record_files(record_words)


def write_export_report(folder: ModelFolder, exported_path: Path, record_files: RecordFiles, runs_folder: Path) -> None:
    """Measure a file or folder that was exported beside its folder, write the report beside it, and print what it says."""
    from orca_bench.models.model_folder import locate_model
    from orca_bench.report.divergence_report import conclusion

    report = report_divergence(
        folder, [locate_model(str(exported_path), None, progress_message)], record_files, runs_folder
    )
    click.echo(conclusion(report.divergence))
    paths = _export_report_paths(exported_path)
    write_report(report, paths)
    click.echo(f"report: {' and '.join(map(str, paths))}")


def _export_report_paths(exported_path: Path) -> list[Path]:
    stem = exported_path.name.removesuffix(".gguf")
    return [exported_path.with_name(f"{stem}.report{suffix}") for suffix in REPORT_SUFFIXES]


def _cut_length(folders: Sequence[ModelFolder], max_length: int | None) -> int:
    """The length at which records are cut; raises UserError for one that is longer than a model's window."""
    shortest = min(folders, key=lambda folder: folder.window_tokens)
    if max_length is not None and max_length > shortest.window_tokens:
        raise UserError(
            f"{max_length} tokens, and {shortest.path_or_hub_id} has a window of {shortest.window_tokens}",
            where="--max-length",
            hint="give no more than that",
        )
    return max_length or shortest.window_tokens


def _measured_model(folder: ModelFolder) -> MeasuredModel:
    from orca_bench.models.model_size import model_size
    from orca_bench.report.divergence_report import MeasuredModel

    size = model_size(folder)
    file_format: Literal["GGUF", "GPTQ"] | None = (
        "GGUF" if folder.gguf_path is not None else "GPTQ" if folder.gptq_path is not None else None
    )
    return MeasuredModel(folder.name, folder.path_or_hub_id, size.byte_count, size.bits_per_weight, file_format)
