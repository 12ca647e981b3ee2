"""`make student`: stages that are skipped where they are done, go on after a stop, and run again where an input changed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from finished_runs import make_run
from recorded_inputs import command_parameters
from stage_list import parse_command, read_stage_list
from stage_state import examine
from waiting import PATIENCE_S, eventually

from orca_bench.files import file_sha256

ROOT = Path(__file__).resolve().parents[2]

#: Copies its inputs into its output, in capitals, and notes that it ran; waits while there is a file `wait`.
PROGRAM = """
import pathlib, sys, time
*inputs, output = map(pathlib.Path, sys.argv[1:])
with open("ran.txt", "a") as file: file.write(output.name + "\\n")
while pathlib.Path("wait").exists(): time.sleep(0.05)
if pathlib.Path("fail-" + output.name).exists(): sys.exit("failed")
output.write_text("".join(path.read_text() for path in inputs).upper())
print("wrote", output)
"""
STAGES = """
machine: two cores
texts: {ending: .py, program: "copy{ending}"}
links:
  source.txt: {holds: the source, variable: TEST_SOURCE, default: "~/no-such-file"}
stages:
  - name: first
    does: copies the source
    commands: ["python {program} source.txt a.txt > log.txt"]
    needs: [source.txt]
    gives: [a.txt, log.txt]
    minutes: 1
  - name: second
    does: copies the copy
    commands: ["python {program} a.txt b.txt"]
    needs: [a.txt]
    gives: [b.txt]
    minutes: 70
"""


class Job:
    """A list of stages with its work folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.work = folder / "work"
        self.source = folder / "source.txt"
        self.list_file = folder / "stages.yaml"
        self.work.mkdir()
        (self.work / "copy.py").write_text(PROGRAM)
        self.source.write_text("one\n")
        self.list_file.write_text(STAGES)

    def start(self, *words, **environment):
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tests/student/run_stages.py"), "--file", str(self.list_file), *words],
            env=os.environ
            | {"ORCA_BENCH_RUNS": str(self.work), "TEST_SOURCE": str(self.source), "PYTHONPATH": str(ROOT)}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words, **environment):
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def refused(self, *words, **environment):
        process = self(*words, **environment)
        assert process.returncode == 2 and "Traceback" not in process.stderr, process.stderr
        return process.stderr

    def programs(self):
        """The outputs that were written since the last call, in order."""
        log = self.work / "ran.txt"
        names = log.read_text().split() if log.exists() else []
        log.write_text("")
        return names


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def test_a_stage_that_is_done_is_skipped(job):
    process = job()
    assert process.returncode == 0, process.stderr
    assert "0 of 2 stages are done; the other 2 take about 1 h 11 min on two cores" in process.stdout
    assert job.programs() == ["a.txt", "b.txt"]
    assert (job.work / "b.txt").read_text() == "ONE\n" and (job.work / "log.txt").read_text() == "wrote a.txt\n"
    again = job()
    assert "2 of 2 stages are done; nothing to do" in again.stdout and job.programs() == []


def test_the_list_shows_commands_and_runs_none(job):
    text = job("--list").stdout
    assert "first — to do" in text and "second — after others: after first" in text
    assert "  $ python copy.py source.txt a.txt > log.txt" in text and "  needs a.txt\n  gives b.txt" in text
    assert job.programs() == []


def test_a_stage_that_was_stopped_goes_on_by_the_same_command(job):
    (job.work / "wait").touch()
    process = job.start()
    eventually(lambda: (job.work / "ran.txt").exists())
    assert "another process runs stage first here; wait until it ends" in job.refused()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "the same call goes on from here" in err
    assert not (job.work / "log.txt").exists(), "half an output has not got its name"
    (job.work / "wait").unlink()
    job.programs()
    assert job().returncode == 0 and job.programs() == ["a.txt", "b.txt"]


