"""`run_stages.py --at-once`: stages that run together, go on without one that failed, and end at the deadline."""

import signal
import time

from test_run_stages import job  # noqa: F401 -- the fixture
from waiting import PATIENCE_S, eventually

#: One stage first, three copies of what it gives, and one stage that needs two of the copies.
STAGES = """
texts: {program: copy.py}
links:
  source.txt: {holds: the source, variable: TEST_SOURCE, default: "~/no-such-file"}
stages:
  - name: first
    does: copies the source
    commands: ["python {program} source.txt first.txt"]
    needs: [source.txt]
    gives: [first.txt]
    minutes: 1
  - name: copy-{letter}
    for_each: {letter: [a, b, c]}
    does: makes copy {letter}
    commands: ["python {program} first.txt {letter}.txt"]
    needs: [first.txt]
    gives: ["{letter}.txt"]
    minutes: 1
  - name: last
    does: puts two copies together
    commands: ["python {program} a.txt b.txt last.txt > last.log"]
    needs: [a.txt, b.txt]
    gives: [last.txt]
    minutes: 1
"""
STAGES_OF_MINUTES = """
machine: one mill
stages:
  - {name: first, does: it, commands: [python copy.py a.txt], gives: [a.txt], minutes: 1}
  - {name: long, does: it, commands: [python copy.py a.txt b.txt], needs: [a.txt], gives: [b.txt], minutes: 30}
  - {name: middle, does: it, commands: [python copy.py a.txt c.txt], needs: [a.txt], gives: [c.txt], minutes: 20}
  - {name: short, does: it, commands: [python copy.py a.txt d.txt], needs: [a.txt], gives: [d.txt], minutes: 25}
  - {name: last, does: it, commands: [python copy.py b.txt c.txt e.txt], needs: [b.txt, c.txt], gives: [e.txt], minutes: 1}
"""


def test_stages_that_need_one_another_run_in_turn_and_the_others_together(job):  # noqa: F811
    job.list_file.write_text(STAGES)
    job("--stages", "first")
    job.programs()
    (job.work / "wait").touch()
    process = job.start("--at-once", "4")
    eventually(lambda: len((job.work / "ran.txt").read_text().split()) == 3)
    time.sleep(0.2)
    assert sorted(job.programs()) == ["a.txt", "b.txt", "c.txt"], "all copies run, and what needs them does not"
    (job.work / "wait").unlink()
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "5 of 5 stages are done" in out, err
    assert (job.work / "last.txt").read_text() == "ONE\nONE\n"
    assert (job.work / "last.log").read_text() == "wrote last.txt\n"
    assert "wrote a.txt" in (job.work / "logs" / "copy-a.log").read_text()


def test_the_estimate_is_of_as_many_stages_at_a_time_and_of_the_machine_that_the_list_names(job):  # noqa: F811
    job.list_file.write_text(STAGES_OF_MINUTES)
    assert "the other 5 take about 1 h 17 min on one mill\n" in job("--list").stdout
    # `short` begins when `middle` ends, and `last` when `long` does.
    assert "the other 5 take about 46 minutes, 2 at a time, on one mill\n" in job("--list", "--at-once", "2").stdout
    assert "the other 5 take about 32 minutes, 9 at a time, on one mill\n" in job("--list", "--at-once", "9").stdout
    assert "the other 2 take about 31 minutes, 9" in job("--list", "--at-once", "9", "--stages", "first,long").stdout


def test_a_stage_that_fails_holds_up_only_those_that_need_it(job):  # noqa: F811
    job.list_file.write_text(STAGES)
    (job.work / "fail-b.txt").touch()
    failed = job("--at-once", "2")
    assert failed.returncode == 1 and "not done: copy-b, last; the same call goes on" in failed.stderr
    assert "copy-b: failed (exit code 1); the end of logs/copy-b.log:" in failed.stdout
    assert "last: not run, it needs copy-b" in failed.stdout
    assert (job.work / "a.txt").exists() and (job.work / "c.txt").exists()
    (job.work / "fail-b.txt").unlink()
    job.programs()
    assert job("--at-once", "2").returncode == 0 and job.programs() == ["b.txt", "last.txt"]


