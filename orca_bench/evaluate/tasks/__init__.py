"""The seven tasks of Open LLM Leaderboard v1, in its order."""

from orca_bench.errors import UserError, nearest
from orca_bench.evaluate.tasks.arc_challenge import ArcChallenge
from orca_bench.evaluate.tasks.drop import Drop
from orca_bench.evaluate.tasks.gsm8k import Gsm8k
from orca_bench.evaluate.tasks.hellaswag import HellaSwag
from orca_bench.evaluate.tasks.mmlu import Mmlu
from orca_bench.evaluate.tasks.task import Score, Task
from orca_bench.evaluate.tasks.truthful_qa import TruthfulQa
from orca_bench.evaluate.tasks.winogrande import Winogrande

SUITE: tuple[Task, ...] = (ArcChallenge(), HellaSwag(), Mmlu(), TruthfulQa(), Winogrande(), Gsm8k(), Drop())

_ALIASES = {"arc": "arc_challenge", "truthfulqa": "truthful_qa", "truthfulqa_mc2": "truthful_qa"}

__all__ = ["SUITE", "Score", "Task", "select"]


def select(names: str) -> list[Task]:
    """The tasks of a comma-separated list, in the suite's order; `all` is all seven. Raises UserError for other names."""
    known = {task.name: task for task in SUITE}
    wanted = {_ALIASES.get(name.strip(), name.strip()) for name in names.split(",") if name.strip()}
    if not wanted:
        raise UserError("no task named", where="--tasks", hint=f"all, or some of {', '.join(known)}")
    if "all" in wanted:
        wanted = set(known)
    for name in sorted(wanted - set(known)):
        hint = nearest(name, [*known, *_ALIASES]) or f"tasks are {', '.join(known)}"
        raise UserError(f"unknown task '{name}'", where="--tasks", hint=hint)
    return [task for task in SUITE if task.name in wanted]