def test_only_what_is_not_done_runs_after_a_failure(job):
    job("--stages", "first")
    assert job.programs() == ["a.txt"]
    (job.work / "fail-b.txt").touch()
    failed = job()
    assert failed.returncode == 1 and "stage second ended with exit code 1" in failed.stderr
    (job.work / "fail-b.txt").unlink()
    job.programs()
    assert job().returncode == 0 and job.programs() == ["b.txt"]


def test_a_changed_input_makes_its_stage_and_those_after_it_run_again(job):
    job()
    job.programs()
    job.source.write_text("two\n")
    process = job()
    assert "first                    again: source.txt has changed" in process.stdout
    assert "a.txt is now replaced/a.txt.old-1" in process.stdout, "nothing that was computed is lost"
    assert job.programs() == ["a.txt", "b.txt"] and (job.work / "b.txt").read_text() == "TWO\n"
    assert (job.work / "replaced" / "a.txt.old-1").read_text() == "ONE\n"


def test_a_stage_whose_inputs_come_out_the_same_is_not_run_again(job):
    job()
    job.programs()
    job.source.write_text("ONE\n")
    process = job()
    assert job.programs() == ["a.txt"] and "second: done, its inputs are what they were" in process.stdout
    assert not (job.work / "replaced" / "a.txt.old-1").exists(), "a copy with the same bytes is of no use"


def test_an_input_that_changes_while_its_stage_runs_makes_it_run_again(job):
    (job.work / "wait").touch()
    process = job.start("--stages", "first")
    eventually(lambda: (job.work / "ran.txt").exists())
    job.source.write_text("two\n")
    (job.work / "wait").unlink()
    process.communicate(timeout=PATIENCE_S)
    assert "first — again: source.txt has changed" in job("--list").stdout


def test_the_folder_of_an_output_is_made_for_commands_that_make_none(job):
    write_list(job, "python copy.py copy.py new/folder/a.txt", ["copy.py"], ["new/folder/a.txt"])
    assert job().returncode == 0 and (job.work / "new" / "folder" / "a.txt").is_file()


def test_changed_commands_are_run(job):
    job()
    job.programs()
    job.list_file.write_text(STAGES.replace("a.txt b.txt", "a.txt a.txt b.txt"))
    assert "second                   again: its commands have changed" in job().stdout
    assert job.programs() == ["b.txt"] and (job.work / "b.txt").read_text() == "ONE\nONE\n"


def test_a_damaged_output_is_named_and_written_again(job):
    job()
    job.programs()
    (job.work / "a.txt").write_text("ONE?")
    process = job()
    assert "first                    again: a.txt is damaged: not as the stage wrote it" in process.stdout
    assert job.programs() == ["a.txt"] and (job.work / "a.txt").read_text() == "ONE\n"


def test_a_part_of_the_stages_is_run_by_name(job):
    assert "needs a.txt of stage first, which is not done; add first" in job.refused("--stages", "second")
    assert job("--stages", "second,first").returncode == 0 and job.programs() == ["a.txt", "b.txt"]
    assert "no stage is called 'secnd'; did you mean 'second'?" in job.refused("--stages", "secnd")


def test_files_that_are_not_there_are_named_with_the_variable_that_names_them(job):
    missing = job.folder / "nothing"
    message = job.refused(TEST_SOURCE=str(missing))
    assert f"{missing}: no such file or folder (the source); name it with TEST_SOURCE=…" in message
    assert "is in the checkout" in job.refused(ORCA_BENCH_RUNS=str(ROOT / "runs"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("> log.txt", "| tee log.txt", "stage first: '|' needs a shell"),
        ("python {program} a.txt", "cp a.txt", "stage second: not a command of this job"),
        ("python {program} a.txt", "python {programme} a.txt", "no text is called 'programme'"),
        ("name: second", "name: first", "two stages have this name"),
        ("gives: [b.txt]", "gives: [a.txt]", "a.txt is given by stage first too"),
        ("needs: [source.txt]", "needs: [b.txt]", "stage first: needs b.txt, which stage second gives"),
        ("minutes: 70", "minuets: 70", "stages.1."),
        ("name: second", "name: second-{letter}", "no text is called 'letter'"),
        ("name: second", "name: second\n    for_each: {ending: [a]}", "ending is a text too"),
    ],
)
def test_a_list_that_cannot_be_run_in_its_order_is_refused(job, old, new, message):
    job.list_file.write_text(STAGES.replace(old, new))
    assert message in job.refused("--list")


