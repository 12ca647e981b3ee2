"""A recipe and the report on its records in; out, the report in the run, its summary in the manifest, its hashes in models.

The report says which benchmark questions the records contain (`orca-bench data check`), so that every score of the model can be
stated without them. It changes no number that training computes. Its own module because it is checked before a run starts, and
may be added to one that is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from orca_bench import row_files
from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.results.data_report import (
    DATA_REPORT_FILE_NAME,
    DataReport,
    OverlapKind,
    read_data_report,
    write_data_report,
)
from orca_bench.suite import TASK_BY_NAME
from orca_bench.train import record_files
from orca_bench.train.run_folder import Run

#: Makes the report on a recipe's records with the benchmarks that it names.
MakeDataReport: TypeAlias = Callable[[], DataReport]

_HINT = "make it anew with `orca-bench data check` on the files of data.records"


def report_of_recipe(recipe: Recipe, make_report: MakeDataReport | None) -> DataReport | None:
    """The report that a recipe names, or that is made with its benchmarks; None where it has neither, or nothing makes one.

    Raises UserError where it cannot be read or made, and where it is of other records than the recipe's.
    """
    if recipe.data.report is None and (recipe.data.benchmarks is None or make_report is None):
        return None
    for name in recipe.data.records:
        path = Path(name)
        if row_files.has_data_file_ending(path) and not row_files.is_path_pattern(path) and not path.exists():
            raise UserError("no such file", where=name)  # as the training would say later
    sha256_by_name = record_files.hash_sources(recipe.data.records)
    for name, sha256 in sha256_by_name.items():
        if sha256 is None:
            raise UserError(
                f"{name} is on the hub, and only files of records have reports",
                where="data.records",
                hint="name its files, or leave data.report and data.benchmarks out",
            )
    if recipe.data.report is not None:
        report, where = read_data_report(Path(recipe.data.report)), recipe.data.report
    else:
        assert make_report is not None
        report, where = make_report(), "data.benchmarks"
    _check_records(sha256_by_name, report, where)
    return report


def _check_records(sha256_by_name: Mapping[str, str | None], report: DataReport, report_path: str) -> None:
    """Raise UserError where a report is of a part of some records, or of other ones; files are compared by their hash."""
    if report.shard is not None:
        raise UserError(
            f"the report of shard {report.shard} alone",
            where=report_path,
            hint="merge the reports of all shards with `orca-bench data merge-reports`",
        )
    for name, sha256 in sha256_by_name.items():
        if sha256 not in report.record_hashes:
            raise UserError(f"made for other records: {name} is not among its files", where=report_path, hint=_HINT)
    for file in report.files:
        if file.sha256 not in sha256_by_name.values():
            raise UserError(
                f"made for other records: {file.name} is not in data.records", where=report_path, hint=_HINT
            )


def overlap_remark(report: DataReport) -> str:
    """Which test questions and training rows of the benchmarks the records contain, in one line."""
    if not report.overlap:
        return "the report compares no benchmark"
    test_counts, training_counts = (_counts_by_title(report, kind) for kind in ("test", "training"))
    remark = f"test questions of the benchmarks are in the records: {test_counts}; scores of the model say so"
    if not test_counts:
        remark = "no test question of the benchmarks is in the records"
    return f"{remark}; training rows of the benchmarks: {training_counts}" if training_counts else remark


def _counts_by_title(report: DataReport, kind: OverlapKind) -> str:
    """`GSM8K 969, DROP 2`: how many rows of each benchmark stand in the records, of those that have any."""
    return ", ".join(
        f"{TASK_BY_NAME[name].title if name in TASK_BY_NAME else name} {overlap.questions[kind]:,}"
        for name, overlap in report.overlap.items()
        if overlap.questions.get(kind)
    )


def store_report(run: Run, recipe: Recipe, report: DataReport) -> None:
    """Write a report into the run's folder, its summary into the manifest, and its hashes into models that are there already."""
    write_data_report(run.data_report_file, report)
    run.update_manifest(data_report=_manifest_entry(recipe, report))
    for model_folder in (run.model, *sorted(run.exports_folder.glob("*"))):
        if (model_folder / "config.json").is_file():
            write_data_report(model_folder / DATA_REPORT_FILE_NAME, report.without_texts())


def lacks_report(run: Run, recipe: Recipe) -> bool:
    """Whether a recipe names a report, or benchmarks, that the run's report does not come from.

    A named report that is another one by now is compared by its hash; one that is gone is taken to be the same. Raises UserError
    where it cannot be read.
    """
    source = _source_of(recipe)
    entry = run.readable_manifest.get("data_report")
    known_source = entry.get("source") if isinstance(entry, dict) else None
    if source is None:
        return False
    if known_source != source or not run.data_report_file.is_file():
        return True
    report_file = None if recipe.data.report is None else Path(recipe.data.report)
    if report_file is None or not report_file.is_file():
        return False
    return not isinstance(entry, dict) or entry.get("sha256") != read_data_report(report_file).sha256


def report_for_models(run: Run) -> DataReport | None:
    """What each model of the run has of its report; None where there is none."""
    return read_data_report(run.data_report_file).without_texts() if run.data_report_file.is_file() else None


def _source_of(recipe: Recipe) -> str | None:
    return recipe.data.report or recipe.data.benchmarks


def _manifest_entry(recipe: Recipe, report: DataReport) -> dict[str, Any]:
    """Where a report comes from, its hash, and by task how many questions are in how many records, by kind."""
    return {
        "source": _source_of(recipe),
        "sha256": report.sha256,
        "suite": report.suite,
        "records": report.records,
        "tasks": {name: overlap.to_json() for name, overlap in report.overlap.items()},
    }