def test_at_the_deadline_what_is_done_stays_and_the_rest_is_stopped(job):  # noqa: F811
    job.list_file.write_text(STAGES)
    job("--stages", "first,copy-a")
    (job.work / "wait").touch()
    stopped = job("--at-once", "2", "--deadline-seconds", "2")
    assert stopped.returncode == 130 and "2 of 5 stages are done" in stopped.stdout
    assert "not done: copy-b, copy-c, last" in stopped.stderr
    (job.work / "wait").unlink()
    job.programs()
    assert job().returncode == 0 and job.programs() == ["b.txt", "c.txt", "last.txt"]


def test_an_interrupted_run_stops_its_stages(job):  # noqa: F811
    job.list_file.write_text(STAGES)
    (job.work / "wait").touch()
    process = job.start("--at-once", "2")
    eventually(lambda: (job.work / "ran.txt").exists())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "not done: first, copy-a, copy-b, copy-c, last" in err


def test_a_stage_without_a_log_fails_alone_and_the_deadline_holds_for_the_others(job):  # noqa: F811
    job.list_file.write_text(STAGES)
    job("--stages", "first")
    (job.work / "logs").mkdir()
    (job.work / "logs" / "copy-b.log").symlink_to("no-such-folder/copy-b.log")
    (job.work / "wait").touch()
    stopped = job("--at-once", "4", "--deadline-seconds", "2")
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr, stopped.stderr
    assert "copy-b: failed (logs/copy-b.log: cannot write: No such file or directory" in stopped.stdout
    assert "; no log: No such file or directory" in stopped.stdout
    assert "last: not run, it needs copy-b" in stopped.stdout and "1 of 5 stages are done" in stopped.stdout


#: Says that it runs, and then how it was stopped; with any argument the first Ctrl-C does nothing.
STUBBORN_PROGRAM = """
import pathlib, signal, sys, time
if sys.argv[1:]: signal.signal(signal.SIGINT, lambda *_: pathlib.Path("ignored").touch())
pathlib.Path("running").touch()
try:
    time.sleep(600)
except KeyboardInterrupt:
    pathlib.Path("stopped").touch()
"""
TWO_STAGES = """
links:
  source.txt: {holds: the source, variable: TEST_SOURCE, default: "~/no-such-file"}
stages:
  - {name: short, does: it, commands: [python copy.py source.txt a.txt], needs: [source.txt], gives: [a.txt], minutes: 1}
  - {name: long, does: it, commands: [python stubborn.py], needs: [source.txt], gives: [b.txt], minutes: 1}
"""


def test_an_error_while_commands_run_stops_them_first(job):  # noqa: F811
    job.list_file.write_text(TWO_STAGES)
    (job.work / "stubborn.py").write_text(STUBBORN_PROGRAM)
    (job.work / "wait").touch()
    process = job.start("--at-once", "2")
    eventually(lambda: (job.work / "running").exists() and (job.work / "ran.txt").exists())
    process.stdout.close()  # the next report cannot be written
    (job.work / "wait").unlink()
    assert process.wait(PATIENCE_S) == 0 and "Traceback" not in process.stderr.read()
    assert (job.work / "stopped").exists() and (job.work / "a.txt").exists()


def test_a_second_interruption_ends_commands_that_go_on(job):  # noqa: F811
    job.list_file.write_text(TWO_STAGES.replace("stubborn.py]", "stubborn.py on]"))
    (job.work / "stubborn.py").write_text(STUBBORN_PROGRAM)
    process = job.start("--at-once", "2")
    eventually(lambda: (job.work / "running").exists() and (job.work / "a.txt").exists())
    process.send_signal(signal.SIGINT)
    eventually(lambda: (job.work / "ignored").exists())
    start_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert time.monotonic() - start_s < 12, "the commands have 15 s after the first interruption"


def test_stages_are_chosen_by_a_pattern_and_texts_replaced(job):  # noqa: F811
    job.list_file.write_text(STAGES)
    assert job("--stages", "first,copy-*").returncode == 0
    assert sorted(job.programs()) == ["a.txt", "b.txt", "c.txt", "first.txt"]
    assert "$ python other.py a.txt b.txt last.txt" in job("--list", "--text", "program=other.py").stdout
    assert "no text is called 'programme'; did you mean 'program'?" in job.refused("--text", "programme=other.py")
    assert "'program' has no '='" in job.refused("--text", "program")
    assert "0 stages at a time" in job.refused("--at-once", "0")
