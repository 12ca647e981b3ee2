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
