"""The places of lm-eval's task files: from the cache they are those that lm-eval finds, and a changed file is seen."""

import shutil
from pathlib import Path

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex

from orca_bench.evaluate.harness import task_index


@pytest.fixture
def task_folder(tmp_path, monkeypatch):
    """A copy of some of lm-eval's task files in the place of all of them, and an empty cache."""
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lm_eval, "__file__", str(tmp_path / "lm_eval" / "__init__.py"))
    folder = tmp_path / "lm_eval" / "tasks"
    original_folder = Path(TaskManager.load.__code__.co_filename).parent
    for name in ("arc", "squadv2", "bbh/cot_fewshot"):
        shutil.copytree(original_folder / name, folder / name)
    return folder


def _fields(entry):
    return entry.name, entry.kind, entry.yaml_path, entry.tags


def test_the_entries_of_the_cache_are_those_of_lm_eval(task_folder, monkeypatch):
    expected = TaskIndex.build([task_folder])
    first = task_index._build_index([task_folder])
    monkeypatch.setattr(task_index, "_BUILD_INDEX", None)  # the second one reads no task file
    second = task_index._build_index([task_folder])
    for entry_by_name in (first, second):
        assert {name: _fields(entry) for name, entry in entry_by_name.items()} == {
            name: _fields(entry) for name, entry in expected.items()
        }
    assert second["ai2_arc"].tags == {"arc_easy", "arc_challenge"}


def test_a_task_file_that_is_new_or_changed_is_read(task_folder):
    task_index._build_index([task_folder])
    (task_folder / "arc" / "more.yaml").write_text("task: arc_more\ndataset_path: x\n", encoding="utf-8")
    assert "arc_more" in task_index._build_index([task_folder])


def test_a_cache_that_is_no_index_is_not_used(task_folder):
    task_index._build_index([task_folder])
    (cache_file,) = (task_folder.parents[1] / "cache").rglob("*.json")
    cache_file.write_text('{"arc_easy": 3}', encoding="utf-8")
    assert "squadv2" in task_index._build_index([task_folder])


def test_another_folder_is_read_as_it_is_and_replaces_names(task_folder, tmp_path):
    own_tasks = tmp_path / "own"
    own_tasks.mkdir()
    (own_tasks / "arc.yaml").write_text("task: arc_easy\ndataset_path: x\n", encoding="utf-8")
    with task_index.remember_task_files():
        entry = TaskManager(include_path=str(own_tasks), include_defaults=False).task_index["arc_easy"]
        assert entry.yaml_path == own_tasks / "arc.yaml"
    both = task_index._build_index([task_folder, own_tasks])
    assert both["arc_easy"].yaml_path == own_tasks / "arc.yaml" and both["squadv2"].yaml_path.is_file()


def test_lm_eval_builds_its_index_by_the_name_that_is_patched(monkeypatch):
    calls = []
    monkeypatch.setattr(task_index, "_build_index", lambda paths, **options: calls.append(list(paths)) or {})
    with task_index.remember_task_files():
        TaskManager()
    assert calls == [[Path(lm_eval.__file__).parent / "tasks"]]
