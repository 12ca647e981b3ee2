"""A training on two machines: the same losses as on one, and an end within seconds where a machine or the network is lost.

The machines are network namespaces; what needs one machine only is in test_peer_watch.py, test_process_comparison.py and
test_launcher_ranks.py.
"""

import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import network_nodes
import pytest
from waiting import PATIENCE_S, eventually

from orca_bench.child_processes import find_free_port
from orca_bench.train.run_folder import Run

ROOT = Path(__file__).resolve().parents[2]
#: More steps than are trained until a machine is lost.
LONG = ("-o", "train.epochs=12", "-o", "train.export_every=null")
MOST_SECONDS_TO_END = 30.0
#: Run by Python at its start: a clock that is a day fast.
FAST_CLOCK = "import time\n_right = time.time\ntime.time = lambda: _right() + 86400\n"


@pytest.fixture
def nodes():
    if missing_needs := network_nodes.missing_needs():
        pytest.skip(missing_needs)
    nodes = network_nodes.create_nodes()
    yield nodes
    for node in nodes:
        node.remove()


@pytest.fixture
def train(nodes, orca, tmp_path):
    """`train(name, *words)`: the commands on both machines. The second one has no records, and its clock is a day fast."""
    second_folder, clock_folder = tmp_path / "second", tmp_path / "clock"
    for folder in (second_folder, clock_folder):
        folder.mkdir()
    shutil.copy(orca.folder / "r.yaml", second_folder)
    (clock_folder / "sitecustomize.py").write_text(FAST_CLOCK)

    def start(name, *words):
        port = find_free_port()
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--master-addr", nodes[0].address, "--master-port", port]
        command = ["-m", "orca_bench", "train", "r.yaml", "--runs", orca.folder / "runs", "-o", f"name={name}", *words]
        python_paths = (str(ROOT), f"{clock_folder}{os.pathsep}{ROOT}")
        return [
            node.start([*torchrun, "--node-rank", number, *command], folder, {"PYTHONPATH": python_path})
            for number, (node, folder, python_path) in enumerate(
                zip(nodes, (orca.folder, second_folder), python_paths, strict=True)
            )
        ]

    return start


def losses(run):
    return {line["step"]: line["loss"] for line in map(json.loads, run.metrics_file.read_text().splitlines())}


def finish(commands):
    """Wait for commands that are to succeed; what they wrote."""
    outputs = [command.communicate(timeout=PATIENCE_S) for command in commands]
    assert [command.returncode for command in commands] == [0, 0], outputs
    return outputs


def seconds_to_end(command, start_s):
    """Wait for a command that is to fail; the seconds from `start_s` to orca-bench's last line, and all its lines of errors.

    torchrun, which has its own report to write, ends later.
    """
    lines, seconds = [], 0.0
    for line in command.stderr:
        if line.startswith(("failed: ", "error: ")):
            lines.append(line)
            seconds = time.monotonic() - start_s
    assert command.wait(PATIENCE_S) == 1, lines
    return seconds, lines


def test_two_machines_give_the_losses_of_one(orca, train):
    outputs = finish(train("apart"))
    assert "trained: " in outputs[0][0] and outputs[1][0] == ""
    assert orca("train", "r.yaml", "-o", "name=together").returncode == 0
    apart, together = (losses(Run(orca.folder / "runs" / name)) for name in ("apart", "together"))
    print("largest difference of the losses:", max(abs(apart[step] - together[step]) for step in together))
    assert apart == pytest.approx(together, abs=1e-6)


def started(commands, run):
    """Wait until two machines have trained past a checkpoint."""
    eventually(lambda: any(c.poll() is not None for c in commands) or (run.checkpoints_folder / "latest").is_file())
    assert [command.poll() for command in commands] == [None, None], [c.communicate() for c in commands]


@pytest.mark.slow
def test_a_machine_that_goes_down_is_named_by_the_other_and_the_run_goes_on(orca, nodes, train):
    run = Run(orca.folder / "runs" / "down")
    commands = train("down", *LONG)
    started(commands, run)
    start_s = time.monotonic()
    nodes[1].kill_all()
    seconds, lines = seconds_to_end(commands[0], start_s)
    print("seconds until the other machine ended:", seconds)
    assert seconds < MOST_SECONDS_TO_END
    assert len(lines) == 1 and lines[0].startswith("failed: rank 1 on node-1 was lost: it was killed"), lines
    assert Run(run.folder).status == "failed"
    commands[1].communicate()
    outputs = finish(train("down", *LONG, "-o", "train.checkpoint_every=1000"))
    assert "continuing from step " in outputs[0][0]
    assert list(losses(run)) == list(range(1, len(losses(run)) + 1))


@pytest.mark.slow
def test_a_link_that_is_cut_ends_both_machines(orca, nodes, train):
    run = Run(orca.folder / "runs" / "cut")
    commands = train("cut", *LONG)
    started(commands, run)
    start_s = time.monotonic()
    nodes[1].set_link("down")
    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(seconds_to_end, commands, [start_s] * 2))
    for number, (seconds, lines) in enumerate(ends):
        print("seconds until machine", number, "ended:", seconds, lines)
        assert seconds < MOST_SECONDS_TO_END
        other = 1 - number
        assert len(lines) == 1 and lines[0].startswith(
            f"failed: rank {other} on node-{other} was lost: no answer for 12 s"
        )
