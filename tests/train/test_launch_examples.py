"""The commands of train/README.md for several machines start one training, here on one machine with an imitated Slurm."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from orca_bench.child_processes import find_free_port
from orca_bench.train.run_folder import Run

DOCUMENT = Path(__file__).resolve().parents[2] / "orca_bench/train/README.md"
#: Starts its command once for each of two machines, as `srun` with one task on each.
SRUN = """#!/bin/sh
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@"
code=$?
wait $first && exit $code
"""
SCONTROL = """#!/bin/sh
test "$*" = "show hostnames nodes-[0-1]" && echo 127.0.0.1 && echo nodes-1
"""


def example(first_words, name):
    """The block of the document that begins so, for a small recipe and two processes on this machine."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(first_words)]
    changes = {"recipes/13b.yaml": f"r.yaml -o name={name}", "-o train.processes=16 -o train.micro_batch=1": ""}
    changes |= {"--nproc-per-node 8": "--nproc-per-node 1", "10.0.0.1": "127.0.0.1", "29500": str(find_free_port())}
    for written_text, new_text in changes.items():
        assert written_text in block or written_text == "10.0.0.1" or "--nproc" in written_text
        block = block.replace(written_text, new_text)
    return block


def run_all(commands, folder, **environment):
    """Start commands at the same time; all must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DS_ACCELERATOR": "cpu"} | environment
    processes = [
        subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words in commands
    ]
    outputs = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs


def step_count(folder, name):
    run = Run(folder / "runs" / name)
    assert run.status == "finished"
    return len([json.loads(line) for line in run.metrics_file.read_text().splitlines()])


@pytest.mark.parametrize(
    ("first_words", "name"),
    [
        pytest.param("torchrun --nnodes", "torchrun", marks=pytest.mark.long),
        pytest.param("deepspeed --no_ssh", "deepspeed", marks=pytest.mark.slow),
    ],
)
def test_the_launchers_command_on_two_machines_trains_one_model(orca, first_words, name):
    (orca.folder / "hosts").write_text("node-0 slots=1\nnode-1 slots=1\n")
    text = example(first_words, name)
    words_by_machine = [
        shlex.split(re.sub("rank N ", f"rank {number} ", text).replace("\\\n", "")) for number in (0, 1)
    ]
    run_all(words_by_machine, orca.folder)
    assert step_count(orca.folder, name) == 12


def test_the_script_for_slurm_trains_one_model(orca, tmp_path):
    for program, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / program).write_text(text)
        (tmp_path / program).chmod(0o755)
    script = example("#!/bin/bash\n#SBATCH", "slurm")
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    slurm = {"PATH": path, "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "nodes-[0-1]"}
    run_all([["bash", "-c", script]], orca.folder, **slurm)
    assert step_count(orca.folder, "slurm") == 12
