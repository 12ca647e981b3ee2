"""Two logs of lm-eval over the same twelve invented tasks, made by lm-eval itself."""

import shutil

import lm_eval_logs
import pytest


@pytest.fixture(scope="session")
def lm_eval_output(tmp_path_factory):
    """The folder of `--output_path` with a run of each of two models: someone__first and someone__second."""
    folder = tmp_path_factory.mktemp("lm_eval")
    tasks = lm_eval_logs.write_tasks(folder / "tasks")
    for name in ("first", "second"):
        lm_eval_logs.write_log(tasks, folder / "output", name=name)
    return folder / "output"


@pytest.fixture
def lm_eval_copy(lm_eval_output, tmp_path):
    """A copy of the first model's folder, to be changed."""
    return shutil.copytree(lm_eval_output / "someone__first", tmp_path / "someone__first")


@pytest.fixture(scope="session")
def inspect_output(tmp_path_factory):
    """A folder with logs of two models of inspect_ai, all tasks as `.eval`; below it `json` with two tasks as `.json`."""
    inspect_logs = pytest.importorskip("inspect_logs")
    folder = tmp_path_factory.mktemp("inspect_logs")
    for name in ("a", "b"):
        inspect_logs.write_logs(folder, name, list(inspect_logs.TASKS))
        inspect_logs.write_logs(folder / "json", name, ["matched", "voted"], "json")
    return folder


@pytest.fixture
def inspect_copy(inspect_output, tmp_path):
    """A folder with copies of the first model's logs of a few tasks, by task."""

    def copy(*tasks):
        paths = []
        for task in tasks:
            source = sorted(inspect_output.glob(f"*_{task}_*.eval"))[0]
            paths.append(shutil.copy(source, tmp_path / source.name))
        return paths

    return copy
