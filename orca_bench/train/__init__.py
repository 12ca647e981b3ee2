"""Records to a model: `prepare_run_folder` a run from a recipe, then `launch_training` the processes that train it."""

from orca_bench.train.run_setup import PreparedRun, compute_prepared_run, launch_training, prepare_run_folder

__all__ = ["PreparedRun", "compute_prepared_run", "launch_training", "prepare_run_folder"]
