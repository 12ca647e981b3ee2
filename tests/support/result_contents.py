"""The JSON of small results, for tests of tables that need no questions."""

from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.report.result_selection import result_labels
from orca_bench.report.score_table import build_score_table
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result
from orca_bench.suite import TASK_BY_NAME


def result_content(comparable=True, limit=None, protocol="orca", names=tuple(TASK_BY_NAME), value=0.5):
    """The JSON of a result of format 1 in which every task has the same value."""
    tasks = {
        n: {
            "title": TASK_BY_NAME[n].title,
            "metric": "acc",
            "value": value,
            "stderr": 0.01,
            "n": 100,
            "rows": 100,
            "full_size": 100,
        }
        for n in names
    }
    whole = {"value": value, "stderr": 0.004} if len(names) == 7 else {"value": None, "stderr": None}
    return {
        "format": "orca-bench result 1",
        "complete": True,
        "suite": {"name": "open-llm-leaderboard-v1" if comparable else "mini", "comparable": comparable},
        "protocol": {"name": protocol},
        "model": {"name": "m"},
        "limit": limit,
        "tasks": tasks,
        "averages": {"all seven": whole, "six without DROP": whole},
    }


def score_table(*contents):
    """The table of some results, each the JSON content of its file."""
    results = [migrate_result(Result.from_file_content(content)) for content in contents]
    return build_score_table(list(zip(result_labels(results), results, strict=True)), read_reported_scores())
