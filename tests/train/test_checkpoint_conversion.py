"""The converter's processes end with the command that started them, and the next command does not meet what they left."""

import os
import subprocess
import sys

import pytest
from waiting import eventually

from orca_bench import child_processes, files
from orca_bench.errors import UserError
from orca_bench.train import checkpoint_conversion

#: Stands for DeepSpeed's converter, which is fast on small checkpoints: it writes, and its two workers take hours.
SLOW_CONVERTER = """
import pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

from orca_bench.train import checkpoint_converter

def convert(arguments):
    folder = pathlib.Path(sys.argv[sys.argv.index("--output_folder") + 1])
    (folder / "part").touch()
    list(ProcessPoolExecutor(2).map(time.sleep, [1e4, 1e4]))

slow = SimpleNamespace(parse_arguments=lambda: None, main=convert)
sys.modules["deepspeed.checkpoint"] = SimpleNamespace(ds_to_universal=slow)
checkpoint_converter.main()
"""
COMMAND = """
import os, pathlib, sys
from types import SimpleNamespace

from orca_bench.train import checkpoint_conversion

checkpoint_conversion.checkpoint_converter = SimpleNamespace(__name__="slow_converter")
folder = pathlib.Path(sys.argv[1])
checkpoint_conversion.convert_newest(folder, 2, folder / "log", "a test of conversion", os.environ)
"""


def test_after_a_kill_no_converter_is_left_and_the_next_one_has_a_folder_of_its_own(tmp_path):
    checkpoint = tmp_path / "step-00000002"
    checkpoint.mkdir()
    (checkpoint / "zero_pp_rank_0_mp_rank_00_optim_states.pt").touch()
    (tmp_path / "latest").write_text(checkpoint.name)
    (tmp_path / "slow_converter.py").write_text(SLOW_CONVERTER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path)], env=environment)
    try:
        eventually(lambda: len(process_ids()) == 3 or command.poll() is not None)
        [folder] = unfinished_folders(tmp_path)
        assert (folder / "part").exists()
    finally:
        command.kill()
        command.wait()
    eventually(lambda: not process_ids())
    with pytest.raises(UserError, match="the checkpoint of 1 process cannot be converted for 2 processes"):
        checkpoint_conversion.convert_newest(tmp_path, 2, tmp_path / "log", "a test of conversion", os.environ)
    assert str(folder) not in (tmp_path / "log").read_text()
    assert unfinished_folders(tmp_path) == [folder]  # the training that continues removes it before it converts
    files.remove_temporary_files(tmp_path)
    assert not unfinished_folders(tmp_path)


def process_ids():
    """The converter and its workers."""
    return child_processes.running_process_ids("a test of conversion")


def unfinished_folders(folder):
    """What is being converted."""
    return list(folder.glob(".step-00000002.*.converting.tmp"))
