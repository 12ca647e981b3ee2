"""`data check` says on one screen what is in records, writes its report, and refuses what it cannot do before it begins."""

import json
import os
import signal

import psutil
import pytest
from containers import CONTAINERS
from planted_records import GSM8K_QUESTIONS, plain_record, planted_records, write_benchmarks, write_lines
from pseudo_terminal import run_on_terminal
from waiting import PATIENCE_S, eventually

from orca_bench.results.data_report import read_data_report


@pytest.fixture
def folder(tmp_path):
    write_lines(tmp_path / "a.jsonl", planted_records())
    write_benchmarks(tmp_path / "benchmarks")
    return tmp_path


def test_the_whole_check_on_one_screen(command, folder, mini):
    words = ["data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--tokenizer", mini["mini:tokenizer"]]
    process = command(*words, "--max-length", 300, "--report", "out/report.json", "--remove", "clean", "--workers", 1)
    assert process.returncode == 0, process.stderr
    lines = [line.rstrip() for line in process.stdout.splitlines()]
    assert lines[:2] == ["300 records in 1 file", "        300  a.jsonl"]
    assert "exact_duplicate             1   0.3%  a.jsonl:13 = a.jsonl:4" in lines
    assert any(line.startswith("lengths: ") and "longer than 300 tokens" in line for line in lines)
    assert sum("█" in line for line in lines) >= 3 and any(line.endswith("cut") for line in lines)
    assert "GSM8K          2           2               1               –        3" in lines
    assert f"{folder.name}" not in process.stdout and "Marlene the beekeeper" in process.stdout
    assert lines[-2:] == ["report: out/report.json", "picture: out/report.lengths.png"]
    assert "clean/a.jsonl: 292 of 300 rows, 8 removed" in lines and "            2  test_overlap" in lines
    report = read_data_report(folder / "out" / "report.json")
    assert report.records == 300 and report.suite == "small" and report.tokens.max_length == 300
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["report.json", "report.lengths.png"]


def test_the_number_of_records_side_by_side(command, folder):
    words = ["data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--workers", 1]
    assert "Marlene" not in command(*words, "--hits", 0).stdout
    one = command(*words, "--hits", 1).stdout
    assert ">>Marlene" in one and "Ostermoor" not in one  # the longest run of words that both texts have
    assert "Quillfeather" in command(*words, "--hits", 3).stdout  # a training row


def test_records_without_a_fault(command, tmp_path):
    write_lines(tmp_path / "a.jsonl", [plain_record(number) for number in range(5)])
    write_benchmarks(tmp_path / "benchmarks")
    process = command("data", "check", "a.jsonl", "--benchmarks", "benchmarks")
    assert "no faults in the records" in process.stdout and "none (9 rows of 1 task compared)" in process.stdout
    assert process.stdout.splitlines()[-1] == "not searched: system messages"


def test_records_that_were_not_searched_are_counted(command, tmp_path):
    rows = [plain_record(number) for number in range(5)]
    rows[0]["output"], rows[1]["output"], rows[2]["instruction"] = "", "", " "
    write_lines(tmp_path / "a.jsonl", rows)
    write_benchmarks(tmp_path / "benchmarks")
    lines = command("data", "check", "a.jsonl", "--benchmarks", "benchmarks").stdout.splitlines()
    assert lines[-1] == "not searched: system messages, and 3 records (empty_instruction, empty_response)"


def test_the_mini_suite_by_its_name(command, tmp_path, mini):
    rows = [json.loads(line) for line in mini["mini:records"].read_text().splitlines()[:40]]
    write_lines(tmp_path / "a.jsonl", rows)
    process = command("data", "check", "a.jsonl", "--benchmarks", "mini:", "--report", "r.json")
    assert process.returncode == 0, process.stderr
    assert "overlap with mini" in process.stdout
    assert len(read_data_report(tmp_path / "r.json").benchmarks) == 7


def test_the_embedded_records_by_their_name(command, tmp_path, mini):
    process = command(
        "data", "check", "mini:records", "--benchmarks", "mini:", "--tokenizer", "mini:tokenizer", "--hits", 0
    )
    assert process.returncode == 0, process.stderr
    assert (
        "5,800 records in 1 file" in process.stdout
        and "lengths: " in process.stdout
        and "overlap with mini" in process.stdout
    )
    refusal = command("data", "check", "mini:nothing")
    assert (
        refusal.returncode == 2 and "'mini:nothing' is not an embedded file; there are mini:records" in refusal.stderr
    )


def test_the_tasks_can_be_chosen_and_a_missing_split_is_named(command, folder):
    (folder / "benchmarks" / "gsm8k" / "train.jsonl").unlink()
    process = command("data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--tasks", "gsm8k")
    assert process.returncode == 0 and "not compared: the split 'train' of gsm8k" in process.stderr
    line = command.refused("data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--tasks", "drop")
    assert "the split 'validation' of drop is missing" in line
    assert "no such benchmarks directory" in command.refused("data", "check", "a.jsonl", "--benchmarks", "absent")


