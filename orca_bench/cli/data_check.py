"""`orca-bench data check` and `merge-reports`: records in; out, what is in them and which test questions they contain."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.errors import UserError

if TYPE_CHECKING:
    from orca_bench.data.record_check import RecordCheck
    from orca_bench.results.data_report import BenchmarkQuestions, DataReport

_DEFAULT_HITS = 3


@click.command("check", short_help="Show faults in records, and the test questions that they contain.")
@click.argument("files", nargs=-1, required=True, type=options.PATH)
@click.option(
    "--benchmarks",
    type=options.PATH,
    metavar="DIR",
    help="Folder of benchmark rows to compare the records with: TASK/SPLIT.jsonl.gz as for eval; mini: is the embedded mini "
    "suite.  [default: none]",
)
@options.tasks
@click.option(
    "--tokenizer",
    type=options.PATH,
    metavar="FILE|FOLDER",
    help="The student's tokenizer.model or model folder: count the tokens of each example in the Orca prompt.",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens at which training cuts an example, as data.max_length of the recipe.  [default: 1024]",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="KEY=COLUMN,…",
    help="Columns to read, as for data convert.",
)
@click.option(
    "--report",
    type=options.PATH,
    metavar="FILE",
    help="Write the report to this JSON file, and the picture of lengths beside it; training and eval read it.",
)
@click.option(
    "--remove",
    type=options.PATH,
    metavar="FOLDER",
    help="Write a copy of each file without faulty records into this folder; the records that stay keep their bytes.",
)
@click.option(
    "--remove-kinds",
    metavar="KIND,…",
    help="What --remove takes out, by the names of the table, and test_overlap, training_overlap, relative_overlap.  [default: "
    "what training cannot use, refusal, exact_duplicate, test_overlap]",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one for each core]")
@click.option(
    "--shard",
    "shard_text",
    metavar="I/N",
    help="Check every N-th record only, from the I-th on, and write --report for data merge-reports.",
)
@click.option(
    "--hits",
    type=click.IntRange(min=0),
    default=_DEFAULT_HITS,
    show_default=True,
    help="Records to show beside the benchmark rows that they have.",
)
@options.runs
def check(
    files: tuple[Path, ...],
    benchmarks: Path | None,
    tasks: str,
    tokenizer: Path | None,
    max_length: int | None,
    mapping: tuple[str, ...],
    report: Path | None,
    remove: Path | None,
    remove_kinds: str | None,
    workers: int | None,
    shard_text: str | None,
    hits: int,
    runs: Path,
) -> None:
    """Check FILES of records or instructions: faults, duplicates, lengths, and benchmark questions in them.

    FILES are read as by data convert. Named are rows that are no records, missing and refused responses ("As an AI language
    model, …"), responses that break off, placeholders for an input, and duplicates: the same texts, or nearly the same (Jaccard
    similarity of at least 0.8 of their sequences of three words). With --benchmarks, every record is compared with every row of
    the tasks, those that few-shot examples come from too: verbatim, reworded in a word, embedded in other text, with shuffled or
    without choices. With --tokenizer, the lengths of the examples are shown, and how many training would cut.

    The exit code is 0 also where something is found. The report is the same whatever the order of FILES and the number of
    workers. Large sets can be checked in parts on several machines (--shard), whose reports data merge-reports puts together.

    \b
      orca-bench data check records/mine.jsonl
      orca-bench data check alpaca.json dolly.jsonl.gz --benchmarks path/to/benchmarks --report records/report.json
      orca-bench data check records/mine.jsonl --tokenizer path/to/llama --max-length 2048
      orca-bench data check records/mine.jsonl --benchmarks mini: --remove records/clean
      orca-bench data check mini:records --benchmarks mini: --tokenizer mini:tokenizer
      orca-bench data check big-*.parquet --benchmarks path/to/benchmarks --shard 2/8 --report part-2.json
    """
    from orca_bench import mini
    from orca_bench.cli.console import counting
    from orca_bench.cli.data_check_display import show_data_report
    from orca_bench.cli.interrupts import interruptible
    from orca_bench.data import column_shapes, record_check, record_removal
    from orca_bench.data.record_checks.shards import parse_shard
    from orca_bench.data.report_merging import signatures_path_for
    from orca_bench.files import make_writable_folder

    files = tuple(mini.resolve_path(file, runs, "FILES") for file in files)
    tokenizer = None if tokenizer is None else mini.resolve_path(tokenizer, runs, "--tokenizer")
    shard = None if shard_text is None else parse_shard(shard_text)
    if max_length is not None and tokenizer is None:
        raise UserError("lengths are counted with a tokenizer", where="--max-length", hint="add --tokenizer")
    if remove_kinds is not None and remove is None:
        raise UserError("nothing is removed", where="--remove-kinds", hint="add --remove FOLDER")
    if shard is not None and (report is None or remove is not None):
        raise UserError(
            "a shard has no use but its report, and its records are not all",
            where="--shard",
            hint="write --report FILE, and leave out --remove",
        )
    removal_keys = record_removal.parse_removal_keys(remove_kinds)
    record_files = record_check.record_files_of(files)
    copies = [] if remove is None else record_removal.clean_copy_paths(record_files, remove)
    signatures_path = None if shard is None or report is None else signatures_path_for(report)
    inputs = [*record_files, *files, *(path for path in (benchmarks, tokenizer) if path is not None)]
    _check_outputs([*_report_outputs(report), *([signatures_path] if signatures_path else []), *copies], inputs)
    if report is not None:
        make_writable_folder(report.parent)
    if remove is not None:
        make_writable_folder(remove)
    check_options = record_check.CheckOptions(
        tokenizer_path=tokenizer,
        max_length=record_check.DEFAULT_MAX_LENGTH if max_length is None else max_length,
        column_shape=column_shapes.shape_of_options(mapping),
        worker_count=workers,
        shard=shard,
        signatures_path=signatures_path,
    )
    questions = None if benchmarks is None else _load_questions(benchmarks, tasks, runs)
    with interruptible(), counting("checking") as progress:
        checked = record_check.run_record_check(files, questions, check_options, progress)
    _write_report(checked.report, report)
    show_data_report(checked.report, hits)
    if remove is not None:
        _remove(checked, remove, removal_keys)
    _print_written(checked.report, report)


@click.command("merge-reports", short_help="Put the reports of all shards together.")
@click.argument("reports", nargs=-1, required=True, type=options.PATH)
@click.option("--out", required=True, type=options.PATH, metavar="FILE", help="The report to write.")
@click.option(
    "--hits",
    type=click.IntRange(min=0),
    default=_DEFAULT_HITS,
    show_default=True,
    help="Records to show beside the benchmark rows that they have.",
)
def merge_shard_reports(reports: tuple[Path, ...], out: Path, hits: int) -> None:
    """Put the REPORTS of all shards together: the same report as that of one check of all records.

    Beside each report must stand its file of signatures, from which duplicates in different shards are counted. The records
    themselves are not needed.

    \b
      orca-bench data merge-reports part-1.json part-2.json --out report.json
    """
    from orca_bench.cli.console import counting
    from orca_bench.cli.data_check_display import show_data_report
    from orca_bench.data.report_merging import merge_reports, signatures_path_for
    from orca_bench.files import make_writable_folder

    _check_outputs(_report_outputs(out), [*reports, *map(signatures_path_for, reports)])
    make_writable_folder(out.parent)
    with counting("merging") as progress:
        merged = merge_reports(reports, progress)
    _write_report(merged, out)
    show_data_report(merged, hits)
    _print_written(merged, out)


def _report_outputs(report: Path | None) -> list[Path]:
    return [] if report is None else [report, _picture_path_for(report)]


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse an output that is an input, stands in an input folder or is another output, before the work begins.

    What is written into an input folder would be read as an input by the next run of the same command.
    """
    from orca_bench.results.output_files import check_output_file

    input_by_real_path = {os.path.realpath(path): path for path in reversed(inputs)}
    output_by_real_path: dict[str, Path] = {}
    for output in outputs:
        if output.is_dir():
            raise UserError("a folder, not a file", where=output, hint="name another file")
        check_output_file(output, inputs)
        real_path = os.path.realpath(output)
        if output_by_real_path.setdefault(real_path, output) is not output:
            raise UserError("two outputs have this name", where=output, hint="name another file or folder")
        for folder in Path(real_path).parents:
            input_path = input_by_real_path.get(str(folder))
            if input_path is not None:
                hint = "name a place outside of it"
                raise UserError(f"in {input_path}, which is an input and is read whole", where=output, hint=hint)


