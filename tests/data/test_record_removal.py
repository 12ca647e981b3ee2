"""A clean copy has every record but the faulty ones, byte for byte, and says what went."""

import gzip
import json

import pytest
from planted_records import plain_record, planted_records, write_benchmarks, write_lines

from orca_bench.data.record_check import CheckOptions, check_records, run_record_check
from orca_bench.data.record_checks.finding_kinds import REMOVAL_KEYS
from orca_bench.data.record_removal import clean_copy_paths, parse_removal_keys, remove_records
from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_questions import load_benchmark_questions

ONE = CheckOptions(worker_count=1)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return load_benchmark_questions(write_benchmarks(tmp_path_factory.mktemp("benchmarks")))


def lines_without(path, line_numbers):
    lines = path.read_bytes().splitlines(keepends=True)
    return b"".join(line for number, line in enumerate(lines, 1) if number not in line_numbers)


def test_the_records_that_stay_keep_their_bytes_and_each_removal_has_its_reason(tmp_path, questions):
    source = write_lines(tmp_path / "a.jsonl", planted_records())
    before = source.read_bytes()
    (removal,) = remove_records(run_record_check([source], questions, ONE), tmp_path / "clean")
    assert removal.copy == tmp_path / "clean" / "a.jsonl"
    assert removal.copy.read_bytes() == lines_without(source, {6, 7, 8, 10, 11, 13, 15, 16})
    assert (removal.row_count, removal.removed_count) == (300, 8)
    assert removal.count_by_key == {
        "unknown_columns": 1,
        "empty_instruction": 1,
        "empty_response": 1,
        "placeholder_response": 1,
        "refusal": 1,
        "exact_duplicate": 1,
        "test_overlap": 2,
    }
    assert source.read_bytes() == before
    again = check_records([removal.copy], questions, ONE)
    assert set(again.findings) == {"placeholder_input", "truncated_response", "near_duplicate"}
    assert again.overlap["gsm8k"].questions["test"] == 0


def test_the_kinds_are_the_callers_choice(tmp_path, questions):
    source = write_lines(tmp_path / "a.jsonl", planted_records())
    check = run_record_check([source], questions, ONE)
    keys = parse_removal_keys("training_overlap, near_duplicate,truncated_response")
    assert keys == ("truncated_response", "near_duplicate", "training_overlap")
    (removal,) = remove_records(check, tmp_path / "clean", keys)
    assert removal.copy.read_bytes() == lines_without(source, {12, 14, 17})
    assert parse_removal_keys(",".join(REMOVAL_KEYS)) == REMOVAL_KEYS
    for text, message in (("refusals", "did you mean 'refusal'"), ("", "names no kind"), (",", "names no kind")):
        with pytest.raises(UserError, match=message):
            parse_removal_keys(text)


def test_files_of_one_name_keep_the_folders_that_tell_them_apart(tmp_path):
    rows = [plain_record(0), plain_record(1)]
    for name in ("alpaca", "dolly"):
        (tmp_path / "in" / name).mkdir(parents=True)
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / "in" / name / "train.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))
    check = run_record_check([tmp_path / "in" / name / "train.jsonl.gz" for name in ("dolly", "alpaca")], options=ONE)
    removals = remove_records(check, tmp_path / "clean")
    assert [str(removal.copy.relative_to(tmp_path / "clean")) for removal in removals] == [
        "alpaca/train.jsonl.gz",
        "dolly/train.jsonl.gz",
    ]
    assert [removal.count_by_key for removal in removals] == [{}, {"exact_duplicate": 2}]
    assert gzip.decompress((tmp_path / "clean" / "dolly" / "train.jsonl.gz").read_bytes()) == b""
    kept_bytes = (tmp_path / "clean" / "alpaca" / "train.jsonl.gz").read_bytes()
    assert gzip.decompress(kept_bytes) == gzip.decompress((tmp_path / "in" / "alpaca" / "train.jsonl.gz").read_bytes())


