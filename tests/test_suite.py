"""The facts of the suite stand once, and every part that needs them reads them there."""

from orca_bench import suite
from orca_bench.evaluate.tasks import SUITE
from orca_bench.report.reported_scores import read_reported_scores


def test_the_tasks_are_those_of_the_suite_in_its_order():
    assert [task.facts for task in SUITE] == list(suite.TASKS)
    assert list(read_reported_scores().tasks) == [task.name for task in suite.TASKS]


def test_sizes_and_hashes_are_those_of_the_splits_that_a_task_uses():
    for task in suite.TASKS:
        splits = {task.split, task.few_shot_split} - {None}
        assert set(task.sizes) == splits and set(task.true_rows) <= splits
        assert all(len(digest) == 64 for digest in task.true_rows.values())
        assert (task.few_shot_split is None) == (task.shots == 0)


def test_every_part_of_a_result_is_of_a_task():
    assert {suite.task_of(part) for part in ("mmlu_anatomy", "mmlu")} == {"mmlu"}
    assert suite.task_of("truthfulqa_mc2") == "truthful_qa"  # as lm-eval calls it
