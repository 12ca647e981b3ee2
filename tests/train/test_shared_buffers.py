"""DeepSpeed's shared memory has no name once every rank has it open, and is still what the ranks reduce by."""

import os
import subprocess
import sys

_PROGRAM = """
import deepspeed
import torch

from orca_bench.train.shared_buffers import buffer_path, remove_buffer_name

deepspeed.init_distributed(dist_backend="gloo")
rank = torch.distributed.get_rank()
path = buffer_path(rank)
was_there = path.is_file()
remove_buffer_name()
numbers = torch.full((1000,), rank + 1.0)
deepspeed.comm.inference_all_reduce(numbers)
print("RANK", rank, was_there, path.exists(), numbers.unique().tolist(), flush=True)
torch.distributed.barrier()
"""


def test_the_file_of_each_rank_is_removed_and_its_memory_stays(tmp_path):
    (tmp_path / "program.py").write_text(_PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"LOCAL_SIZE": "2"}  # as DeepSpeed's launcher sets it
    process = subprocess.run(
        [*command, str(tmp_path / "program.py")], env=environment, capture_output=True, text=True, timeout=500
    )
    lines = sorted(line for line in process.stdout.splitlines() if line.startswith("RANK"))
    assert lines == ["RANK 0 True False [3.0]", "RANK 1 True False [3.0]"], process.stdout + process.stderr[-2000:]
