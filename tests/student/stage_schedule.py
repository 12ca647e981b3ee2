"""Stages that are to run in, the minutes until all of them are done out, where some run at the same time.

Its own module because both the list and the plan of run_stages.py say it before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from stage_list import Stage, StageList


def scheduled_minutes(stages: Sequence[Stage], stage_list: StageList, max_running: int) -> float:
    """The minutes of all stages, at most `max_running` at a time, where each takes its `minutes` whatever runs beside it.

    They begin as concurrent_stages.py lets them: in the order of the list, each as soon as those that it needs are done and a
    place is free (list scheduling, Graham 1966, Bell Syst. Tech. J. 45:1563).
    """
    waiting, end_by_name, minutes = list(stages), dict[str, float](), 0.0
    while waiting:
        open_names = {stage.name for stage in waiting} | end_by_name.keys()
        for stage in list(waiting):
            if len(end_by_name) < max_running and not stage_list.giver_names(stage) & open_names:
                waiting.remove(stage)
                end_by_name[stage.name] = minutes + stage.minutes
        minutes = min(end_by_name.values())
        if waiting:
            end_by_name = {name: end for name, end in end_by_name.items() if end > minutes}
    return max(end_by_name.values(), default=minutes)
