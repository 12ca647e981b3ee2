"""A report in a file, and the one without texts that a model's folder has."""

import json

import pytest
from data_reports import planted_report, write_planted_report

from orca_bench.errors import UserError
from orca_bench.results.data_report import Finding, read_data_report, write_data_report


@pytest.fixture
def report(mini):
    return planted_report(mini["mini:benchmarks"], {"arc_challenge": {0: 0.5, 3: 1.0}}, {"arc_challenge": [0]})


def test_a_report_is_read_as_it_was_written(tmp_path, report):
    write_data_report(tmp_path / "r.json", report)
    again = read_data_report(tmp_path / "r.json")
    assert again.hits == report.hits and again.benchmarks == report.benchmarks
    assert again.sha256 == report.sha256


def test_the_report_without_texts_has_one_hit_for_each_row_and_kind_and_no_word_of_a_record(tmp_path, report):
    best, worse = report.hits[0], report.hits[0].model_copy(update={"question": 0.1, "record_sha256": "f" * 64})
    training = report.hits[1].model_copy(update={"kind": "training", "split": "train"})
    findings = {"empty": Finding(records=1, examples=["/home/me/records.jsonl:7"])}
    whole = report.model_copy(update={"hits": [worse, *report.hits, training], "findings": findings})
    bare = whole.without_texts()
    assert [(hit.row, hit.kind, hit.question) for hit in bare.hits] == [
        (0, "relative", 1.0),
        (0, "test", best.question),
        (3, "test", 1.0),
    ]
    text = json.dumps(bare.to_json())
    assert "of the row" not in text and "of the record" not in text and "/home" not in text
    assert bare.overlapping_rows("arc_challenge") == whole.overlapping_rows("arc_challenge")
    assert bare.sha256 == whole.sha256 != report.sha256
    write_data_report(tmp_path / "bare.json", bare)
    assert read_data_report(tmp_path / "bare.json").sha256 == whole.sha256
    assert whole.hits[0].record_text, "the report itself keeps its texts"


def test_only_hits_of_the_kind_and_task_count(report):
    assert sorted(report.overlapping_rows("arc_challenge").values()) == [0.5, 1.0]
    assert list(report.overlapping_rows("arc_challenge", "relative").values()) == [1.0]
    assert report.overlapping_rows("gsm8k") == {}
    assert report.covers("arc_challenge", "test") and not report.covers("gsm8k", "test")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{}", "not a report of `orca-bench data check`"),
        ("[]", "not a report of `orca-bench data check`"),
        ('{"format": "orca-bench data report 9"}', "format 'orca-bench data report 9'"),
        ('{"format": "orca-bench data report 1", "files": []}', "records: Field required"),
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path, content, text):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_data_report(tmp_path / "r.json")
    assert text in str(error.value)


def test_a_report_whose_hits_are_not_those_it_counts_is_refused(tmp_path, report):
    path = tmp_path / "r.json"
    for whole in (report, report.without_texts()):
        write_data_report(path, whole.model_copy(update={"hits": whole.hits[:-1]}))
        with pytest.raises(UserError, match="its hits do not agree with its counts: arc_challenge has"):
            read_data_report(path)
    counts = {"test": 2, "relative": 0, "training": 4}
    overlap = {"arc_challenge": report.overlap["arc_challenge"].model_copy(update={"questions": counts})}
    counting = report.model_copy(update={"overlap": overlap})
    write_data_report(path, counting)
    with pytest.raises(UserError, match="0 rows of kind training, and 4 are counted"):
        read_data_report(path)
    write_data_report(path, counting.without_texts())
    assert read_data_report(path).overlap == overlap, "without texts it has no hits on training rows"


def test_reports_made_by_hand_are_whole(tmp_path, mini):
    path = write_planted_report(tmp_path / "r.json", mini["mini:benchmarks"], {"gsm8k": [1]})
    assert json.loads(path.read_text())["format"] == "orca-bench data report 1"
