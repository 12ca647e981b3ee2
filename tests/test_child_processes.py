"""What a command started ends with it, however either ends."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from waiting import PATIENCE_S, eventually

from orca_bench import child_processes

# A command that starts a launcher, which starts a worker in a session of its own; each prints its id.
WORKER = """
import os, sys, time
from orca_bench import child_processes
child_processes.end_with_command()
print(os.getpid(), flush=True)
time.sleep(10_000)
"""
LAUNCHER = f"""
import os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {WORKER!r}], start_new_session=True)
print(os.getpid(), flush=True)
worker.wait()
"""
COMMAND = f"""
import os, signal, subprocess, sys, time
from orca_bench.child_processes import Lifeline
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which ignores it
with Lifeline("a test") as line:
    child = subprocess.Popen([sys.executable, "-c", {LAUNCHER!r}], env=os.environ | line.environment)
    print(os.getpid(), flush=True)
    if "wait" in sys.argv:
        child.wait()
    else:
        sys.stdin.readline()
"""


@pytest.fixture
def family(tmp_path):
    """The ids of a command, its launcher and its worker, all running; started as `family("wait")`."""
    processes = []

    def start(*words):
        command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            text=True,
        )
        processes.extend([command, *(psutil.Process(int(command.stdout.readline())) for _ in range(3))])
        by_depth = sorted(processes[1:], key=lambda process: len(process.parents()))
        return [command, *by_depth[1:]]

    yield start
    for process in processes:
        if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
            process.kill()


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(*family):
    """Wait until all have ended; one that only waits for its parent to read its exit code has."""
    eventually(lambda: not any(map(alive, family)))


def test_a_command_that_ends_ends_launcher_and_worker(family):
    command, launcher, worker = family()
    assert sorted(child_processes.running_process_ids("a test")) == sorted([launcher.pid, worker.pid])
    command.communicate("\n")
    await_end(launcher, worker)
    assert child_processes.running_process_ids("a test") == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_killed_takes_launcher_and_worker_with_it(family, number):
    command, launcher, worker = family("wait")
    command.send_signal(number)
    await_end(launcher, worker)


def test_a_launcher_that_is_killed_takes_its_worker_with_it(family):
    command, launcher, worker = family()
    launcher.kill()
    await_end(worker)
    assert command.poll() is None


def test_a_command_that_lost_its_launcher_first_still_ends_the_worker(family):
    command, launcher, worker = family()
    worker.suspend()  # it cannot notice anything now
    launcher.kill()
    command.communicate("\n")
    await_end(worker)


def test_a_process_that_starts_after_its_command_has_ended_ends_at_once():
    with child_processes.Lifeline("a test") as line:
        environment = os.environ | line.environment
    late = subprocess.run([sys.executable, "-c", WORKER], env=environment, capture_output=True, timeout=PATIENCE_S)
    assert (late.stdout, late.stderr) == (b"", b"")
    script = """
        import os
        from orca_bench.child_processes import Lifeline
        print(Lifeline("a test").environment, flush=True)
        os.kill(os.getpid(), 9)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    orphan = [sys.executable, "-c", WORKER]
    subprocess.run(orphan, env=os.environ | eval(killed.stdout), capture_output=True, timeout=PATIENCE_S)
    folder = os.path.dirname(next(path for path in eval(killed.stdout).values() if path.endswith("lifeline")))
    assert not os.path.exists(folder)


def test_a_process_without_a_lifeline_goes_on():
    worker = WORKER.replace("10_000", f"{3 * child_processes._POLL_INTERVAL_S}") + "print('done')"
    process = subprocess.run([sys.executable, "-c", worker], capture_output=True, text=True)
    assert process.stdout.endswith("done\n")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_threads_come_from_the_cores_that_a_process_may_use():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from orca_bench import library_settings; print(library_settings.core_count())"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "1\n"


def test_a_process_that_ends_at_once_writes_its_output_and_runs_nothing_more():
    script = (
        "import atexit, sys; from orca_bench import child_processes; atexit.register(print, 'clean-up');"
        "print('output'); print('error', end='', file=sys.stderr); child_processes.end_at_once(3)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (3, "output\n", "error")