def _picture_path_for(report: Path) -> Path:
    return report.with_name(f"{report.name.removesuffix('.json')}.lengths.png")


def _load_questions(benchmarks: Path, tasks: str, runs: Path) -> BenchmarkQuestions:
    from orca_bench import mini
    from orca_bench.cli.console import progress_message
    from orca_bench.evaluate.benchmark_questions import load_benchmark_questions
    from orca_bench.evaluate.tasks import select

    folder = mini.resolve_benchmarks(benchmarks, runs)
    assert folder is not None, "only None becomes None"
    return load_benchmark_questions(folder, select(tasks), progress_message)


def _write_report(report: DataReport, path: Path | None) -> None:
    from orca_bench.results.data_report import write_data_report

    if path is None:
        return
    write_data_report(path, report)
    if report.tokens is not None:
        from orca_bench.data.record_checks.length_picture import write_length_picture

        write_length_picture(report.tokens, sum(report.tokens.histogram), _picture_path_for(path))


def _print_written(report: DataReport, path: Path | None) -> None:
    if path is None:
        return
    click.echo(f"\nreport: {path}")
    if report.tokens is not None:
        click.echo(f"picture: {_picture_path_for(path)}")
    if report.shard is not None:
        from orca_bench.cli.console import next_step

        count = report.shard.partition("/")[2]
        click.echo(f"signatures, for the merge of all {count} shards: beside it")
        next_step("data", "merge-reports", path, "…", "--out", path.with_name("report.json"))


def _remove(checked: RecordCheck, folder: Path, removal_keys: Sequence[str]) -> None:
    from orca_bench.cli.data_check_display import removal_lines
    from orca_bench.data.record_removal import remove_records

    click.echo("")
    for removal in remove_records(checked, folder, removal_keys):
        left_count = removal.row_count - removal.removed_count
        click.echo(f"{removal.copy}: {left_count:,} of {removal.row_count:,} rows, {removal.removed_count:,} removed")
        for line in removal_lines(removal.count_by_key):
            click.echo(line)