def write_list(job, command, needs, gives):
    stage = {"name": "only", "does": "it", "commands": [command], "needs": needs, "gives": gives, "minutes": 1}
    job.list_file.write_text(json.dumps({"stages": [stage]}))


def test_a_training_that_was_done_by_hand_counts_by_its_manifest(job):
    (job.work / "records.jsonl").write_text('{"instruction": "a", "response": "b"}\n')
    entry = {"name": "records.jsonl", "rows": 1, "sha256": file_sha256(job.work / "records.jsonl"), "commit": None}
    run = make_run(job.work, records=[entry])
    (run / "model" / "config.json").write_text('{"dtype": "float32"}')
    (job.work / "base").mkdir()
    (job.work / "base" / "config.json").write_text("{}")
    write_list(job, "orca-bench train runs/tiny/draft.yaml", ["base"], ["runs/tiny"])
    job("--list")
    (job.work / "base" / "config.json").write_text('{"a": 1}')
    assert "only — again: base/config.json has changed" in job("--list").stdout, "a manifest does not say which base"
    (job.work / "stages" / "only.json").unlink()
    write_list(job, "orca-bench train runs/tiny/draft.yaml", ["records.jsonl"], ["runs/tiny"])
    assert "only — done: by what its output records" in job("--list").stdout
    write_list(job, "orca-bench train runs/tiny/draft.yaml -o train.lr=1e-3", ["records.jsonl"], ["runs/tiny"])
    assert "only — again: its commands have changed; runs/tiny is a run of another recipe" in job("--list").stdout
    write_list(job, "orca-bench train runs/tiny/draft.yaml", ["records.jsonl"], ["runs/tiny"])
    (job.work / "records.jsonl").write_text('{"instruction": "a", "response": "c"}\n')
    assert "records.jsonl: has changed since the run in runs/tiny read it" in job("--list").stdout
    (run / "manifest.json").write_text(json.dumps({"status": "interrupted", "orca_bench": "0"}))
    (job.work / "stages" / "only.json").unlink()
    assert "only — goes on: runs/tiny is interrupted" in job("--list").stdout


def test_of_a_damaged_run_the_model_alone_is_moved_aside(job, monkeypatch):
    run = make_run(job.work, records=[])
    (run / "model" / "config.json").write_text('{"dtype": "float32"}')
    (run / "model" / "model.safetensors").write_text("weights")
    (run / "metrics.jsonl").write_text("{}")
    write_list(job, "orca-bench train runs/tiny/draft.yaml", [], ["runs/tiny"])
    assert "only — done" in job("--list").stdout
    (run / "model" / "README.md").write_text("a card with scores")
    assert "only — done" in job("--list").stdout, "publish writes the card there"
    (run / "model" / "model.safetensors").write_text("others")
    assert "only — again: runs/tiny/model/model.safetensors is damaged" in job("--list").stdout
    monkeypatch.chdir(job.work)
    stage_list = read_stage_list(job.list_file)
    assert examine(stage_list.stages[0], stage_list, {}).paths_to_move == (Path("runs/tiny/model"),)
    (run / "metrics.jsonl").write_text("")
    assert examine(stage_list.stages[0], stage_list, {}).paths_to_move == (Path("runs/tiny"),)


