"""DeepSpeed's converter of checkpoints as a process that ends with the command: `python -m` this module, with its arguments.

Its own module because it is a process of its own: the converter starts workers by fork, and these have to end too.
"""

from __future__ import annotations

import multiprocessing
import os

from orca_bench import child_processes


def main() -> None:
    """Convert as the arguments of the command line say, which are those of deepspeed.checkpoint.ds_to_universal."""
    child_processes.end_with_command()
    multiprocessing.set_start_method("fork")  # what deepspeed 0.19.8 gets from Python 3.11 to 3.13 by default
    os.register_at_fork(after_in_child=child_processes.end_with_command)
    from deepspeed.checkpoint import ds_to_universal

    ds_to_universal.main(ds_to_universal.parse_arguments())


if __name__ == "__main__":
    main()
