"""Records to a model: `prepare` a run from a recipe, then `launch` the processes that train it."""

from orca_bench.train.run_setup import PreparedRun, describe, launch, prepare

__all__ = ["PreparedRun", "describe", "launch", "prepare"]
