"""The facts of the suite stand once, and a new task needs an entry there and a module in evaluate/tasks, nothing else."""

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from orca_bench import suite
from orca_bench.errors import UserError
from orca_bench.evaluate import protocols, tasks
from orca_bench.evaluate.tasks import GENERATION_TASKS, SUITE
from orca_bench.evaluate.tasks.task import ChoiceTask, GenerationTask
from orca_bench.report.reported_scores import read_reported_scores

PACKAGE = Path(suite.__file__).parent
#: Modules of evaluate/tasks that are no task.
HELPERS = {"task", "final_answer"}
#: What may speak of a task by its name: the facts, the tasks, the mini suite's own rows, and the picture of MMLU's subjects.
SPEAKS_OF_A_TASK = ("suite.py", "evaluate/tasks/", "mini/", "report/pictures/subjects.py")


def test_the_tasks_are_those_of_the_suite_in_its_order():
    assert [task.facts for task in SUITE] == list(suite.ALL_TASKS)
    reported = read_reported_scores().tasks  # a task of our own has no reported score
    assert list(reported) == [task.name for task in suite.ALL_TASKS if task.name in reported]


def test_each_task_has_a_module_of_its_name_and_no_module_is_left_over():
    modules = {module.name for module in pkgutil.iter_modules(tasks.__path__)} - HELPERS
    assert modules == {task.name for task in suite.ALL_TASKS}
    assert all(type(task).__module__ == f"{tasks.__name__}.{task.name}" for task in SUITE)


def test_each_task_has_choices_or_texts_with_the_rules_of_both_protocols():
    assert all(isinstance(task, ChoiceTask) != isinstance(task, GenerationTask) for task in SUITE)
    for task in GENERATION_TASKS:
        assert (
            task.leaderboard_text_rules.stop_strings
            and task.orca_text_rules.stop_strings
            and task.orca_text_rules.scoring_description
        )
        for name in (*protocols.REQUEST_PROTOCOLS, "plain"):
            assert protocols.default_token_limits(name)[task.name] > 0


def _names_in_code(path: Path) -> set[str]:
    """The names of tasks that stand as texts of their own in the code of a file, docstrings apart."""
    texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str)} & set(suite.TASK_BY_NAME)


def test_no_other_module_knows_a_task_by_its_name():
    files = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    others = {name: path for name, path in files.items() if not name.startswith(SPEAKS_OF_A_TASK)}
    assert {name: names for name, path in others.items() if (names := _names_in_code(path))} == {}


def test_sizes_and_hashes_are_those_of_the_splits_that_a_task_uses():
    for task in suite.ALL_TASKS:
        splits = {task.evaluation_split, task.few_shot_split} - {None}
        assert set(task.row_count_by_split) == splits and set(task.true_row_hash_by_split) <= splits
        assert all(len(digest) == 64 for digest in task.true_row_hash_by_split.values())
        assert (task.few_shot_split is None) == (task.shots == 0)


def test_names_and_aliases_are_of_one_task_each():
    names = [name for task in suite.ALL_TASKS for name in (task.name, *task.aliases)]
    assert len(names) == len(set(names))
    for task in suite.ALL_TASKS:
        for name in (task.name, *task.aliases):
            assert [selected.facts for selected in tasks.select(name)] == [task]


def test_every_part_of_a_result_is_of_a_task():
    for task in suite.ALL_TASKS:
        part = (
            task.part_of_subject("anatomy")
            if task.subject_column
            else task.harness_facts.harness_task_name
            if task.harness_facts
            else task.name
        )
        assert suite.task_name_of_part(part) == suite.task_name_of_part(task.name) == task.name
    assert suite.task_name_of_part("mmlu_anatomy") == "mmlu" and suite.MMLU.subject_of_part("mmlu_anatomy") == "anatomy"
    assert suite.task_name_of_part("truthfulqa_mc2") == "truthful_qa"  # as lm-eval calls it
    assert suite.task_name_of_part("poetry") == "poetry"  # outside the suite: a task of its own


@pytest.mark.parametrize("task", suite.ALL_TASKS, ids=lambda task: task.name)
def test_lm_eval_has_the_task_under_the_name_of_the_facts(task):
    lm_eval = pytest.importorskip("lm_eval")
    if task.harness_facts is None:
        pytest.skip("not for protocol plain")
    folder = Path(lm_eval.__file__).parent / "tasks" / task.harness_facts.task_folder
    definitions = [path.read_text() for path in folder.glob("*.yaml")]
    name = task.part_of_subject("anatomy") if task.subject_column else task.harness_facts.harness_task_name
    assert any(f"task: {name}" in text or f'"{name}"' in text for text in definitions)


def test_averages_are_of_tasks_of_the_suite():
    assert set(suite.AVERAGE_TITLE_BY_NAME) == set(suite.TASK_NAMES_BY_AVERAGE)
    assert all(set(names) <= set(suite.TASK_BY_NAME) for names in suite.TASK_NAMES_BY_AVERAGE.values())


@pytest.fixture(scope="module")
def invented(tmp_path_factory):
    """What became of two invented tasks, a choice task with subjects and a task of texts, by protocol."""
    script = Path(__file__).parent / "support" / "invented_tasks" / "whole_way.py"
    command = [sys.executable, script, tmp_path_factory.mktemp("invented")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("protocol", protocols.REQUEST_PROTOCOLS)
def test_an_added_task_is_evaluated_scored_and_verified(invented, protocol):
    entries = invented[protocol]["tasks"]  # all that the rows have; no other task of the suite is missed
    assert list(entries) == ["poetry", "riddles"]
    assert {name: entry["value"] for name, entry in entries["poetry"]["subjects"].items()} == {"x": 0, "y": 1}
    assert entries["poetry"]["value"] == 0.5 and entries["riddles"]["value"] == 1  # of poetry the mean of its subjects
    assert (
        invented[protocol]["protocol"]["max_new_tokens"]["riddles"]
        == {"leaderboard": 16, "orca": 32, "chat": 32}[protocol]
    )
    assert invented[protocol]["failures"] == []
    assert {"poetry", "riddles"} <= set(invented[protocol]["lines"])  # of the table


@pytest.mark.parametrize("protocol", protocols.REQUEST_PROTOCOLS)
def test_an_added_task_leaves_earlier_results_comparable(invented, protocol):
    assert invented[protocol]["reasons"] == []  # against gating with a baseline of an earlier program
    assert invented[protocol]["merged"] == ["poetry", "riddles"]  # into one file, nothing is renamed
    assert "Poetry of the same setting" in "".join(invented[protocol]["notes"])


def test_protocol_plain_and_cards_need_entries_of_their_own(invented):
    assert all("lm-eval has no task for" in refusal for refusal in invented["plain"])
    assert invented["card"] == ["GSM8k (5-shot)"]


@pytest.mark.parametrize("task", suite.ALL_TASKS, ids=lambda task: task.name)
def test_a_task_has_its_name_its_title_and_its_aliases_in_any_capitals(task):
    for name in (task.name, task.title, *task.aliases):
        for spelling in (name, name.upper(), name.replace("_", "-")):
            assert suite.task_facts(spelling, "--tasks") is task


def test_a_name_that_no_task_has_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"--tasks: unknown task 'Helaswag'; did you mean 'hellaswag'"):
        suite.task_facts("Helaswag", "--tasks")