def test_an_evaluation_that_was_done_by_hand_counts_by_its_result(job, command_in, tiny_model):
    words = f"eval --model {tiny_model} --tasks winogrande --limit 2 --benchmarks mini: --out a.json"
    gives = ["a.json", "a.questions.jsonl"]
    process = command_in(job.work)(*words.split())
    assert process.returncode == 0, process.stderr
    write_list(job, f"orca-bench {words}", [str(tiny_model)], gives)
    assert "only — done: by what its output records" in job("--list").stdout
    write_list(job, f"orca-bench {words.replace('--limit 2', '--limit 3')}", [str(tiny_model)], gives)
    assert "a.json is of another number of questions of winogrande" in job("--list").stdout
    write_list(job, f"orca-bench {words} --protocol leaderboard", [str(tiny_model)], gives)
    assert "a.json is of protocol orca, not leaderboard" in job("--list").stdout
    (job.work / "stages" / "only.json").unlink()
    write_list(job, f"orca-bench {words}", [str(tiny_model)], gives)
    (job.work / "a.json").write_text((job.work / "a.json").read_text().replace('"n": 2', '"n": 3'))
    assert "only — again: a.json was changed after it was written" in job("--list").stdout
    (job.work / "a.json").write_text('{"format": "orca-bench result 3"')
    assert "only — again: a.json: not a JSON file" in job("--list").stdout


def test_what_is_committed_is_not_replaced_by_another_machine(job):
    job.list_file.write_text(f"{STAGES}    is_committed: true\n")
    (job.work / "b.txt").write_text("of another machine")
    listed = job("--list").stdout
    assert "first — to do" in listed and "second — done: committed; nothing here says what it was made from" in listed
    for _ in range(2):
        assert job().returncode == 0
    assert job.programs() == ["a.txt"] and (job.work / "b.txt").read_text() == "of another machine"


def test_what_is_committed_and_was_made_here_follows_its_inputs_in_one_call(job):
    job.list_file.write_text(f"{STAGES}    is_committed: true\n")
    assert job().returncode == 0 and job.programs() == ["a.txt", "b.txt"]
    job.source.write_text("two\n")
    assert (
        job().returncode == 0 and job.programs() == ["a.txt", "b.txt"] and (job.work / "b.txt").read_text() == "TWO\n"
    )
    (job.work / "a.txt").unlink()
    (job.work / "log.txt").unlink()
    assert "second — done: committed; nothing here says what it was made from" in job("--list").stdout


def test_no_stage_runs_on_what_a_stage_that_was_not_chosen_should_make_again(job):
    third = """
  - name: third
    does: copies both
    commands: ["python {program} a.txt b.txt c.txt"]
    needs: [a.txt, b.txt]
    gives: [c.txt]
    minutes: 1
    is_committed: true
"""
    job.list_file.write_text(STAGES + third)
    assert job().returncode == 0
    job.source.write_text("two\n")
    for name in ("a.txt", "log.txt"):
        (job.work / name).unlink()
    job.programs()
    assert "stage third cannot run: after second" in job.refused("--stages", "first,third")
    assert job.programs() == ["a.txt"] and (job.work / "c.txt").read_text() == "ONE\nONE\n"


def test_a_link_that_leads_nowhere_is_made_again(job):
    (job.work / "source.txt").symlink_to(job.folder / "gone" / ".." / "source.txt")
    assert job().returncode == 0 and job.programs() == ["a.txt", "b.txt"]


@pytest.mark.parametrize("path", ["stages.yaml", "one-gpu/stages.yaml"])
def test_the_commands_of_the_projects_own_lists_are_commands(path):
    stage_list = read_stage_list(ROOT / "results" / "smollm2-orca" / path)
    for stage in stage_list.stages:
        for text in stage.commands:
            command = parse_command(text, stage.name)
            if command.words[0] == "orca-bench":
                command_parameters(command)
            else:
                assert (ROOT / command.words[1].removeprefix("checkout/")).is_file(), text
            assert "{" not in text, text
        for needed in stage.needs:
            is_link = Path(needed).parts[0] in stage_list.links
            is_of_checkout = needed.startswith("checkout/")
            assert is_link or is_of_checkout or stage_list.giver_of(needed), f"{stage.name}: nothing gives {needed}"
