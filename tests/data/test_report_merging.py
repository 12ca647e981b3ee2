"""The merged reports of all shards are the report of one check; reports that do not belong together are refused."""

import random

import pytest
from planted_records import planted_records, write_benchmarks, write_lines

from orca_bench.data.record_check import CheckOptions, check_records
from orca_bench.data.record_checks.shards import Shard
from orca_bench.data.report_merging import merge_reports, signatures_path_for
from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_questions import load_benchmark_questions
from orca_bench.files import file_sha256, read_json, write_json
from orca_bench.results.data_report import write_data_report


def shard_reports(folder, files, questions, tokenizer=None, count=3, **options):
    paths = []
    for index in range(1, count + 1):
        path = folder / f"{index}.json"
        shard_options = CheckOptions(
            tokenizer_path=tokenizer,
            worker_count=1,
            shard=Shard(count, index),
            signatures_path=signatures_path_for(path),
            **options,
        )
        write_data_report(path, check_records(files, questions, shard_options))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return load_benchmark_questions(write_benchmarks(tmp_path_factory.mktemp("benchmarks")))


@pytest.fixture
def files(tmp_path):
    rows = planted_records(260)
    for number in range(40):  # more faults than a report names
        rows[200 + number] |= {"input": "none"}
    rows += rows[20:40]
    random.Random(0).shuffle(rows)
    return [
        write_lines(tmp_path / "a.jsonl", rows[:31]),
        write_lines(tmp_path / "a.jsonl.more.jsonl", rows[31:40]),  # its name begins with that of another file
        write_lines(tmp_path / "c.jsonl", rows[40:]),
    ]


@pytest.mark.parametrize("count", [1, 3, 300])
def test_a_merge_gives_the_report_of_one_check(tmp_path, files, questions, mini, count):
    tokenizer = mini["mini:tokenizer"]
    whole = check_records(files, questions, CheckOptions(tokenizer_path=tokenizer, worker_count=1))
    paths = shard_reports(tmp_path, files, questions, tokenizer, count)
    assert (whole.exact_duplicates, whole.near_duplicates, len(whole.hits)) == (21, 1, 3)
    places = [
        (place.rpartition(":")[0], int(place.rpartition(":")[2]))
        for place in whole.findings["exact_duplicate"].examples
    ]
    assert len(places) == 5 and places == sorted(places)
    assert whole.findings["placeholder_input"].records == 41
    random.Random(1).shuffle(paths)
    assert merge_reports(paths).to_json() == whole.to_json()


def test_a_shard_counts_no_duplicates(tmp_path, files, questions):
    report = check_records(files, questions, CheckOptions(worker_count=1, shard=Shard(2, 1)))
    assert report.exact_duplicates is None and report.near_duplicates is None and report.shard == "1/2"
    assert report.records == 140 and sum(file.rows for file in report.files) == 280
    assert not {"exact_duplicate", "near_duplicate"} & set(report.findings)


def test_shards_that_are_missing_twice_or_of_another_number(tmp_path, files, questions):
    first, second, third = shard_reports(tmp_path, files, questions)
    with pytest.raises(UserError, match="shard 2/3 is missing"):
        merge_reports([first, third])
    with pytest.raises(UserError, match=r"2\.json: shard 2/3, as .* is; name each shard once"):
        copy = tmp_path / "copy.json"
        copy.write_bytes(second.read_bytes())
        merge_reports([first, copy, second])
    (tmp_path / "other").mkdir()
    other = shard_reports(tmp_path / "other", files, questions, count=2)[1]
    with pytest.raises(UserError, match=r"2\.json: shard 2/2, and .*1\.json is shard 1/3"):
        merge_reports([first, other, third])
    whole = tmp_path / "whole.json"
    write_data_report(whole, check_records(files, options=CheckOptions(worker_count=1)))
    with pytest.raises(UserError, match=r"whole\.json: a report on all records, not on a shard"):
        merge_reports([whole])


def test_shards_of_other_records_benchmarks_or_lengths(tmp_path, files, questions, mini):
    first, second, third = shard_reports(tmp_path, files, questions)
    (tmp_path / "other").mkdir()
    changes = {
        "other records": lambda report: report["files"][0].update(sha256="0" * 64),
        "other benchmarks": lambda report: report["benchmarks"]["gsm8k"]["test"].update(sha256="0" * 64),
        "another tokenizer or --max-length": lambda report: report.update(
            tokens=dict(tokenizer_sha256="0", max_length=1, cut=0, total=0, longest=0, bin_width=1, histogram=[])
        ),
    }
    for problem, change in changes.items():
        report = read_json(second)
        change(report)
        changed = tmp_path / "other" / "2.json"
        write_json(changed, report)
        with pytest.raises(UserError, match=rf"other/2\.json: a report with {problem} than .*1\.json"):
            merge_reports([first, changed, third])


def test_signatures_must_be_there_and_those_of_the_report(tmp_path, files, questions):
    paths = shard_reports(tmp_path, files, questions, count=2)
    first, second = map(signatures_path_for, paths)
    first_bytes = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=r"1\.signatures\.npz: not the signatures of this report"):
        merge_reports(paths)
    for content in (b"", b"x" * 100, first_bytes[:-200]):
        first.write_bytes(content)
        with pytest.raises(UserError, match=r"1\.signatures\.npz: not the signatures of this report"):
            merge_reports(paths)
    report = read_json(paths[0])
    report["signatures_sha256"] = file_sha256(first)
    write_json(paths[0], report)
    with pytest.raises(UserError, match=r"1\.signatures\.npz: not the signatures of a shard"):
        merge_reports(paths)
    first.unlink()
    with pytest.raises(UserError, match=r"1\.signatures\.npz: no such file; it is written with 1\.json"):
        merge_reports(paths)