def test_shards_and_their_merge(command, folder):
    whole = command("data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--report", "whole.json", "--hits", 1)
    for index in (1, 2):
        words = ["data", "check", "a.jsonl", "--benchmarks", "benchmarks", "--shard", f"{index}/2"]
        process = command(*words, "--report", f"{index}.json")
        assert process.returncode == 0, process.stderr
        assert f"150 records in 1 file, shard {index}/2" in process.stdout
        assert "duplicates are counted when all shards are merged" in process.stdout
        assert process.stderr.startswith("next: orca-bench data merge-reports ")
    process = command("data", "merge-reports", "2.json", "1.json", "--out", "merged.json", "--hits", 1)
    assert process.returncode == 0, process.stderr
    assert (folder / "merged.json").read_bytes() == (folder / "whole.json").read_bytes()
    assert process.stdout.replace("merged.json", "whole.json") == whole.stdout
    assert "shard 2/2 is missing" in command.refused("data", "merge-reports", "1.json", "--out", "m.json")
    assert "is an input" in command.refused("data", "merge-reports", "1.json", "2.json", "--out", "1.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-length", "9"], "--max-length: lengths are counted with a tokenizer; add --tokenizer"),
        (["--remove-kinds", "refusal"], "--remove-kinds: nothing is removed; add --remove FOLDER"),
        (["--remove", "clean", "--remove-kinds", "refusl"], "unknown kind 'refusl'; did you mean 'refusal'?"),
        (["--shard", "1/2"], "--shard: a shard has no use but its report"),
        (["--shard", "3/2", "--report", "r.json"], "--shard: '3/2' names no shard"),
        (["--shard", "1/2", "--report", "r.json", "--remove", "clean"], "--shard: "),
        (["--workers", "0"], "--workers"),
        (["--report", "a.jsonl"], "a.jsonl is an input, and writing would destroy it"),
        (["--report", "clean/a.jsonl", "--remove", "clean"], "clean/a.jsonl: two outputs have this name"),
        (["--report", "benchmarks/r.json", "--benchmarks", "benchmarks"], "r.json: in benchmarks, which is an input"),
        (["--report", "r.json", "--tokenizer", "r.lengths.png"], "r.lengths.png is an input"),
        (["--report", "r.json", "--shard", "1/2", "r.signatures.npz"], "r.signatures.npz is an input"),
        (["--report", "benchmarks"], "benchmarks: a folder, not a file"),
        (["--remove", "."], "is an input, and writing would destroy it"),
        (["--tokenizer", "absent.model"], "absent.model: no such tokenizer file or folder"),
        (["--map", "instruction=ask"], "--map: instruction and response are needed"),
        (["--tasks", "chess", "--benchmarks", "benchmarks"], "unknown task 'chess'"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(command, folder, words, message):
    for name in ("r.lengths.png", "r.signatures.npz"):
        (folder / name).write_text("an input")
    before = sorted(file.name for file in folder.iterdir())
    assert message in command.refused("data", "check", "a.jsonl", *words)
    assert sorted(file.name for file in folder.iterdir()) == before


@pytest.mark.parametrize("words", [["--report", "in/r.json"], ["--remove", "in/clean"], ["--remove", "link/clean"]])
def test_nothing_is_written_into_a_folder_that_is_read(command, tmp_path, words):
    write_lines(tmp_path / "in" / "a.jsonl", [plain_record(0)])
    (tmp_path / "link").symlink_to("in")
    assert "in in, which is an input and is read whole" in command.refused("data", "check", "in", *words)
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["a.jsonl"]


def test_rows_cannot_be_taken_out_of_parquet(command, tmp_path):
    (tmp_path / "a.parquet").write_bytes(CONTAINERS["parquet"]([plain_record(0)]))
    line = command.refused("data", "check", "a.parquet", "--remove", "clean")
    assert "rows cannot be taken out of a Parquet or Arrow file; write the records as JSON Lines first" in line
    assert not (tmp_path / "clean").exists()
    assert command("data", "check", "a.parquet").returncode == 0


def test_an_earlier_report_stays_where_a_check_fails(command, folder):
    (folder / "r.json").write_text("earlier")
    (folder / "a.jsonl").write_text("{broken\n{")
    assert "a.jsonl:" in command.refused("data", "check", "a.jsonl", "--report", "r.json")
    assert (folder / "r.json").read_text() == "earlier"


def test_ctrl_c_ends_the_check_and_its_workers(command, tmp_path):
    write_lines(tmp_path / "a.jsonl", [plain_record(number % 500) for number in range(60_000)])
    words = ["data", "check", "a.jsonl", "--workers", "2", "--report", "r.json", "--remove", "clean"]
    process = command.start(*words, start_new_session=True)
    workers = []

    def has_workers():
        assert process.poll() is None, "the check ended before it could be interrupted"
        workers[:] = psutil.Process(process.pid).children()
        return len(workers) >= 2

    try:
        eventually(has_workers)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted" and "Traceback" not in errors
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not alive
    assert not (tmp_path / "r.json").exists()


def test_a_narrow_terminal(folder):
    code, output = run_on_terminal(folder, "data", "check", "a.jsonl", "--benchmarks", "benchmarks", columns=60)
    assert code == 0 and max(len(line.rstrip("\r")) for line in output.splitlines()[2:20]) <= 130
    assert GSM8K_QUESTIONS[0].split()[0] in output
