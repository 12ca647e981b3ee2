"""lm-eval's tasks by their names, over invented rows: tasks, groups, tags and classes; what cannot be had is named."""

from pathlib import Path

import lm_eval
import pytest
from harness_rows import write_rows
from lm_eval.tasks import TaskManager

from orca_bench.errors import UserError
from orca_bench.evaluate.harness.named_tasks import explained_rows, load_named_tasks

TASK_FILES = Path(lm_eval.__file__).parent / "tasks"


@pytest.fixture(scope="module")
def manager():
    """The manager of some of lm-eval's task files: reading all takes ten seconds."""
    names = ("arc", "mmlu/default", "squadv2", "wikitext", "winogrande", "gsm8k", "mmlu_pro", "truthfulqa")
    return TaskManager(include_path=[str(TASK_FILES / name) for name in names], include_defaults=False)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", ["arc_easy", "squadv2", "wikitext", "winogrande", "gsm8k_cot_self_consistency"])
def test_a_task_has_its_rows(manager, rows, name):
    named_tasks = load_named_tasks([name], rows, manager)
    assert list(named_tasks.tasks_by_name) == [name] and not named_tasks.groups_by_name
    assert len(named_tasks.tasks_by_name[name].eval_docs) == 8


def test_a_pattern_names_several_tasks_and_a_task_that_is_named_twice_is_one(manager, rows):
    named_tasks = load_named_tasks(["mmlu_a[ns][at]*", "mmlu_anatomy"], rows, manager)
    assert sorted(named_tasks.tasks_by_name) == ["mmlu_anatomy", "mmlu_astronomy"]


def test_a_group_has_its_structure(rows, tmp_path):
    (tmp_path / "pair.yaml").write_text(
        "group: pair\ntask: [mmlu_anatomy, mmlu_astronomy]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n",
        encoding="utf-8",
    )
    folders = [str(TASK_FILES / "mmlu/default"), str(tmp_path)]
    named_tasks = load_named_tasks(["pair"], rows, TaskManager(include_path=folders, include_defaults=False))
    assert list(named_tasks.groups_by_name) == ["pair"]
    assert named_tasks.child_names_by_group == {"pair": ["mmlu_anatomy", "mmlu_astronomy"]}
    assert named_tasks.as_task_dict()["group_map"] == named_tasks.child_names_by_group


def test_the_number_of_examples_is_set_as_lm_eval_sets_it(manager, rows):
    assert load_named_tasks(["arc_easy"], rows, manager).tasks_by_name["arc_easy"].config.num_fewshot == 0
    assert load_named_tasks(["arc_easy"], rows, manager, 3).tasks_by_name["arc_easy"].config.num_fewshot == 3


def test_a_name_that_lm_eval_does_not_have_gets_the_nearest(manager, rows):
    with pytest.raises(UserError, match=r"no task, group or tag 'arc_eazy'; did you mean 'arc_easy'"):
        load_named_tasks(["arc_eazy"], rows, manager)


def test_rows_that_cannot_be_had_are_named_with_task_splits_and_place(manager, rows):
    with pytest.raises(UserError, match=r"arc_challenge: .*ai2_arc \(ARC-Challenge\).*train, validation and test"):
        load_named_tasks(["arc_challenge"], rows, manager)


def test_a_task_that_lm_eval_cannot_build_is_an_error_in_one_line(rows, tmp_path):
    (tmp_path / "bad.yaml").write_text("task: bad\ndataset_path: baber/piqa\noutput_type: guess\n", encoding="utf-8")
    with pytest.raises(UserError, match="bad: lm-eval cannot build this task .*guess"):
        load_named_tasks(["bad"], rows, TaskManager(include_path=str(tmp_path), include_defaults=False))


def test_a_task_without_examples_needs_no_rows_for_them(manager, rows, tmp_path):
    import shutil

    from lm_eval.api.task import ConfigurableTask

    shutil.copytree(rows / "allenai/ai2_arc", tmp_path / "allenai/ai2_arc")
    for split in ("train", "validation"):
        (tmp_path / f"allenai/ai2_arc/ARC-Easy/{split}.jsonl").unlink()
    task = load_named_tasks(["arc_easy"], tmp_path, manager).tasks_by_name["arc_easy"]
    assert len(task.eval_docs) == 8 and task.config.num_fewshot == 0
    with pytest.raises(UserError, match="arc_easy: 2 examples are wanted, and .* has no rows of train and validation"):
        load_named_tasks(["arc_easy"], tmp_path, manager, 2)
    (tmp_path / "allenai/ai2_arc/ARC-Easy/test.jsonl").rename(tmp_path / "allenai/ai2_arc/ARC-Easy/train.jsonl")
    with pytest.raises(UserError, match="the split 'test' is missing"):
        load_named_tasks(["arc_easy"], tmp_path, manager)
    assert ConfigurableTask.set_config.__qualname__ == "Task.set_config"  # nothing stays patched


def test_a_metric_that_is_a_script_on_the_hub_is_named(manager, rows):
    task = load_named_tasks(["squadv2"], rows, manager).tasks_by_name["squadv2"]
    prediction = {"id": "1", "prediction_text": "a", "no_answer_probability": 0.0}
    with pytest.raises(UserError, match="the metric squad_v2 is a script on the hub"), explained_rows(rows):
        task.aggregation()["exact"]([(prediction, {"id": "1", "answers": {"text": ["a"], "answer_start": [0]}})])
    with pytest.raises(FileNotFoundError), explained_rows(rows):
        raise FileNotFoundError("other")


def test_rows_of_another_schema_are_named_with_their_columns(manager, tmp_path):
    for split in ("train", "validation", "test"):
        file = tmp_path / f"allenai/ai2_arc/ARC-Easy/{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"foo": 1}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"arc_easy: lm-eval cannot build this.*ai2_arc.*has the columns foo") as error:
        load_named_tasks(["arc_easy"], tmp_path, manager)
    assert "0x" not in str(error.value)


def test_a_module_and_a_metric_that_are_not_there_are_named_with_the_task(rows, tmp_path):
    common = "dataset_path: baber/piqa\nvalidation_split: validation\noutput_type: generate_until\ndoc_to_text: goal\n"
    (tmp_path / "a.yaml").write_text(f"task: no_module\n{common}doc_to_target: !function nowhere.f\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text(
        f"task: no_metric\n{common}doc_to_target: sol1\n"
        "metric_list: [{metric: unheard, aggregation: mean, higher_is_better: true}]\n",
        encoding="utf-8",
    )
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    with pytest.raises(UserError, match="no_module: lm-eval cannot build this task .*nowhere"):
        load_named_tasks(["no_module"], rows, manager)
    with pytest.raises(UserError, match="no_metric: the metric unheard cannot be had"):
        load_named_tasks(["no_metric"], rows, manager)