def test_an_input_is_never_replaced_not_through_a_link_either(tmp_path):
    source = write_lines(tmp_path / "in" / "a.jsonl", [plain_record(0)])
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for folder in (tmp_path / "in", tmp_path / "in" / ".", tmp_path / "link"):
        with pytest.raises(UserError, match="is an input, and writing would destroy it"):
            clean_copy_paths([source], folder)


def test_a_file_that_has_changed_since_is_refused(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [plain_record(0), plain_record(1)])
    check = run_record_check([source], options=ONE)
    write_lines(source, [plain_record(1), plain_record(2)])
    with pytest.raises(UserError, match="the file has changed while it was checked"):
        remove_records(check, tmp_path / "clean")


def test_two_copies_with_one_place_are_refused(tmp_path):
    """`link/../a.jsonl` is another file than `a.jsonl`, and has its name."""
    source = write_lines(tmp_path / "in" / "a.jsonl", [plain_record(0)])
    write_lines(tmp_path / "elsewhere" / "a.jsonl", [plain_record(1)])
    (tmp_path / "elsewhere" / "deep").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    with pytest.raises(UserError, match="would be one file"):
        clean_copy_paths([source, tmp_path / "in" / "link" / ".." / "a.jsonl"], tmp_path / "clean")


def test_of_objects_in_one_line_the_right_ones_go(tmp_path, questions):
    texts = [json.dumps(row) for row in planted_records(30)]
    (tmp_path / "a.json").write_text("".join(texts))
    check = run_record_check([tmp_path / "a.json"], questions, ONE)
    (removal,) = remove_records(check, tmp_path / "clean", ("test_overlap",))
    assert removal.copy.read_text() == "".join(text for number, text in enumerate(texts, 1) if number not in (15, 16))


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u0085", "\u2028", "\x1c", "\x1f", "\ufeff", " \t"])
def test_lines_of_any_space_shift_no_number(tmp_path, blank):
    lines = [json.dumps(plain_record(number)) + "\n" for number in range(3)]
    lines[1] = json.dumps(plain_record(1) | {"output": ""}) + "\n"
    place = 0 if blank == "\ufeff" else 1  # a byte order mark stands at the beginning
    lines.insert(place, f"{blank}\n")
    (tmp_path / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    (removal,) = remove_records(run_record_check([tmp_path / "a.jsonl"], options=ONE), tmp_path / "clean")
    assert (removal.row_count, removal.removed_count) == (3, 1)
    assert removal.copy.read_text(encoding="utf-8") == "".join(lines[:2] + lines[3:])


def test_of_near_duplicates_the_first_stays_that_has_no_other_fault(tmp_path):
    """The record that the others repeat goes: it breaks off."""
    text = plain_record(1)["output"].removesuffix(".")
    outputs = [text + " and the", text + ".", text + " indeed."]
    source = write_lines(tmp_path / "a.jsonl", [plain_record(1) | {"output": output} for output in outputs])
    check = run_record_check([source], options=ONE)
    assert check.report.near_duplicates == 2
    (removal,) = remove_records(check, tmp_path / "clean", ("truncated_response", "near_duplicate"))
    assert removal.copy.read_bytes() == lines_without(source, {1, 3})
    assert removal.count_by_key == {"truncated_response": 1, "near_duplicate": 1}
    (removal,) = remove_records(check, tmp_path / "clean2", ("near_duplicate",))
    assert removal.copy.read_bytes() == lines_without(source, {2, 3})


def test_of_exact_duplicates_the_first_stays_that_has_no_other_fault(tmp_path):
    rows = [plain_record(1) | {"input": input_text} for input_text in ("N/A", "", "")]
    source = write_lines(tmp_path / "a.jsonl", rows)
    keys = ("placeholder_input", "exact_duplicate", "near_duplicate")
    (removal,) = remove_records(run_record_check([source], options=ONE), tmp_path / "clean", keys)
    assert removal.copy.read_bytes() == lines_without(source, {1, 3})
    assert removal.count_by_key == {"placeholder_input": 1, "exact_duplicate": 1}
